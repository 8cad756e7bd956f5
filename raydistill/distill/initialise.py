"""What the synthetic images start from: noise, or real images that are random, central (k-center) or typical (herding).

The same choices serve as baselines: ``choose`` picks real images of each class.

Shapes: C classes, n = C·ipc, K channels, H×W pixels, E the embedding's length.
"""

from typing import Literal

import torch
from torch import Tensor

from raydistill.data.images import DeviceImages
from raydistill.distill.method import Init
from raydistill.errors import ConfigError
from raydistill.models import Network, build
from raydistill.models.fit import Fit, Recipe, at_once
from raydistill.seeding import derive, torch_generator

EMBED_STEPS = 100
"Training steps of the network in whose embedding k-center and herding choose."

Selection = Literal["random", "kcenter", "herding"]


def labels_of(classes: int, ipc: int, device: torch.device | str = "cpu") -> Tensor:
    """int64 [C·ipc]: ipc of each class, sorted."""
    return torch.arange(classes, device=device).repeat_interleave(ipc)


def initial_images(init: Init, real: DeviceImages, ipc: int, factor: int, seed: int, embed: Network | None) -> Tensor:
    """Initial synthetic images, encoded, float32 [C·ipc, K, H, W].

    Args:
        init: see ``MethodConfig.init``; noise is standard normal in the encoded space.
        real: the training images.
        ipc: images per class.
        factor: with f above 1 each stored image is a grid of f² real ones, down-sampled.
        seed: names the draws.
        embed: a network with ``features`` whose embedding k-center and herding measure distances in.
    """
    if init == "noise":
        shape = (len(real.classes) * ipc, *real.shape)
        return torch.randn(shape, generator=torch_generator(seed, "noise")).to(real.device)
    selection: Selection = "random" if init == "real" else init
    chosen = choose(selection, real, ipc * factor**2, seed, embed)
    return _packed(real.take(chosen), factor)


def choose(selection: Selection, real: DeviceImages, ipc: int, seed: int, embed: Network | None) -> Tensor:
    """Indices int64 [C·ipc] of real images, sorted by class.

    Raises:
        ConfigError: a class has fewer than ``ipc`` images.
    """
    picked = []
    for label, members in enumerate(real.class_indices):
        if len(members) < ipc:
            raise ConfigError(
                f"ipc={ipc}: class {real.classes[label]!r} has only {len(members)} training images; lower ipc"
            )
        if selection == "random":
            picked.append(real.draw_from_class(label, ipc, torch_generator(seed, "choose", label)))
            continue
        assert embed is not None
        rows = embeddings(real, members, embed)
        order = herding(rows, ipc) if selection == "herding" else kcenter(rows, ipc)
        picked.append(members[order])
    return torch.cat(picked)


def embedder(real: DeviceImages, augment: str, seed: int) -> Network:
    """A briefly trained ConvNet of a depth that the images allow, for choosing real images by their embedding."""
    depth = min(3, min(real.shape[1:]).bit_length() - 1)
    net = build(f"ConvNetD{depth}", real.shape, len(real.classes), derive(seed, "embedder"), real.device)
    Fit(net, real, Recipe(batch=64, augment=augment), derive(seed, "embedder", "fit")).run(EMBED_STEPS)
    return net


def embeddings(real: DeviceImages, indices: Tensor, embed: Network, batch: int = 500) -> Tensor:
    """Embeddings [len(indices), E] of real images, in eval mode and without gradients."""
    embed.eval()
    size = at_once(real.pixels, batch)
    with torch.inference_mode():
        return torch.cat([embed.features(real.take(i)).embedding for i in torch.split(indices, size)])


def herding(rows: Tensor, n: int) -> Tensor:
    """Welling's herding: greedily keep the running mean of the chosen rows near the mean of all; indices [n]."""
    goal = rows.mean(0)
    total = torch.zeros_like(goal)
    free = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    chosen = []
    for count in range(1, n + 1):
        distance = (goal - (total + rows) / count).square().sum(1)
        best = int(distance.masked_fill(~free, torch.inf).argmin())
        chosen.append(best)
        free[best] = False
        total = total + rows[best]
    return torch.tensor(chosen, device=rows.device)


def kcenter(rows: Tensor, n: int) -> Tensor:
    """Greedy k-center (Sener & Savarese, ICLR 2018), from the row nearest to the mean; indices [n]."""
    chosen = [int((rows - rows.mean(0)).square().sum(1).argmin())]
    nearest = (rows - rows[chosen[0]]).square().sum(1)
    while len(chosen) < n:
        nearest[chosen[-1]] = -1.0  # never chosen again, even among equal images
        farthest = int(nearest.argmax())
        chosen.append(farthest)
        nearest = torch.minimum(nearest, (rows - rows[farthest]).square().sum(1))
    return torch.tensor(chosen, device=rows.device)


def _packed(images: Tensor, factor: int) -> Tensor:
    """Tile each run of f² images [n·f², K, H, W] into one [n, K, H, W], down-sampled by area."""
    if factor == 1:
        return images
    count, k, h, w = images.shape
    tiles = images.view(count // factor**2, factor, factor, k, h, w).permute(0, 3, 1, 4, 2, 5)
    large = tiles.reshape(-1, k, factor * h, factor * w)
    return torch.nn.functional.interpolate(large, size=(h, w), mode="area")
