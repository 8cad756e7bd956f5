"""Fixtures for all tests: small images, and where real MNIST lies."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from raydistill.data.images import ImageSet
from raydistill.data.load import DataConfig, TrainData, load_train
from raydistill.runtime.on_ray import compiled

torch.set_num_threads(1)
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 leaves its workers next to nothing beside another test
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None) and not compiled():
    # Else each of the tests' many processes compiles all that it imports anew.
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: their waiting then overlaps with the computing of the others, and none comes at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def tiny_images() -> ImageSet:
    """3 classes × 20 images of 1×8×8, in mixed order: a bright bar at a place of the class's own, in noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(60, dtype=np.int64) % 3
    images = rng.integers(0, 80, (60, 1, 8, 8), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, :, 1 + 2 * label : 3 + 2 * label] += 150
    return ImageSet(images, labels, ("left", "middle", "right"))


@pytest.fixture(scope="session")
def digits_data() -> TrainData:
    """The 8×8 digits, split as by default."""
    return load_train(DataConfig(source="digits"))


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The data root with real MNIST; the test is skipped where there is none."""
    roots = [Path(os.environ.get("RAYDISTILL_DATA") or "."), Path(__file__).parents[2] / "shared" / "data"]
    for root in roots:
        if all((root / f"MNIST/raw/{part}-images-idx3-ubyte").is_file() for part in ("train", "t10k")):
            return root
    pytest.skip("needs real MNIST: set RAYDISTILL_DATA to a folder with MNIST/raw/*-ubyte")
