"""A trained network as an artefact: parameters, architecture, classes and encoding; no code, no pickle.

``deployed`` gives it in one module that takes pixels and is made of PyTorch's own layers alone, so that it can be exported.

Shapes: n images, K channels, H×W pixels, C classes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from raydistill import artifacts
from raydistill.data import stored_encoding
from raydistill.data.images import Encoding, Normaliser
from raydistill.errors import ArtifactError, ConfigError
from raydistill.models import ConvNet, Network, build
from raydistill.models.convnet import LEAKY_SLOPE

KIND = "trained network"
NET = "net."
"Before the names of parameters."


class Trained(NamedTuple):
    """A network read back, in eval mode on the CPU."""

    net: Network
    encoding: Encoding
    manifest: dict[str, Any]


def save(path: Path, net: nn.Module, encoding: Encoding, manifest: Mapping[str, Any]) -> None:
    """Write a network.

    Args:
        path: the folder.
        net: as ``models.build`` made it.
        encoding: pixel space → its input.
        manifest: plain JSON values; ``network`` (its name), ``shape`` (K, H, W) and ``classes`` (names) are needed to load it.
    """
    about, matrices = stored_encoding.stored(encoding)
    tensors = {f"{NET}{name}": tensor for name, tensor in net.state_dict().items()}
    artifacts.save_folder(path, KIND, {**manifest, **about}, {**tensors, **matrices})


def load(path: Path) -> Trained:
    """Read a network.

    Raises:
        ArtifactError: missing, damaged, or not a trained network.
    """
    manifest, tensors = artifacts.load_folder(path, KIND)
    try:
        channels, height, width = manifest["shape"]
        net = build(manifest["network"], (channels, height, width), len(manifest["classes"]), 0)
        net.load_state_dict({name.removeprefix(NET): t for name, t in tensors.items() if name.startswith(NET)})
        encoding = stored_encoding.read(manifest, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, ConfigError) as error:
        raise ArtifactError(f"{path} is no whole {KIND} ({error}); make it again") from error
    return Trained(net.eval(), encoding, manifest)


def deployed(trained: Trained) -> nn.Module:
    """Pixels float32 [n, K, H, W] in [0, 1] → logits [n, C], encoding included."""
    net = _plain(trained.net) if isinstance(trained.net, ConvNet) else trained.net
    return nn.Sequential(_Encoder(trained.encoding), net).eval()


class _Encoder(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, encoding: Encoding) -> None:
        super().__init__()
        self.encoding = encoding
        if isinstance(encoding, Normaliser):
            self.register_buffer("mean", torch.tensor(encoding.mean)[:, None, None])
            self.register_buffer("std", torch.tensor(encoding.std)[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        if not isinstance(self.encoding, Normaliser):
            return self.encoding.encode(pixels)
        return (pixels - self.mean) / self.std


def _plain(net: ConvNet) -> nn.Sequential:
    """The same network without the forms that make it fast on the CPU, which an export would write down."""
    config = net.config
    activation: nn.Module = {
        "relu": nn.ReLU(),
        "sigmoid": nn.Sigmoid(),
        "leakyrelu": nn.LeakyReLU(LEAKY_SLOPE),
        "swish": nn.SiLU(),
    }[config.activation]
    pooling: nn.Module = {"avg": nn.AvgPool2d(2), "max": nn.MaxPool2d(2), "none": nn.Identity()}[config.pooling]
    layers: list[nn.Module] = []
    for block in net.blocks:
        conv, norm = block.children()
        assert isinstance(conv, nn.Conv2d)
        plain = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=conv.padding)  # type: ignore[arg-type]
        plain.load_state_dict(conv.state_dict())
        layers += [plain, norm, activation, pooling]
    return nn.Sequential(*layers, nn.Flatten(), net.classifier)
