"""The ConvNet family of dataset distillation (Gidaris & Komodakis 2018; DC, DSA, MTT use it throughout).

``depth`` blocks of 3×3 convolution → norm → activation → pooling, then one linear layer. ``forward`` gives logits;
``features`` gives the maps after each activation and the embedding too, as return values, so that attention matching
needs no hooks.

Shapes: n images, K channels, H×W pixels, W_l = width, h_l×w_l the side of block l before pooling, C classes.
"""

import functools
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from raydistill.config import Config
from raydistill.errors import ConfigError

Norm = Literal["none", "batch", "layer", "instance", "group"]
Activation = Literal["sigmoid", "relu", "leakyrelu", "swish"]
Pooling = Literal["none", "max", "avg"]

GROUPS = 4
LEAKY_SLOPE = 0.01


class Features(NamedTuple):
    """What attention matching reads: maps [n, W_l, h_l, w_l] per block, the embedding [n, P_e], logits [n, C]."""

    maps: list[Tensor]
    embedding: Tensor
    logits: Tensor


class ConvNetConfig(Config):
    """One architecture of the family; the defaults are ConvNetD3."""

    depth: int = Field(3, ge=1, le=8)
    "Number of blocks."
    width: int = Field(128, ge=1, le=4096)
    "Channels of every block."
    norm: Norm = "instance"
    "Normalisation after each convolution; group norm has 4 groups."
    activation: Activation = "relu"
    "leakyrelu has slope 0.01; swish is x·sigmoid(x)."
    pooling: Pooling = "avg"
    "2×2, stride 2."


class ConvNet(nn.Module):
    """A ConvNet for images (K, H, W) and C classes, initialised as PyTorch does by default.

    Args:
        config: the architecture.
        image_shape: (K, H, W).
        num_classes: C.

    Raises:
        ConfigError: the image is too small for the depth; names the largest depth that fits.
    """

    def __init__(self, config: ConvNetConfig, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.config = config
        channels, *sides = image_shape
        # The field pads 28×28 digits to 32×32 in the first layer, so that they halve like CIFAR's images.
        first_padding = 3 if image_shape == (1, 28, 28) else 1
        grown = [side + 2 * (first_padding - 1) for side in sides]
        if config.pooling != "none":
            deepest = min(side.bit_length() - 1 for side in grown)
            if config.depth > deepest:
                raise ConfigError(
                    f"ConvNet depth={config.depth} halves {sides[0]}x{sides[1]} images below one pixel; "
                    f"the largest depth possible is {deepest}"
                )
        self.blocks = nn.ModuleList()
        for block in range(config.depth):
            padding = first_padding if block == 0 else 1
            kind = OneChannelConv if channels == 1 else nn.Conv2d
            conv = kind(channels, config.width, kernel_size=3, padding=padding)
            pair = OneChannelBlock if channels == 1 and config.norm == "instance" else nn.Sequential
            self.blocks.append(pair(conv, _norm(config, grown)))
            channels = config.width
            if config.pooling != "none":
                grown = [side // 2 for side in grown]
        self.classifier = nn.Linear(channels * grown[0] * grown[1], num_classes)

    def features(self, x: Tensor) -> Features:
        """Maps after each activation, the flattened output of the last block, and the logits, for ``x`` [n, K, H, W]."""
        maps = []
        # Without a norm the maps may be a view, in whose place ``ReluPool`` could not write.
        fused = (self.config.activation, self.config.pooling) == ("relu", "avg") and self.config.norm != "none"
        for block in self.blocks:
            x = block(x)
            if fused and _pools_by_product(x):
                active, x = ReluPool.apply(x)
            else:
                active = self._activate(x)
                x = self._pool(active)
            maps.append(active)
        embedding = x.flatten(1)
        return Features(maps, embedding, self.classifier(embedding))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, C] for network inputs ``x`` [n, K, H, W]."""
        return self.features(x).logits

    @property
    def nonnegative(self) -> bool:
        """Whether the maps cannot be below zero, so that |f| = f."""
        return self.config.activation in ("relu", "sigmoid")

    def _activate(self, x: Tensor) -> Tensor:
        match self.config.activation:
            case "relu":
                # In place: neither the norms' nor the convolutions' backward passes read their own output.
                return F.relu_(x)
            case "sigmoid":
                return x.sigmoid()
            case "leakyrelu":
                return F.leaky_relu(x, LEAKY_SLOPE)
            case "swish":
                return F.silu(x)

    def _pool(self, x: Tensor) -> Tensor:
        match self.config.pooling:
            case "avg":
                return average_pool(x)
            case "max":
                return F.max_pool2d(x, 2)
            case "none":
                return x


class OneChannelConv(nn.Conv2d):
    """A 3×3 convolution of one channel: on the CPU a product of [W, 9] with the images' patches.

    Forward and backward take a third of ``conv2d``'s time in bfloat16 and three quarters in float32.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if input.device.type != "cpu" or bias is None:
            return F.conv2d(input, weight, bias, padding=self.padding)
        assert not isinstance(self.padding, str)
        n, _, h, w = input.shape
        patches = F.unfold(input, 3, padding=self.padding)
        maps = torch.baddbmm(bias.view(1, -1, 1), weight.flatten(1).expand(n, -1, -1), patches)
        return maps.view(n, -1, h + 2 * self.padding[0] - 2, w + 2 * self.padding[1] - 2)


class OneChannelBlock(nn.Sequential):
    """A 3×3 convolution of one channel and the instance norm behind it: on the CPU one product with the images' patches.

    A map's mean and variance over positions follow from those of the patches, w·m and wᵀΣw with m [9] and Σ [9, 9] of each
    image, so the norm becomes a scale of the weights, and the largest maps of the network are written once and not read
    again. Statistics are float32 or wider, whatever the precision of the product.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalised maps [n, W, h, w] of images [n, 1, H, W]."""
        conv, norm = self
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.GroupNorm)
        if input.device.type != "cpu":
            normalised: Tensor = norm(conv(input))
            return normalised
        n, _, h, w = input.shape
        assert not isinstance(conv.padding, str)
        patches = F.unfold(input, 3, padding=conv.padding)
        with torch.autocast("cpu", enabled=False):
            wide = patches.to(torch.promote_types(patches.dtype, torch.float32))
            middle = wide.mean(2, keepdim=True)
            centred = wide - middle
            covariance = centred @ centred.mT / wide.shape[2]
            weight = conv.weight.flatten(1).to(wide.dtype)
            variance = ((weight @ covariance) * weight).sum(2, keepdim=True)
            scale = norm.weight[:, None] * (variance + norm.eps).rsqrt()
            # The bias cancels; written out, its gradient is the zero that a norm behind it gives.
            assert conv.bias is not None
            bias = conv.bias[:, None]
            shift = norm.bias[:, None] + scale * (bias - (weight @ middle + bias))
            # A tenth row of ones takes the shift: added by broadcasting, its gradient would be a pass over the maps.
            product = torch.cat([weight * scale, shift], 2).to(patches.dtype)
            patches = F.pad(patches, (0, 0, 0, 1), value=1.0)
        maps = torch.bmm(product, patches)
        # An ordinary view would make the activation's writing in place copy the maps twice on the way back.
        shape = (n, weight.shape[0], h + 2 * conv.padding[0] - 2, w + 2 * conv.padding[1] - 2)
        return torch.ops.aten._unsafe_view(maps, shape)  # type: ignore[no-any-return]


