"""AlexNet, LeNet, MLP, VGG11 and ResNet18 in the small-image variants of dataset distillation (DC, DSA, MTT).

All give ``Features`` like a ConvNet: maps after each activation (ResNet18: after each of its four stages), the input of
the last linear layer as embedding, and logits.

Shapes: n images, K channels, H×W pixels, C classes.
"""

import itertools
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from raydistill.errors import ConfigError
from raydistill.models.convnet import Features

ImageShape = tuple[int, int, int]
MAX_SIDE = 1024


class Layer(NamedTuple):
    """A convolution of stride 1, ReLU, and what surrounds them."""

    channels: int
    kernel: int
    padding: int
    pool: bool = False
    "Max pooling 2×2 afterwards."
    norm: bool = False
    "Instance norm before the ReLU."


class Plan(NamedTuple):
    """A network that is a plain sequence: convolutions, then hidden linear layers with ReLU, then the classifier."""

    layers: tuple[Layer, ...]
    hidden: tuple[int, ...] = ()


def _vgg(channels: int, pool: bool = False) -> Layer:
    return Layer(channels, kernel=3, padding=1, pool=pool, norm=True)


PLANS: dict[str, Plan] = {
    "AlexNet": Plan(
        (
            Layer(128, 5, 2, pool=True),
            Layer(192, 5, 2, pool=True),
            Layer(256, 3, 1),
            Layer(192, 3, 1),
            Layer(192, 3, 1, pool=True),
        )
    ),
    "LeNet": Plan((Layer(6, 5, 0, pool=True), Layer(16, 5, 0, pool=True)), hidden=(120, 84)),
    "MLP": Plan((), hidden=(128, 128)),
    "VGG11": Plan(
        (
            _vgg(64, pool=True),
            _vgg(128, pool=True),
            _vgg(256),
            _vgg(256, pool=True),
            _vgg(512),
            _vgg(512, pool=True),
            _vgg(512),
            _vgg(512, pool=True),
        )
    ),
}


class PlainNet(nn.Module):
    """AlexNet, LeNet, MLP or VGG11 for images (K, H, W) and C classes, initialised as PyTorch does by default.

    Args:
        name: a key of ``PLANS``.
        image_shape: (K, H, W).
        num_classes: C.

    Raises:
        ConfigError: the image is too small; names the smallest side that fits.
    """

    def __init__(self, name: str, image_shape: ImageShape, num_classes: int) -> None:
        super().__init__()
        plan = PLANS[name]
        channels, height, width = image_shape
        extra = _extra_padding(image_shape) if plan.layers else 0
        sides = [_side_after(plan, side, extra) for side in (height, width)]
        if min(sides) < 1:
            smallest = next(s for s in range(1, MAX_SIDE) if _side_after(plan, s, 0) >= 1)
            raise ConfigError(
                f"{name} shrinks {height}x{width} images below one pixel; "
                f"the smallest size possible is {smallest}x{smallest}"
            )
        self.plan = plan
        self.convolutions = nn.ModuleList()
        for number, layer in enumerate(plan.layers):
            padding = layer.padding + (extra if number == 0 else 0)
            conv = nn.Conv2d(channels, layer.channels, layer.kernel, padding=padding)
            norm = nn.GroupNorm(layer.channels, layer.channels) if layer.norm else nn.Identity()
            self.convolutions.append(nn.Sequential(conv, norm))
            channels = layer.channels
        widths = [channels * sides[0] * sides[1], *plan.hidden]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.classifier = nn.Linear(widths[-1], num_classes)

    def features(self, x: Tensor) -> Features:
        """Maps after each activation, the classifier's input, and the logits, for ``x`` [n, K, H, W]."""
        maps = []
        for layer, convolution in zip(self.plan.layers, self.convolutions, strict=True):
            x = F.relu(convolution(x))
            maps.append(x)
            if layer.pool:
                x = F.max_pool2d(x, 2)
        x = x.flatten(1)
        for linear in self.hidden:
            x = F.relu(linear(x))
        return Features(maps, x, self.classifier(x))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, C] for network inputs ``x`` [n, K, H, W]."""
        return self.features(x).logits


class ResNet18(nn.Module):
    """ResNet-18 (He et al., CVPR 2016) as for CIFAR: 3×3 stem of stride 1, instance norm, global average pooling.

    Args:
        image_shape: (K, H, W).
        num_classes: C.

    Raises:
        ConfigError: the image is too small for instance norm in the last stage.
    """

    SMALLEST = 9

    def __init__(self, image_shape: ImageShape, num_classes: int) -> None:
        super().__init__()
        channels, *sides = image_shape
        if max(sides) < self.SMALLEST:
            raise ConfigError(
                f"ResNet18 shrinks {sides[0]}x{sides[1]} images to one pixel, where instance norm leaves nothing; "
                f"the smallest size possible is {self.SMALLEST}x{self.SMALLEST}"
            )
        self.stem = nn.Sequential(nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.GroupNorm(64, 64))
        widths = (64, 64, 128, 256, 512)
        self.stages = nn.ModuleList(
            nn.Sequential(Residual(before, after, stride=1 if number == 0 else 2), Residual(after, after, stride=1))
            for number, (before, after) in enumerate(itertools.pairwise(widths))
        )
        self.classifier = nn.Linear(widths[-1], num_classes)

    def features(self, x: Tensor) -> Features:
        """Maps after each stage, the average-pooled last one, and the logits, for ``x`` [n, K, H, W]."""
        x = F.relu(self.stem(x))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        embedding = x.mean(dim=(2, 3))
        return Features(maps, embedding, self.classifier(embedding))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, C] for network inputs ``x`` [n, K, H, W]."""
        return self.features(x).logits


class Residual(nn.Module):
    """Two 3×3 convolutions with instance norm around a shortcut; a 1×1 convolution on it where the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
            nn.GroupNorm(after, after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.GroupNorm(after, after),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.GroupNorm(after, after))

    def forward(self, x: Tensor) -> Tensor:
        """[n, before, h, w] → [n, after, ⌈h/stride⌉, ⌈w/stride⌉]."""
        return F.relu(self.body(x) + self.shortcut(x))


def _extra_padding(image_shape: ImageShape) -> int:
    # As for the ConvNets, the first convolution brings 28×28 digits to the size of CIFAR's images.
    return 2 if image_shape == (1, 28, 28) else 0


def _side_after(plan: Plan, side: int, extra: int) -> int:
    side += 2 * extra
    for layer in plan.layers:
        side += 2 * layer.padding - layer.kernel + 1
        if layer.pool:
            side //= 2
        if side < 1:
            return 0
    return side
