"""MHIST (Wei et al., "A Petri Dish for Histopathology Image Analysis", AIME 2021): H&E tiles of colorectal polyps.

3,152 tiles of 3×224×224, hyperplastic polyp (HP) or sessile serrated adenoma (SSA) by the majority of seven pathologists.
They are given out to those who sign an agreement, and never fetched here: the user's own copy is read as it came,

    MHIST/annotations.csv       Image Name, Majority Vote Label, Number of Annotators who Selected SSA (Out of 7), Partition
    MHIST/images/*.png

and checked against what was published, for nothing about it may be guessed. Tiles that ``data/tiles.py`` draws lie in the
same layout with ``generated.json`` beside them; they are a data source of another name, so nothing measured on them is ever
shown as MHIST.

Shapes: N images, H×W pixels.
"""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, get_args

import numpy as np
from PIL import Image

from raydistill.data.folder import DECODING_ERRORS
from raydistill.data.images import ImageSet
from raydistill.data.sources import Found, Part, Source, data_roots, one_line
from raydistill.errors import DataError

ANNOTATIONS, IMAGES, MARKER = "annotations.csv", "images", "generated.json"
NAME, LABEL, VOTES, PARTITION = COLUMNS = (
    "Image Name",
    "Majority Vote Label",
    "Number of Annotators who Selected SSA (Out of 7)",
    "Partition",
)
CLASSES = ("HP", "SSA")
PARTS: tuple[Part, ...] = get_args(Part)
ANNOTATORS = 7
GENERATED = "generated tiles"
"The source's name of what ``data/tiles.py`` draws, wherever a result is shown."


class Tile(NamedTuple):
    """One line of the annotations."""

    name: str
    label: int
    "Index in ``CLASSES``."
    votes: int
    "Of ``ANNOTATORS``, how many said SSA."
    part: Part

    @property
    def agreement(self) -> int:
        """How many annotators said what the majority did, 4 to 7."""
        return max(self.votes, ANNOTATORS - self.votes)


class Content(NamedTuple):
    """What a copy must hold: (H = W) of an image, and how many there are of (part, class), or of a part as a whole."""

    side: int
    counts: dict[tuple[Part, str | None], int]


PUBLISHED = Content(224, {("train", None): 2175, ("test", "HP"): 617, ("test", "SSA"): 360})