class ReluPool(torch.autograd.Function):
    """ReLU in place and ``average_pool``; the way back writes the gradient of the maps once and changes it in place.

    Autograd alone would write it three times: from the pooled maps, with what attention adds, and without the negative ones.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps [n, W, h, w], in the memory of ``x``, and pooled [n, W, h/2, w/2]."""
        maps = F.relu_(x)
        ctx.mark_dirty(x)
        ctx.save_for_backward(maps)
        ctx.set_materialize_grads(False)
        return maps, average_pool(maps)

    @staticmethod
    def backward(ctx: Any, of_maps: Tensor | None, of_pooled: Tensor | None) -> Tensor | None:
        """Gradient of the block's output, from those of both results."""
        (maps,) = ctx.saved_tensors
        gradient = of_maps
        if of_pooled is not None:
            gradient = (of_pooled.to(maps.dtype) @ _pooling_matrix(maps.shape[3], maps.dtype).T).view(maps.shape)
            if of_maps is not None:
                gradient = gradient.add(of_maps) if torch.is_grad_enabled() else gradient.add_(of_maps)
        if gradient is None:
            return None
        if torch.is_grad_enabled() or gradient is of_maps:  # its own gradient will be asked for; or it is not ours
            positive: Tensor = torch.ops.aten.threshold_backward(gradient, maps, 0)
            return positive
        torch.ops.aten.threshold_backward.grad_input(gradient, maps, 0, grad_input=gradient)
        return gradient


def average_pool(x: Tensor) -> Tensor:
    """2×2 average pooling with stride 2 of ``x`` [n, W, h, w]; an odd last row or column is left out.

    On the CPU two neighbouring rows lie side by side in memory, so pooling is a product with a constant matrix
    [2w, w/2]: in bfloat16 forward and backward take an eighth of ``avg_pool2d``'s time, in float32 under half.
    """
    n, channels, h, w = x.shape
    if not _pools_by_product(x):
        return F.avg_pool2d(x, 2)
    rows = x.reshape(n, channels, h // 2, 2 * w)
    return rows @ _pooling_matrix(w, x.dtype)


def _pools_by_product(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.shape[2] % 2 == x.shape[3] % 2 == 0


@functools.lru_cache(maxsize=64)
def _pooling_matrix(width: int, dtype: torch.dtype) -> Tensor:
    # Kept across calls, so it must not be born an inference tensor, which no later backward pass could save.
    with torch.inference_mode(False):
        return (torch.eye(width // 2, dtype=dtype).repeat_interleave(2, 0) / 4).repeat(2, 1)


def _norm(config: ConvNetConfig, sides: list[int]) -> nn.Module:
    match config.norm:
        case "none":
            return nn.Identity()
        case "batch":
            return nn.BatchNorm2d(config.width)
        case "layer":
            return nn.LayerNorm([config.width, *sides])
        case "instance":
            # Instance norm as a group norm of one channel a group: no running statistics, and faster.
            return nn.GroupNorm(config.width, config.width)
        case "group":
            if config.width % GROUPS:
                raise ConfigError(f"group norm has {GROUPS} groups; width={config.width} is no multiple of it")
            return nn.GroupNorm(GROUPS, config.width)
