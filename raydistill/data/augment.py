"""DSA, the differentiable Siamese augmentation (Zhao & Bilen, ICML 2021), over whole batches.

One family is drawn per call; within it each image has its own draw, or (Siamese) all share one, so that a real and a
synthetic batch go through the same transformation. Drawing and applying are apart: ``draw`` gives plain numbers,
``apply`` is a pure differentiable function of images and numbers, with no loop over images.

Shapes: n images, K channels, H×W pixels. A draw array has one row per number and one column per image (one column
when shared).
"""

from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import AfterValidator
from torch import Tensor

from raydistill.errors import UnknownNameError

FAMILIES = ("color", "crop", "cutout", "flip", "scale", "rotate")

STRATEGIES: dict[str, tuple[str, ...]] = {
    # Digits never flip: a mirrored 2 is no 2.
    "digits": ("color", "crop", "cutout", "scale", "rotate"),
    "natural": FAMILIES,
    # A tile of tissue has no upright; stain varies, so colour stays in.
    "histology": ("color", "crop", "cutout", "flip", "scale", "rotate"),
    "none": (),
}

CROP_SHARE = 0.125
CUTOUT_SHARE = 0.5
SCALE_RATIO = 1.2
ROTATE_DEGREES = 15.0
FLIP_PROBABILITY = 0.5


class Draw(NamedTuple):
    """One augmentation: its family and its numbers [rows, n or 1] (uniforms in [0, 1), or integers as floats)."""

    family: str
    numbers: Tensor


def families(strategy: str) -> tuple[str, ...]:
    """The families of a named strategy.

    Raises:
        UnknownNameError: no such strategy.
    """
    if strategy not in STRATEGIES:
        raise UnknownNameError("augmentation strategy", strategy, STRATEGIES)
    return STRATEGIES[strategy]


def _known(strategy: str) -> str:
    families(strategy)
    return strategy


Strategy = Annotated[str, AfterValidator(_known)]
"A setting that names a strategy."


def draw(strategy: str, n: int, size: tuple[int, int], generator: torch.Generator, shared: bool = False) -> Draw | None:
    """Draw one family and its numbers for ``n`` images of ``size`` (H, W); ``None`` for the strategy ``none``.

    Args:
        strategy: a key of ``STRATEGIES``.
        n: images in the batch.
        size: (H, W) in pixels.
        generator: a CPU generator.
        shared: one column for all images (Siamese use) instead of one each.
    """
    choice = families(strategy)
    if not choice:
        return None
    family = choice[int(torch.randint(len(choice), (), generator=generator))]
    columns = 1 if shared else n

    def uniform(rows: int) -> Tensor:
        return torch.rand(rows, columns, generator=generator)

    def integers(low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, (1, columns), generator=generator).float()

    if family == "crop":
        shifts = [round_half_up(CROP_SHARE * side) for side in size]
        return Draw(family, torch.cat([integers(-s, s) for s in shifts]))
    if family == "cutout":
        # The centre lies in 0..side, both included, when the square's side is even.
        tops = [side - round_half_up(CUTOUT_SHARE * side) % 2 for side in size]
        return Draw(family, torch.cat([integers(0, t) for t in tops]))
    return Draw(family, uniform({"color": 3, "flip": 1, "scale": 2, "rotate": 1}[family]))


def apply(x: Tensor, drawn: Draw | None) -> Tensor:
    """Apply a draw to images ``x`` [n, K, H, W]; differentiable in ``x``; returns the same shape."""
    if drawn is None:
        return x
    numbers = drawn.numbers.to(device=x.device, dtype=x.dtype)
    return _APPLY[drawn.family](x, numbers)


def round_half_up(value: float) -> int:
    """⌊value + ½⌋, the rounding of DSA's sizes."""
    return int(value + 0.5)


def brightness(x: Tensor, u: Tensor) -> Tensor:
    """x + (u − ½); u [1, n or 1]."""
    return x + (u[0] - 0.5)[:, None, None, None]


def saturation(x: Tensor, u: Tensor) -> Tensor:
    """Distance from the mean over channels, times 2u; the identity for one channel."""
    if x.shape[1] == 1:
        return x
    mean = x.mean(dim=1, keepdim=True)
    return mean + (x - mean) * (2 * u[0])[:, None, None, None]


