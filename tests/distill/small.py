"""A small distillation: three easy classes of 8×8 images and a narrow network."""

from typing import Any

import numpy as np
import torch
from torch import nn

from raydistill.data.images import DeviceImages, ImageSet, Normaliser
from raydistill.distill.datadam import DataDAM, DataDAMConfig
from raydistill.distill.initialise import initial_images, labels_of
from raydistill.models import ConvNet, convnet_config

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
