"""A small distillation: three easy classes of 8×8 images and a narrow network."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from raydistill.data.images import DeviceImages, ImageSet, Normaliser
from raydistill.data.load import TrainData
from raydistill.distill.datadam import DataDAM, DataDAMConfig
from raydistill.distill.initialise import initial_images, labels_of
from raydistill.distill.pad import PAD, PADConfig
from raydistill.experts import trajectory
from raydistill.experts.trajectory import ExpertConfig, Place, Trajectory
from raydistill.models import ConvNet, convnet_config
from raydistill.models.fit import Recipe

CLASSES = ("left", "middle", "right")


def images(count: int = 36, stream: int = 0) -> ImageSet:
    """``count`` images of 1×8×8 in mixed order: a bright bar at the class's own place, in noise."""
    rng = np.random.default_rng(stream)
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    pixels = rng.integers(0, 80, (count, 1, 8, 8), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[0, :, 1 + 2 * label : 3 + 2 * label] += 150
    return ImageSet(pixels, labels, CLASSES)


def real(count: int = 36) -> DeviceImages:
    made = images(count)
    return DeviceImages(made, Normaliser.fit(made.images))


def network(name: str, seed: int) -> nn.Module:
    """The named ConvNet, but with two blocks of eight channels."""
    config = convnet_config(name)
    assert config is not None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return ConvNet(config.override({"depth": 2, "width": 8}), (1, 8, 8), len(CLASSES))


def datadam(data: DeviceImages | None = None, seed: int = 0, **settings: Any) -> DataDAM:
    """A DataDAM distillation under way, from noise."""
    data = data or real()
    config = DataDAMConfig(**{"ipc": 2, "init": "noise", "batch_real": 6, "lr_img": 0.5, **settings})
    start = initial_images("noise", data, config.ipc, config.factor, seed, None)
    labels = labels_of(len(CLASSES), config.ipc)
    return DataDAM(config, data, start, labels, lambda s: network(config.network, s), seed)


def data() -> TrainData:
    """The same images, split as a search sees them."""
    train = images()
    return TrainData(train, images(9, stream=1), Normaliser.fit(train.images))


EXPERTS = ExpertConfig(
    count=2, epoch_steps=3, recipe=Recipe(batch=12, lr=0.1, momentum=0, weight_decay=0, augment="none")
)


@functools.lru_cache
def experts() -> list[Trajectory]:
    """Two trajectories of five epochs of the network above."""
    folder = Path(tempfile.mkdtemp(prefix="small-experts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with mock.patch.object(trajectory, "build", lambda name, shape, classes, seed, device: network(name, seed)):
        for index in range(EXPERTS.count):
            trajectory.train_item(
                data=data(), config=EXPERTS, network="ConvNetD3", epochs=5, root=str(folder), index=index, device="cpu"
            )
    return [Trajectory(Place(folder).trajectory(index)) for index in range(EXPERTS.count)]


PAD_SETTINGS: dict[str, Any] = {
    "ipc": 2,
    "experts": EXPERTS,
    "syn_steps": 3,
    "expert_epochs": 2,
    "max_start_epoch": 3,
    "syn_lr": 0.1,
    "lr_lr": 1e-4,
    "threshold": 10,
    "lr_img": 100,
    "init": "noise",
    "augment": "none",
}


def pad(seed: int = 0, **settings: Any) -> PAD:
    """A PAD distillation under way."""
    config = PADConfig(**{**PAD_SETTINGS, **settings})
    start = initial_images("noise", real(), config.ipc, config.factor, seed, None)
    if config.init == "real":
        start = initial_images("real", real(), config.ipc, config.factor, seed, None)
    labels = labels_of(len(CLASSES), config.ipc)
    return PAD(config, real(), start, labels, lambda s: network(config.network, s), seed, experts())