def contrast(x: Tensor, u: Tensor) -> Tensor:
    """Distance from the mean over the image, times (u + ½)."""
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * (u[0] + 0.5)[:, None, None, None]


def color(x: Tensor, u: Tensor) -> Tensor:
    """Brightness, saturation, contrast, one uniform each; u [3, n or 1]."""
    return contrast(saturation(brightness(x, u[0:1]), u[1:2]), u[2:3])


def crop(x: Tensor, shift: Tensor) -> Tensor:
    """out[h, w] = x[h + a, w + b], zero outside; shift [2, n or 1] holds a (rows) and b (columns)."""
    _, _, h, w = x.shape
    a, b = shift.round().long()
    if shift.shape[1] == 1:
        return _shifted(x, int(a), int(b))
    rows = torch.arange(h, device=x.device) + a[:, None]
    columns = torch.arange(w, device=x.device) + b[:, None]
    inside = ((rows >= 0) & (rows < h))[:, None, :, None] & ((columns >= 0) & (columns < w))[:, None, None, :]
    flat = rows.clamp(0, h - 1)[:, :, None] * w + columns.clamp(0, w - 1)[:, None, :]
    taken = x.flatten(2).gather(2, flat.flatten(1)[:, None].expand(-1, x.shape[1], -1)).view_as(x)
    return torch.where(inside, taken, torch.zeros((), dtype=x.dtype, device=x.device))


def _shifted(x: Tensor, a: int, b: int) -> Tensor:
    # Negative padding crops, so one call moves the picture and fills with zeros.
    return F.pad(x, (-b, b, -a, a))


def cutout(x: Tensor, centre: Tensor) -> Tensor:
    """Zero a square of half the side around centre [2, n or 1], cut off at the border."""
    _, _, h, w = x.shape

    def covered(length: int, middle: Tensor) -> Tensor:
        size = round_half_up(CUTOUT_SHARE * length)
        position = torch.arange(length, device=x.device)
        start = (middle.round().long() - size // 2)[:, None]
        return (position >= start) & (position < start + size)

    hole = covered(h, centre[0])[:, None, :, None] & covered(w, centre[1])[:, None, None, :]
    return x.masked_fill(hole, 0.0)


def flip(x: Tensor, u: Tensor) -> Tensor:
    """Mirror left-right where u < ½; u [1, n or 1]."""
    if u.shape[1] == 1:
        return x.flip(3) if bool(u[0, 0] < FLIP_PROBABILITY) else x
    return torch.where((u[0] < FLIP_PROBABILITY)[:, None, None, None], x.flip(3), x)


def scale(x: Tensor, u: Tensor) -> Tensor:
    """Independent factors in [1/1.2, 1.2] for width (u[0]) and height (u[1]); a factor above 1 shrinks the picture."""
    factor = 1 / SCALE_RATIO + u * (SCALE_RATIO - 1 / SCALE_RATIO)
    zero = torch.zeros_like(factor[0])
    return _resample(x, torch.stack([torch.stack([factor[0], zero], -1), torch.stack([zero, factor[1]], -1)], 1))


def rotate(x: Tensor, u: Tensor) -> Tensor:
    """Rotation by 15°·(2u − 1) about the centre."""
    angle = (ROTATE_DEGREES * torch.pi / 180) * (2 * u[0] - 1)
    cos, sin = angle.cos(), angle.sin()
    # The sampling grid runs from -1 to 1 along each side; without the ratio a rectangular picture would shear.
    ratio = (x.shape[2] - 1) / max(x.shape[3] - 1, 1)
    return _resample(x, torch.stack([torch.stack([cos, -sin * ratio], -1), torch.stack([sin / ratio, cos], -1)], 1))


def _resample(x: Tensor, matrix: Tensor) -> Tensor:
    """Read ``x`` at matrix · (centre offset), bilinearly, zero outside; matrix [n or 1, 2, 2]."""
    affine = F.pad(matrix, (0, 1)).expand(len(x), -1, -1)
    grid = F.affine_grid(affine, list(x.shape), align_corners=True)
    return F.grid_sample(x, grid, align_corners=True)


_APPLY = {"color": color, "crop": crop, "cutout": cutout, "flip": flip, "scale": scale, "rotate": rotate}
