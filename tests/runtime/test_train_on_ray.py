"""One network trained by processes of a Ray cluster, beside the same in this process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from raydistill.artifacts import Unit
from raydistill.data.images import Normaliser
from raydistill.data.load import TrainData
from raydistill.errors import ConfigError
from raydistill.evaluate import trained
from raydistill.evaluate.protocol import Protocol
from raydistill.nas.confirm import train_full
from raydistill.runtime.on_ray import OnRay
from raydistill.runtime.train_on_ray import train_together
from tests.distill import small
from tests.runtime import work

pytestmark = [pytest.mark.timeout(900), pytest.mark.ray]

TRAIN = small.images(60)
DATA = TrainData(TRAIN, small.images(30, stream=5), Normaliser.fit(TRAIN.images), None)
NETWORK = "ConvNet-D1-W8-instance-relu-avg"


def shared(directory: Path) -> dict[str, Any]:
    protocol = Protocol(epochs=3, batch=20, lr=0.05, augment="none")
    about = {"data": DATA, "network": NETWORK, "protocol": protocol, "seed": 3, "fingerprint": "f"}
    return {**about, "directory": str(directory)}


def together(
    on_ray: OnRay,
    directory: Path,
    given: Mapping[str, Any],
    function: Any = train_full,
    workers: int = 1,
    failures: int = 1,
) -> None:
    train_together(on_ray, function, given, workers=workers, cpus=1, gpus=0, directory=directory, max_failures=failures)


def parameters(directory: Path) -> dict[str, torch.Tensor]:
    return dict(trained.load(directory / "network").net.state_dict())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training in this process."""
    directory = tmp_path_factory.mktemp("alone")
    train_full(**shared(directory))
    return directory


def test_one_worker_that_is_killed_ends_with_the_bytes_of_this_process(
    on_ray: OnRay, alone: Path, tmp_path: Path
) -> None:
    together(on_ray, tmp_path, {**shared(tmp_path), "at": 2}, work.train_and_die)
    assert (tmp_path / "died").exists()
    files = [folder / "network" / "tensors.safetensors" for folder in (alone, tmp_path)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert [line["step"] for line in Unit(tmp_path).history()] == [1, 2, 3, 4]
    assert not list(tmp_path.glob("ray_train*"))


@pytest.mark.parametrize("workers", [2, 3])  # of three there is room for two
def test_two_workers_train_what_one_does(workers: int, on_ray: OnRay, alone: Path, tmp_path: Path) -> None:
    together(on_ray, tmp_path, shared(tmp_path), workers=workers)
    assert trained.load(tmp_path / "network").manifest["workers"] == 2
    for name, expected in parameters(alone).items():
        torch.testing.assert_close(parameters(tmp_path)[name], expected, rtol=1e-3, atol=1e-5)


def test_what_goes_wrong_is_said_in_one_line(on_ray: OnRay, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too small; use 3"):
        together(on_ray, tmp_path, {"x": 1}, work.refuse_together, failures=0)
