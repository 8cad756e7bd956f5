"""Tiles that look like H&E sections, drawn in MHIST's layout: a stand-in for whoever has no copy of it, and for tests.

Each tile shows glands cut across: a white lumen in a ring of epithelium, in pink stroma with scattered nuclei. In serrated
ones (SSA) the lumen's edge is a saw, in hyperplastic ones (HP) it is smooth. How deep the teeth are is drawn for each tile,
seven annotators judge it with an error each, and their majority is the label: so some tiles are doubtful, as real ones are,
and who measured the depth of the teeth without error would be right about 94 % of them.
Stain, its strength, focus and noise vary from tile to tile and say nothing about the class. Colours follow from optical
densities, intensity = exp(−Σ_s c_s·v_s), with the stain vectors of Ruifrok & Johnston, 2001.

A tile depends on the seed, its part, class, number and side alone. Nothing here is medicine: no accuracy on these tiles says
anything about tissue.

Shapes: H×W pixels, G glands of a tile.
"""

import csv
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from raydistill import artifacts
from raydistill.data.mhist import ANNOTATIONS, ANNOTATORS, CLASSES, COLUMNS, GENERATED, IMAGES, MARKER, PARTS, Tile
from raydistill.data.sources import Part
from raydistill.errors import ConfigError, EnvironmentIssue
from raydistill.seeding import numpy_generator

HAEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])

DEPTH = {"HP": (0.03, 0.035), "SSA": (0.09, 0.04)}
"Mean and standard deviation of the teeth's depth, in radii of the gland, before the annotators judge it."
DOUBT, ERROR = 0.06, 0.05
"Depth at which an annotator hesitates, and the standard deviation of what one sees."

SMALLEST = 16


class Wanted(NamedTuple):
    """A set to draw: how many tiles of each part, side in pixels, seed."""

    train: int
    test: int
    side: int
    seed: int

    def counts(self) -> dict[Part, dict[str, int]]:
        """(part, class) → tiles: of each part a third, rounded, is SSA."""
        totals = {"train": self.train, "test": self.test}
        return {part: {"HP": totals[part] - round(totals[part] / 3), "SSA": round(totals[part] / 3)} for part in PARTS}


def check(folder: Path, wanted: Wanted) -> None:
    """Refuse what ``generate`` cannot do.

    Raises:
        ConfigError: too few or too small tiles, or the folder holds something.
    """
    if wanted.side < SMALLEST:
        raise ConfigError(f"--side {wanted.side}: glands need {SMALLEST} pixels or more")
    for part, of_class in wanted.counts().items():
        if min(of_class.values()) < 2:
            raise ConfigError(f"--{part}-images {sum(of_class.values())}: each class needs 2; give 6 or more")
    # Path.exists would raise where a folder may not be entered.
    if os.path.isfile(folder) or (os.path.isdir(folder) and os.listdir(folder)):
        raise ConfigError(f"{folder} holds something already; name a folder that does not exist yet")