class MHIST(Source):
    """The user's own copy, in ``MHIST/`` below a data root, or as the root itself.

    Args:
        resolution: side in pixels that images are averaged down to; ``None``: as they are (224).
        min_agreement: training images on which fewer of the seven annotators agreed are left out; ``None``: none are.
            Test images are never left out.
    """

    settings = ("resolution", "min_agreement")
    augment = "histology"
    how_to_get = (
        "sign the agreement at https://bmirds.github.io/MHIST/ (nothing is fetched for you), unpack annotations.csv and "
        "images/ into DATA/MHIST, and name DATA with --data-root or RAYDISTILL_DATA"
    )
    name: ClassVar[str] = "MHIST"

    def __init__(self, resolution: int | None = None, min_agreement: int | None = None) -> None:
        self.resolution = resolution
        self.min_agreement = min_agreement

    def train(self, root: Path | None = None) -> ImageSet:
        """The training images that enough annotators agreed on; the test images are not opened."""
        return self._read(root, "train")

    def test(self, root: Path | None = None) -> ImageSet:
        """All test images."""
        return self._read(root, "test")

    def find(self, root: Path | None = None) -> Found | None:
        """Counted from the annotations; whether each image has a file is looked up too."""
        folder = self._look(root)
        if folder is None:
            return None
        side, parts = self._listed(folder)
        self._all_there(folder, [tile for tiles in parts.values() for tile in tiles])
        return Found(str(folder), sum(map(len, parts.values())), len(CLASSES), (3, side, side))

    def alias(self, root: Path | None = None) -> str | None:
        """``GENERATED`` where the first copy that is found was generated."""
        first = next(iter(_copies(root)), None)
        return GENERATED if first is not None and _is_generated(first) else None

    def content(self, folder: Path) -> Content:
        """What the copy in ``folder`` must hold: as published."""
        return PUBLISHED

    def fits(self, folder: Path) -> bool:
        """Whether the copy in ``folder`` is this source's: not generated."""
        return not _is_generated(folder)

    def _look(self, root: Path | None) -> Path | None:
        return next(filter(self.fits, _copies(root)), None)

    def _read(self, root: Path | None, part: Part) -> ImageSet:
        folder = self._look(root)
        if folder is None:
            places = " or ".join(str(place) for place in _places(root))
            marked = "" if type(self) is MHIST else f" with {MARKER} beside it"
            raise DataError(f"{self.name}: no {ANNOTATIONS}{marked} in {places}; {self.how_to_get}")
        side, parts = self._listed(folder)
        tiles = parts[part]
        self._all_there(folder, tiles)
        images = np.empty((len(tiles), 3, side, side), dtype=np.uint8)
        for row, tile in zip(images, tiles, strict=True):
            row[:] = self._pixels(folder / IMAGES / tile.name, self.content(folder).side, side)
        return ImageSet(images, np.array([tile.label for tile in tiles], dtype=np.int64), CLASSES)

    def _listed(self, folder: Path) -> tuple[int, dict[Part, list[Tile]]]:
        """(side of the images as given, each part's tiles as given), with everything checked that the annotations say."""
        content = self.content(folder)
        side = self.resolution or content.side
        if content.side % side:
            raise DataError(
                f"data.resolution={side}: the images in {folder} are {content.side}x{content.side} pixels, which is no "
                f"multiple of it; leave it out, or use a smaller one"
            )
        tiles = self._annotations(folder / ANNOTATIONS)
        self._check_counts(folder / ANNOTATIONS, tiles, content)
        least = self.min_agreement or 0
        train = [tile for tile in tiles if tile.part == "train" and tile.agreement >= least]
        for label, name in enumerate(CLASSES):
            left = sum(tile.label == label for tile in train)
            if least and left < 2:
                raise DataError(
                    f"data.min_agreement={least} leaves {left} training image(s) of class {name!r} in {folder}, and 2 or "
                    f"more are needed; lower it"
                )
        return side, {"train": train, "test": [tile for tile in tiles if tile.part == "test"]}

    def _annotations(self, file: Path) -> list[Tile]:
        try:
            with open(file, encoding="utf-8-sig", newline="") as stream:
                lines = csv.DictReader(stream)
                lacking = [column for column in COLUMNS if column not in (lines.fieldnames or ())]
                if lacking:
                    raise self._damaged(f"{file} has no column {lacking[0]!r}")
                tiles: dict[str, Tile] = {}
                for line in lines:
                    tile = self._tile(line, f"{file}, line {lines.line_num}")
                    if tile.name in tiles:
                        raise self._damaged(f"{file}, line {lines.line_num}: {tile.name} is listed twice")
                    tiles[tile.name] = tile
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise self._damaged(f"cannot read {file} ({one_line(error)})") from None
        return list(tiles.values())

    def _tile(self, line: dict[str, Any], where: str) -> Tile:
        name, label, text, part = (line[column] or "" for column in COLUMNS)
        if not name or name != os.path.basename(name) or "\\" in name:
            raise self._damaged(f"{where}: {NAME} is {name!r}, where a file in {IMAGES}/ belongs")
        if label not in CLASSES:
            raise self._damaged(f"{where}: {LABEL} is {label!r}, where {' or '.join(CLASSES)} belongs")
        if part not in PARTS:
            raise self._damaged(f"{where}: {PARTITION} is {part!r}, where {' or '.join(PARTS)} belongs")
        if text not in map(str, range(ANNOTATORS + 1)):
            raise self._damaged(f"{where}: {text!r} annotators selected SSA, where 0 to {ANNOTATORS} belong")
        votes = int(text)
        if CLASSES[2 * votes > ANNOTATORS] != label:
            raise self._damaged(f"{where}: {votes} of {ANNOTATORS} annotators selected SSA, but the label is {label}")
        return Tile(name, CLASSES.index(label), votes, PARTS[PARTS.index(part)])

    def _check_counts(self, file: Path, tiles: Sequence[Tile], content: Content) -> None:
        there = Counter((tile.part, CLASSES[tile.label]) for tile in tiles)
        for (part, name), wanted in content.counts.items():
            found = there[part, name] if name else sum(there[part, known] for known in CLASSES)
            if found != wanted:
                images = f"{part} images" + (f" of class {name}" if name else "")
                raise self._damaged(f"{file} lists {found:,} {images}, and there are {wanted:,}")

    def _all_there(self, folder: Path, tiles: Iterable[Tile]) -> None:
        try:
            files = set(os.listdir(folder / IMAGES))
        except OSError as error:
            raise self._damaged(f"cannot read {folder / IMAGES} ({error.strerror or error})") from None
        lacking = [tile.name for tile in tiles if tile.name not in files]
        if lacking:
            more = f" nor {len(lacking) - 1:,} other images" if len(lacking) > 1 else ""
            raise self._damaged(f"{folder / IMAGES} has no {lacking[0]}{more} listed in {ANNOTATIONS}")

    def _pixels(self, file: Path, side: int, wanted: int) -> np.ndarray:
        """uint8 [3, wanted, wanted]."""
        try:
            with Image.open(file) as image:
                if image.size != (side, side):
                    width, height = image.size
                    raise self._damaged(f"{file} is {width}x{height} pixels, where {side}x{side} belong")
                if image.mode not in ("RGB", "RGBA"):
                    raise self._damaged(f"{file} has pixels of kind {image.mode!r}, where 8-bit RGB belong")
                pixels = image.convert("RGB")
        except DECODING_ERRORS as error:
            raise self._damaged(f"cannot read the image {file} ({one_line(error)})") from None
        if side != wanted:
            pixels = pixels.reduce(side // wanted)
        return np.asarray(pixels).transpose(2, 0, 1)

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self.name}: {what}; get it again: {self.how_to_get}")


class GeneratedTiles(MHIST):
    """What ``raydistill data --generate-tiles DIR`` draws, in MHIST's layout, for whoever has no copy of MHIST."""

    how_to_get = "raydistill data --generate-tiles DIR draws them; name DIR with --data-root or RAYDISTILL_DATA"
    name = GENERATED

    def alias(self, root: Path | None = None) -> str | None:
        """They have one name."""
        return None

    def fits(self, folder: Path) -> bool:
        """Whether the marker is there."""
        return _is_generated(folder)

    def content(self, folder: Path) -> Content:
        """What the marker says."""
        file = folder / MARKER
        try:
            about = json.loads(file.read_text(encoding="utf-8"))
            side = int(about["side"])
            counts: dict[tuple[Part, str | None], int] = {
                (part, name): int(about[part][name]) for part in PARTS for name in CLASSES
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"{file} is damaged ({type(error).__name__}: {one_line(error)})") from None
        if side < 1:
            raise self._damaged(f"{file} is damaged (side={side})")
        return Content(side, counts)


def _places(root: Path | None) -> list[Path]:
    return [place for base in data_roots(root) for place in (base / "MHIST", base)]


def _copies(root: Path | None) -> Iterable[Path]:
    # Path.is_file would raise where a folder may not be entered.
    return (place for place in _places(root) if os.path.isfile(place / ANNOTATIONS))


def _is_generated(folder: Path) -> bool:
    return os.path.exists(folder / MARKER)
