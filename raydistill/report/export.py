"""A distilled set for other programs: one picture, NumPy arrays, or a folder of image files.

Shapes: n images, K channels, H×W pixels, C classes.
"""

import io
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from raydistill.artifacts import write_bytes
from raydistill.data.distilled import DistilledSet
from raydistill.data.images import Normaliser
from raydistill.data.whiten import Whitener
from raydistill.errors import ConfigError, UnknownNameError

Format = Literal["png", "npz", "imagefolder"]

MOST_COLUMNS = 50
"Images in a row of the picture; a class with more takes several rows."
ENLARGED = 64
"Small images are enlarged by a whole number to about this side, in pixels."


def export(set_dir: Path, to: Format, out: Path) -> Path:
    """Write the stored images of a distilled set in a format that needs no raydistill.

    ``png``: one picture, one row a class, clipped to [0, 1] and 8 bits.
    ``npz``: NumPy arrays, none pickled: ``images`` float32 [n, K, H, W] in pixel space (0 black, 1 white, not clipped),
    ``labels`` int64 [n], ``classes`` text [C], ``factor``, and the encoding that networks were trained with: ``mean`` and
    ``std`` float32 [K], or for ZCA ``whitener_mean`` [K, H, W] and ``whitener_matrix`` [D, D], D = K·H·W.
    ``imagefolder``: ``out/train/CLASS/CLASS_I.png``, which torchvision's ``ImageFolder`` reads.

    Files of 8 bits hold [0, 1] alone: clipping loses the values outside, which distilled sets have and use, so accuracies
    can differ; ``npz`` keeps them. A multi-formation set is written as stored, each image holding factor² sub-images.

    Args:
        set_dir: the artefact folder, e.g. ``RUN/units/distill/final/set``.
        to: the format.
        out: the file for ``png`` and ``npz`` (the ending is added where it is missing), the folder for ``imagefolder``.

    Returns:
        The file written, or for ``imagefolder`` the folder ``out/train``.

    Raises:
        UnknownNameError: no such format.
        ArtifactError: no distilled set there, or a damaged one.
        ConfigError: a class whose name cannot be a folder's, for ``imagefolder``; channels that no picture can have.
        EnvironmentIssue: ``out`` cannot be written.
    """
    if to not in get_args(Format):
        raise UnknownNameError("export format", to, get_args(Format))
    images = DistilledSet.load(set_dir)
    if to == "npz":
        return _npz(images, _with_ending(out, ".npz"))
    channels = images.pixels.shape[1]
    if channels not in (1, 3):
        raise ConfigError(f"export: {to} needs 1 or 3 channels, the set has {channels}; use npz")
    return _grid(images, _with_ending(out, ".png")) if to == "png" else _folder(images, out / "train")


def _with_ending(file: Path, ending: str) -> Path:
    return file if file.suffix.lower() == ending else file.with_name(file.name + ending)


def eight_bits(images: DistilledSet) -> np.ndarray:
    """Pixels as uint8 [n, H, W, K], clipped to [0, 1] and rounded."""
    pixels = images.pixels.numpy().transpose(0, 2, 3, 1)
    rounded: np.ndarray = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
    return rounded


def _npz(images: DistilledSet, file: Path) -> Path:
    arrays: dict[str, Any] = {
        "images": images.pixels.numpy(),
        "labels": images.labels.numpy(),
        "classes": np.array(images.classes, dtype=np.str_),
        "factor": np.int64(images.factor),
    }
    match images.encoding:
        case Normaliser(mean=mean, std=std):
            arrays |= {"mean": np.array(mean, dtype=np.float32), "std": np.array(std, dtype=np.float32)}
        case Whitener(mean=mean, matrix=matrix):
            arrays |= {"whitener_mean": mean.numpy(), "whitener_matrix": matrix.numpy()}
    data = io.BytesIO()
    np.savez_compressed(data, allow_pickle=False, **arrays)
    write_bytes(file, data.getvalue())
    return file


def _grid(images: DistilledSet, file: Path) -> Path:
    from raydistill.report.pictures import mosaic, rows_by_class

    rows = rows_by_class(images.labels.numpy(), len(images.classes), most=len(images.labels))
    wrapped = [row[start : start + MOST_COLUMNS] for row in rows for start in range(0, len(row), MOST_COLUMNS)]
    scale = max(1, ENLARGED // images.pixels.shape[3])
    picture = mosaic(eight_bits(images), wrapped, scale, gap=2, empty=255)
    write_bytes(file, _png(picture.astype(np.uint8)))
    return file


def _folder(images: DistilledSet, folder: Path) -> Path:
    for name in images.classes:
        if name in ("", ".", "..") or any(sign in name for sign in "/\\:\0"):
            raise ConfigError(f"export: class {name!r} cannot name a folder; use npz, or rename the class")
    counts = dict.fromkeys(range(len(images.classes)), 0)
    for image, label in zip(eight_bits(images), images.labels.tolist(), strict=True):
        name = images.classes[label]
        write_bytes(folder / name / f"{name}_{counts[label]:04d}.png", _png(image))
        counts[label] += 1
    return folder


def _png(picture: np.ndarray) -> bytes:
    """uint8 [H, W, K] as PNG bytes."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(data, format="PNG")
    return data.getvalue()
