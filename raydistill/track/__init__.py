"""Recording: the console, and MLflow as a projection of the run folder."""

from raydistill.track.sinks import Progress as Progress
from raydistill.track.to_mlflow import ui_command as ui_command
from raydistill.track.tracking import Delivery as Delivery
from raydistill.track.tracking import Tracking as Tracking
