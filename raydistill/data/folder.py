"""A user's own images: ``PATH/train/CLASS/*.png`` and ``PATH/test/CLASS/*.png``, read with Pillow.

Shapes: N images, K channels, H×W pixels.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from raydistill.data.images import ImageSet
from raydistill.data.sources import Found, Part, Source, data_roots, one_line
from raydistill.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
GREY = frozenset({"1", "L"})
COLOUR = frozenset({"LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})

# What Pillow's decoders raise on a damaged file, as fuzzing them shows.
DECODING_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class _Layout(NamedTuple):
    """What all images become: Pillow mode ``L`` or ``RGB``, and (H, W)."""

    mode: str
    size: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1 if self.mode == "L" else 3, *self.size)


class ImageFolder(Source):
    """A folder with one sub-folder of images per class in ``train`` and the same classes in ``test``.

    Classes are sorted by name. Images are one-channel if every training image is grey, else RGB; an alpha channel is
    dropped. All have one size, or are resized (bilinear, without keeping the aspect).

    Args:
        path: the folder; a relative one is looked for here, then in the data roots.
        image_size: side in pixels to resize to; ``None`` keeps the size, which must then be the same everywhere.
    """

    settings = ("path", "image_size")
    required = "path"
    augment = "natural"
    how_to_get = "put images into PATH/train/CLASS/ and PATH/test/CLASS/ (png, jpg, ...) and set data.path=PATH"

    def __init__(self, path: Path, image_size: int | None = None) -> None:
        self.path = path
        self.image_size = image_size

    def train(self, root: Path | None = None) -> ImageSet:
        """All of ``PATH/train``."""
        files = self._list(self._base(root, "train") / "train")
        return _read(files, self._layout(files))

    def test(self, root: Path | None = None) -> ImageSet:
        """All of ``PATH/test``, made like the training images, of which only names and headers are looked at."""
        base, train, test = self._both(root)
        layout, size = self._layout(train), self._layout(test).size
        if size != layout.size:
            raise DataError(
                f"the images in {base / 'test'} are {size[1]}x{size[0]} pixels and those in {base / 'train'} "
                f"{layout.size[1]}x{layout.size[0]}; make all images one size, or set data.image_size to resize them"
            )
        return _read(test, layout)

    def expect_test(self, root: Path | None = None) -> None:
        """By names alone."""
        self._both(root)

    def _both(self, root: Path | None) -> tuple[Path, dict[str, list[Path]], dict[str, list[Path]]]:
        """Where the parts are, and their files by class; both have the same classes."""
        base = self._base(root, "test")
        train, test = self._list(base / "train"), self._list(base / "test")
        if list(test) != list(train):
            odd = sorted(set(train) ^ set(test))
            have, lack = ("train", "test") if odd[0] in train else ("test", "train")
            raise DataError(
                f"{base / have} has a class {odd[0]!r} and {base / lack} has none; both need the same classes"
            )
        return base, train, test

    def find(self, root: Path | None = None) -> Found | None:
        """Counted from names; the shape from the headers of the training images."""
        base = next(
            (place for place in self._places(root) if all(map(os.path.isdir, (place / "train", place / "test")))), None
        )
        if base is None:
            return None
        train, test = self._list(base / "train"), self._list(base / "test")
        count = sum(len(members) for files in (train, test) for members in files.values())
        return Found(str(base), count, len(train), self._layout(train).shape)

    def _places(self, root: Path | None) -> list[Path]:
        path = self.path.expanduser()
        return list(dict.fromkeys([path, *(base / path for base in data_roots(root))]))

    def _base(self, root: Path | None, part: Part) -> Path:
        places = self._places(root)
        for place in places:
            if os.path.isdir(place / part):
                return place
        raise DataError(f"folder: no {part}/ in {' or '.join(map(str, places))}; {self.how_to_get}")

    def _list(self, directory: Path) -> dict[str, list[Path]]:
        """Class → its image files, both sorted by name."""
        try:
            folders = sorted(f for f in directory.iterdir() if f.is_dir() and not f.name.startswith("."))
            files = {f.name: sorted(p for p in f.iterdir() if p.suffix.lower() in SUFFIXES) for f in folders}
        except OSError as error:
            raise DataError(f"cannot read {directory}: {error.strerror or error}; {self.how_to_get}") from None
        if len(files) < 2:
            raise DataError(
                f"{directory} has {len(files)} class folder(s), and 2 or more are needed; {self.how_to_get}"
            )
        for name, members in files.items():
            if not name.isprintable():  # bytes that are no UTF-8 are not, either; no picture or page can show them
                raise DataError(f"{directory} has a class folder {name!r}, whose name cannot be shown; rename it")
            if not members:
                known = " ".join(sorted(SUFFIXES))
                raise DataError(f"{directory / name} holds no images ({known}); add some, or delete the empty folder")
        return files

    def _layout(self, files: dict[str, list[Path]]) -> _Layout:
        grey, first, size = True, None, (0, 0)
        for file in (file for members in files.values() for file in members):
            with _opened(file) as image:
                grey = grey and image.mode in GREY
                width, height = image.size
            if first is None:
                first, size = file, (height, width)
            elif self.image_size is None and size != (height, width):
                raise DataError(
                    f"{file} is {width}x{height} pixels and {first} is {size[1]}x{size[0]}; make all images one size, "
                    f"or set data.image_size to resize them"
                )
        return _Layout("L" if grey else "RGB", (self.image_size, self.image_size) if self.image_size else size)


def _opened(file: Path) -> Image.Image:
    """An image whose header has been read, of 8 bits a channel."""
    try:
        image = Image.open(file)
    except DECODING_ERRORS as error:
        raise _unreadable(file, error) from None
    if image.mode not in GREY | COLOUR:
        image.close()
        raise DataError(f"{file} has pixels of kind {image.mode!r}; convert it to 8-bit grey or RGB")
    return image


def _read(files: dict[str, list[Path]], layout: _Layout) -> ImageSet:
    labelled: Sequence[tuple[int, Path]] = [(c, file) for c, members in enumerate(files.values()) for file in members]
    channels, height, width = layout.shape
    images = np.empty((len(labelled), channels, height, width), dtype=np.uint8)
    for row, (_, file) in zip(images, labelled, strict=True):
        with _opened(file) as image:
            try:
                pixels = image.convert(layout.mode)
            except DECODING_ERRORS as error:
                raise _unreadable(file, error) from None
        if (pixels.height, pixels.width) != layout.size:
            pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
        row[:] = np.asarray(pixels).reshape(height, width, channels).transpose(2, 0, 1)
    return ImageSet(images, np.array([c for c, _ in labelled], dtype=np.int64), tuple(files))


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(f"cannot read the image {file} ({one_line(error)}); mend it, or delete it")
