"""The winner of the architectures as a registered model: loaded without raydistill's code and without unpickling."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from raydistill.artifacts import COMPLETED, Unit
from raydistill.data.images import Normaliser
from raydistill.evaluate import trained
from raydistill.models import build
from raydistill.track import Tracking

NORMALISER = Normaliser(mean=(0.3,), std=(0.4,))
SHAPE = (1, 8, 8)


def confirmed(run: Path, network: str, **metrics: float) -> torch.nn.Module:
    unit = Unit(run / "units" / "confirm" / network)
    unit.begin("f", {"network": network}, {})
    net = build(network, SHAPE, 3, seed=1)
    about = {"network": network, "shape": list(SHAPE), "classes": ["a", "b", "c"]}
    trained.save(unit.directory / "network", net, NORMALISER, about)
    unit.finish(COMPLETED, {"val_accuracy": 0.9} | metrics, network=network, epochs=1, workers=1, seconds=1.0, flops=1)
    return net.eval()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_winner_is_registered_once_and_answers_as_trained(run: Path, tracking: Callable[..., Tracking]) -> None:
    import mlflow
    from mlflow import MlflowClient

    confirmed(run, "ConvNetD1")
    net = confirmed(run, "ConvNetD2", test_accuracy=0.875)
    confirmed(run, "ConvNetD3", val_accuracy=0.8, test_accuracy=0.99)  # the winner before more were confirmed
    Unit(run / "units" / "distill" / "final").begin("g", {}, {})
    assert tracking().sync().delivered
    assert tracking().sync().delivered  # another start
    uri = tracking().tracking_uri
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    (version,) = client.search_model_versions("name = 'quick'")
    assert version.tags["raydistill.network"] == "ConvNetD2"
    assert version.tags["raydistill.test_accuracy"] == "0.875"
    assert version.tags["raydistill.distilled_set"].startswith("runs:/")
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    model = mlflow.pytorch.load_model(f"models:/quick/{version.version}")
    pixels = np.random.default_rng(0).random((5, *SHAPE), dtype=np.float32)
    with torch.inference_mode():
        expected = net(NORMALISER.encode(torch.from_numpy(pixels)))
        answer = (model.module() if hasattr(model, "module") else model)(torch.from_numpy(pixels))
    torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-5)
    served = mlflow.pyfunc.load_model(f"models:/quick/{version.version}").predict(pixels)
    np.testing.assert_allclose(served, expected.numpy(), rtol=1e-4, atol=1e-5)
