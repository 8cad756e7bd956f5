"""Run folders as work units leave them, and MLflow stores to compare with."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from raydistill.artifacts import COMPLETED, Unit
from raydistill.track import Tracking
from raydistill.track.to_mlflow import ENVIRONMENT, embedded_uri

os.environ.update(ENVIRONMENT)  # before MLflow is imported here

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Run


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables, made once because that takes seconds."""
    run = tmp_path_factory.mktemp("store")
    assert Tracking(run, run_key="empty", experiment="Default").sync().delivered
    return run / "mlflow.db"


@pytest.fixture
def run(tmp_path: Path, empty_store: Path) -> Path:
    """An empty run folder; its name has a space, as users' folders do."""
    folder = tmp_path / "runs here" / "quick"
    folder.mkdir(parents=True)
    # The copied store already holds a foreign parent run, which must be left alone.
    shutil.copy(empty_store, folder / "mlflow.db")
    return folder


@pytest.fixture
def tracking(run: Path) -> Callable[..., Tracking]:
    """Makes a Tracking of ``run``, as one more start of the program would."""

    def make(**changes: object) -> Tracking:
        settings: dict[str, object] = {
            "run_key": "key-1",
            "experiment": "quick",
            "params": {"distill.lr_img": 0.1, "seed": 3},
            "tags": {"method": "DataDAM"},
        }
        return Tracking(run, **(settings | changes))  # type: ignore[arg-type]

    return make


class Seen:
    """What an MLflow store holds of one experiment."""

    def __init__(self, uri: str, experiment: str = "quick") -> None:
        self.client = MlflowClient(tracking_uri=uri)
        found = self.client.get_experiment_by_name(experiment)
        self.runs: list[Run] = list(self.client.search_runs([found.experiment_id])) if found else []

    @property
    def parent(self) -> Run:
        """The only run of the search."""
        (parent,) = [r for r in self.runs if "raydistill.run" in r.data.tags]
        return parent

    def child(self, unit: str) -> Run:
        """The only run of a unit."""
        (child,) = [r for r in self.runs if r.data.tags.get("raydistill.unit") == unit]
        assert child.data.tags["mlflow.parentRunId"] == self.parent.info.run_id
        return child

    def steps(self, unit: str, metric: str = "loss") -> list[int]:
        """The steps of a metric in the order of their storing, repeats included."""
        return [m.step for m in self.client.get_metric_history(self.child(unit).info.run_id, metric)]

    def values(self, unit: str, metric: str) -> dict[int, float]:
        """Step → value."""
        return {m.step: m.value for m in self.client.get_metric_history(self.child(unit).info.run_id, metric)}

    def statuses(self) -> dict[str, str]:
        """Unit (``""`` for the parent) → MLflow status."""
        return {r.data.tags.get("raydistill.unit", ""): r.info.status for r in self.runs}

    def inputs(self) -> list[DatasetInput]:
        """Datasets of the parent run."""
        noted = self.client.get_run(self.parent.info.run_id).inputs
        return list(noted.dataset_inputs) if noted else []

    def files(self, run: Run) -> set[str]:
        """Paths of all artefacts of a run."""
        found, folders = set(), [""]
        while folders:
            for item in self.client.list_artifacts(run.info.run_id, folders.pop() or None):
                folders.append(item.path) if item.is_dir else found.add(item.path)
        return found


@pytest.fixture
def seen(run: Path) -> Callable[[], Seen]:
    """Looks into the store of ``run``."""
    return lambda: Seen(embedded_uri(run))


def begin(run: Path, number: int, **params: float) -> Unit:
    """A trial that has begun."""
    unit = Unit(run / "units" / "trial" / f"{number:04d}")
    unit.begin(f"print-{number}", {"distill.lr_img": 0.1 * number, **params}, {"method": "DataDAM"})
    return unit


def log(unit: Unit, steps: range) -> None:
    """Losses over ``steps``, and a validation accuracy at every fifth, in a line of its own as rungs are written."""
    for step in steps:
        unit.log(step, {"loss": 1 / (1 + step), "seconds": 0.5 * step})
        if step % 5 == 0:
            unit.log(step, {"val_accuracy": step / 100})


def trial(run: Path, number: int, steps: int = 10, status: str = COMPLETED, **details: object) -> Unit:
    """A finished trial with steps 1 … ``steps``."""
    unit = begin(run, number)
    log(unit, range(1, steps + 1))
    unit.finish(status, {"val_accuracy": steps // 5 * 5 / 100}, step=steps, **details)
    return unit
