"""Networks: the ConvNet family, the classic ones, and how to build one from its name and a seed."""

import torch

from raydistill.models.classic import PLANS, PlainNet, ResNet18
from raydistill.models.convnet import ConvNet, ConvNetConfig, Features
from raydistill.models.names import GRID, canonical, convnet_config, known_networks, name_of, require

__all__ = [
    "GRID",
    "ConvNet",
    "ConvNetConfig",
    "Features",
    "Network",
    "build",
    "canonical",
    "convnet_config",
    "known_networks",
    "name_of",
    "require",
]

Network = ConvNet | PlainNet | ResNet18
"Whatever ``build`` returns has ``forward`` (logits), ``features`` and ``classifier``."


def build(
    name: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> Network:
    """A network in train mode with PyTorch's default initialisation, the same for equal seeds on every device.

    Args:
        name: one of ``known_networks()``.
        image_shape: (K, H, W).
        num_classes: C.
        seed: of the initialisation; the global random state is left as it was.
        device: where the network goes; it is initialised on the CPU.

    Raises:
        ConfigError: unknown or ambiguous name, or images too small for the network.
    """
    require(name)
    config = convnet_config(name)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would reseed every GPU as well.
        torch.default_generator.manual_seed(seed)
        if config is not None:
            network: Network = ConvNet(config, image_shape, num_classes)
        elif name in PLANS:
            network = PlainNet(name, image_shape, num_classes)
        else:
            network = ResNet18(image_shape, num_classes)
    return network.to(device)
