"""From a name to images: the training part (split into train and validation) and, apart from it, the test part.

The two are separate calls on purpose. A search is handed what ``load_train`` returns and nothing else, so nothing in
it can read the test set; ``load_test`` is for the final table, the network that NAS confirms, and for counting them (``plan``).
"""

import hashlib
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from raydistill import registry
from raydistill.config import Config
from raydistill.data.images import Encoding, ImageSet, Normaliser
from raydistill.data.sources import Part, Source
from raydistill.data.split import split
from raydistill.data.whiten import Whitener
from raydistill.errors import DataError

TAKERS = {"path": "folder", "image_size": "folder", "resolution": "MHIST", "min_agreement": "MHIST"}
"Settings that not every source has, each with one that does."


class DataConfig(Config):
    """Which real data, and how they are divided."""

    source: str = "digits"
    """A name from the registry of data sources: digits, MNIST, FashionMNIST, KMNIST, CIFAR10, CIFAR100, SVHN, MHIST,
    generated tiles, folder."""
    path: Path | None = None
    "For the source ``folder``: a folder with train/CLASS/*.png and test/CLASS/*.png."
    image_size: int | None = Field(None, ge=8, le=1024)
    "For the source ``folder``: resize to this side in pixels; required when sizes differ."
    resolution: Literal[224, 112, 56] | None = None
    "For the source ``MHIST``: side in pixels that tiles are averaged down to; ``None`` keeps theirs, 224."
    min_agreement: int | None = Field(None, ge=4, le=7)
    "For the source ``MHIST``: leave out training images on which fewer of the seven annotators agreed."
    val_fraction: float = Field(0.1, gt=0, lt=1)
    "Share of the training images kept for selection, the same share of every class."
    split_seed: int = 0
    "Seed of the split; apart from the search's seed, so that several seeds share one split."
    zca: bool = False
    "Whiten with ZCA fitted on the training images, instead of standardising each channel."

    @model_validator(mode="after")
    def _has_effect(self) -> "DataConfig":
        source = source_class(self.source)
        for name, taker in TAKERS.items():
            if getattr(self, name) is not None and name not in source.settings:
                raise ValueError(
                    f"{name} has no effect on source={self.source!r}; leave it out, or use source={taker!r}"
                )
        if source.required and getattr(self, source.required) is None:
            raise ValueError(f"source={self.source!r} needs {source.required}; {source.how_to_get}")
        return self


class TrainData(NamedTuple):
    """All that a search may see of a data source."""

    train: ImageSet
    "What is distilled."
    val: ImageSet
    "What settings are selected on."
    encoding: Encoding
    "Pixel space → network input: a ``Normaliser``, or with ``zca`` a ``Whitener``."
    config: DataConfig | None = None
    "Where they come from; recorded with what is made of them."

    def digest(self) -> str:
        """Of all images and labels, 64 hex digits."""
        return hashlib.sha256((self.train.digest() + self.val.digest()).encode()).hexdigest()


def load_train(config: DataConfig, root: Path | None = None) -> TrainData:
    """Read the training part and split it; the test part is not looked at.

    Args:
        config: which data.
        root: where to look first, see ``data_roots``.

    Raises:
        DataError: missing or damaged data, or a class of fewer than two images.
        ConfigError: images too large for ``zca``.
    """
    config = named(config, root)
    source = build(config)
    whole = _checked(source.train(root), config.source, "train", source)
    train, val = (whole.subset(indices) for indices in split(whole, config.val_fraction, config.split_seed))
    if config.zca:
        return TrainData(train, val, Whitener.fit(train.images), config)
    return TrainData(train, val, source.normaliser or Normaliser.fit(train.images), config)


def load_test(config: DataConfig, root: Path | None = None) -> ImageSet:
    """Read the test part.

    Args:
        config: which data.
        root: where to look first, see ``data_roots``.

    Raises:
        DataError: missing or damaged data.
    """
    config = named(config, root)
    source = build(config)
    return _checked(source.test(root), config.source, "test", source)


def expect_test(config: DataConfig, root: Path | None = None) -> None:
    """Make sure, without reading it, that ``load_test`` will find the test part.

    Args:
        config: which data.
        root: where to look first, see ``data_roots``.

    Raises:
        DataError: missing or visibly damaged data.
    """
    build(named(config, root)).expect_test(root)


def named(config: DataConfig, root: Path | None = None) -> DataConfig:
    """``config`` by the name of the data that are there: generated tiles where MHIST was looked for stay generated tiles.

    Args:
        config: which data.
        root: where to look first, see ``data_roots``.
    """
    alias = build(config).alias(root)
    return config if alias is None else config.model_copy(update={"source": alias})


def source_class(name: str) -> type[Source]:
    """The class of a registered data source.

    Raises:
        UnknownNameError: with the nearest known names.
    """
    found: type[Source] = registry.resolve("data source", name)
    return found


def build(config: DataConfig) -> Source:
    """The data source that ``config`` names, with its settings."""
    cls = source_class(config.source)
    return cls(**{name: getattr(config, name) for name in cls.settings})


def _checked(images: ImageSet, name: str, part: Part, source: Source) -> ImageSet:
    """``images``, if they are what ``ImageSet`` promises and every class is there."""
    fault = _fault(images)
    if fault:
        raise DataError(f"{name}, {part} part: {fault}; mend the files or get them again: {source.how_to_get}")
    return images


def _fault(images: ImageSet) -> str | None:
    pixels, labels, count = images.images, images.labels, images.num_classes
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or labels.dtype != np.int64 or labels.ndim != 1:
        kinds = [f"{array.dtype} {list(array.shape)}" for array in (pixels, labels)]
        return f"images are {kinds[0]} and labels {kinds[1]} where uint8 [N, K, H, W] and int64 [N] belong"
    if len(pixels) != len(labels):
        return f"{len(pixels)} images but {len(labels)} labels"
    if count < 2:
        return f"{count} class(es), and 2 or more are needed"
    wrong = np.flatnonzero((labels < 0) | (labels >= count))
    if len(wrong):
        return f"label {labels[wrong[0]]} of image {wrong[0]} is out of range, there are classes 0 to {count - 1}"
    absent = np.flatnonzero(np.bincount(labels, minlength=count) == 0)
    if len(absent):
        return f"no image of class {images.classes[absent[0]]!r}"
    return None