def generate(folder: Path, wanted: Wanted, told: Callable[[], object] = lambda: None) -> None:
    """Draw a set into ``folder``, whole or not at all.

    Args:
        folder: must not exist, or be empty.
        wanted: which tiles.
        told: called after each.

    Raises:
        ConfigError: see ``check``.
        EnvironmentIssue: the folder cannot be written.
    """
    check(folder, wanted)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
        try:
            _write(fresh, wanted, told)
            fresh.chmod(0o755)
            fresh.replace(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise EnvironmentIssue(f"cannot write {folder}: {error.strerror or error}; name another folder") from None


def _write(folder: Path, wanted: Wanted, told: Callable[[], object]) -> None:
    (folder / IMAGES).mkdir()
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(COLUMNS)
    for tile, pixels in _tiles(wanted):
        Image.fromarray(pixels).save(folder / IMAGES / tile.name)
        table.writerow((tile.name, CLASSES[tile.label], tile.votes, tile.part))
        told()
    artifacts.write_text(folder / ANNOTATIONS, lines.getvalue())
    about = {"kind": GENERATED, "seed": wanted.seed, "side": wanted.side}
    artifacts.write_json(folder / MARKER, about | {str(part): of for part, of in wanted.counts().items()})


def _tiles(wanted: Wanted) -> Iterator[tuple[Tile, np.ndarray]]:
    for part, of_class in wanted.counts().items():
        for label, name in enumerate(CLASSES):
            for number in range(of_class[name]):
                rng = numpy_generator(wanted.seed, "tile", part, name, number)
                depth, votes = judged(name, rng)
                yield Tile(f"{part}_{name}_{number:05d}.png", label, votes, part), draw(depth, wanted.side, rng)


def judged(name: str, rng: np.random.Generator) -> tuple[float, int]:
    """The depth of a tile's teeth and how many annotators call it SSA, drawn until their majority says ``name``."""
    mean, deviation = DEPTH[name]
    while True:
        depth = abs(rng.normal(mean, deviation))
        votes = int((depth + rng.normal(0, ERROR, ANNOTATORS) > DOUBT).sum())
        if CLASSES[2 * votes > ANNOTATORS] == name:
            return float(depth), votes


def draw(depth: float, side: int, rng: np.random.Generator) -> np.ndarray:
    """One tile, uint8 [side, side, 3]; ``depth`` of the teeth in radii of the gland."""
    from scipy.ndimage import gaussian_filter

    lumen, epithelium, border = _glands(depth, side, rng)
    stroma = 1 - np.maximum(lumen, epithelium)
    texture = gaussian_filter(rng.normal(size=(side, side)), side / 60)
    texture /= texture.std()
    nuclei = _nuclei(side, rng) * stroma + border
    blue = 0.12 * stroma + 0.45 * epithelium + 0.95 * np.clip(nuclei, 0, 1)
    red = (0.42 + 0.07 * texture) * stroma + 0.32 * epithelium
    strength = rng.uniform(0.7, 1.3, 2)
    vectors = np.stack([HAEMATOXYLIN, EOSIN]) + rng.normal(0, 0.05, (2, 3))
    density = (np.stack([blue, red], -1) * (1 - lumen)[..., None] * strength) @ np.clip(vectors, 0, None)
    light = np.exp(-np.clip(density, 0, None)) * rng.uniform(0.93, 1.0)
    light = gaussian_filter(light, (*(side * rng.uniform(0, 0.006, 1).repeat(2)), 0))
    pixels: np.ndarray = np.clip(np.rint(255 * light + rng.normal(0, 3, light.shape)), 0, 255).astype(np.uint8)
    return pixels


def _glands(depth: float, side: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lumens, epithelium, and the nuclei along its outer border, each [side, side] in [0, 1]."""
    count = int(rng.integers(2, 4))
    cells = np.stack(np.meshgrid(np.arange(count), np.arange(count)), -1).reshape(-1, 2)
    centres = (cells + 0.5 + rng.uniform(-0.12, 0.12, cells.shape)) / count
    line = (np.arange(side) + 0.5) / side
    offsets = np.stack(np.meshgrid(line, line), -1)[:, :, None] - centres
    nearest = (offsets**2).sum(-1).argmin(-1)

    def of_gland(low: float, high: float) -> np.ndarray:
        """One number a gland, uniform, as a map [side, side]."""
        drawn: np.ndarray = rng.uniform(low, high, len(centres))[nearest]
        return drawn

    x, y = np.moveaxis(np.take_along_axis(offsets, nearest[..., None, None], 2)[:, :, 0], -1, 0)
    distance, angle = np.hypot(x, y), np.arctan2(y, x)
    radius = of_gland(0.36, 0.43) / count
    oval = 1 + of_gland(0.0, 0.18) * np.cos(2 * (angle - of_gland(0, np.pi)))
    wobble = 0.05 * np.sin(3 * angle + of_gland(0, 2 * np.pi))
    teeth = rng.integers(8, 13, len(centres))[nearest]
    saw = 2 * np.abs((teeth * angle + of_gland(0, 2 * np.pi)) / (2 * np.pi) % 1 - 0.5) - 0.5
    outer = radius * oval
    inner = radius * (oval * of_gland(0.45, 0.62) + wobble + depth * of_gland(0.8, 1.2) * 2 * saw)
    soft = 0.6 / side
    lumen, inside = (1 / (1 + np.exp(np.clip((distance - edge) / soft, -50, 50))) for edge in (inner, outer))
    ring = np.exp(-(((distance / outer - 0.88) / 0.07) ** 2))
    spots = 0.55 + 0.45 * np.cos(np.round(24 * of_gland(0.9, 1.3)) * angle)
    return lumen, inside - lumen, ring * spots * inside


def _nuclei(side: int, rng: np.random.Generator) -> np.ndarray:
    """Round dark spots scattered over the tile, [side, side] in [0, 1]."""
    from scipy.ndimage import gaussian_filter

    points = np.zeros((side, side))
    where = rng.integers(0, side, (2, int(rng.integers(60, 160))))
    points[where[0], where[1]] = 1
    width = side * 0.009
    spots: np.ndarray = np.clip(gaussian_filter(points, width) * (2 * np.pi * width**2) * 1.3, 0, 1)
    return spots
