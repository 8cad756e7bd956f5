"""What training a network costs in floating-point operations, counted and not measured: the same on every machine."""

import functools

from raydistill.models import build

IMAGES = 2
"Batch norm needs more than one."


@functools.lru_cache(maxsize=1024)
def training_flops(network: str, shape: tuple[int, int, int], classes: int) -> int:
    """Operations of one image's forward and backward pass through convolutions and linear layers; 2 a multiply-add.

    Args:
        network: its name.
        shape: (K, H, W).
        classes: C.

    Raises:
        ConfigError: unknown name, or images too small for the network.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # On the meta device nothing is computed, and the CPU's own forms of the layers are not taken.
    net = build(network, shape, classes, 0).to("meta")
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(net(torch.empty(IMAGES, *shape, device="meta")).sum())
    return int(counter.get_total_flops()) // IMAGES
