"""What every data source must do; a new one passes this battery, or it is not one."""

from pathlib import Path

import numpy as np

from raydistill.data.augment import families
from raydistill.data.images import ImageSet
from raydistill.data.sources import Source

MOST_SHARED = 0.01
"Share of the test images that may also be training images: published sets are not quite free of twins."


def check_source(source: Source, root: Path | None) -> None:
    """Hold ``source``, whose data lie under ``root``, to the contract; raises ``AssertionError`` naming the breach."""
    test, train = source.test(root), source.train(root)
    for part, images in (("train", train), ("test", test)):
        _check_part(part, images)
    assert train.classes == test.classes, "the classes of both parts differ, in names or order"
    assert train.shape == test.shape, f"shapes differ: train {train.shape}, test {test.shape}"
    counts = np.bincount(train.labels, minlength=train.num_classes)
    assert counts.min() >= 2, "a class with fewer than two training images cannot be split"
    _check_apart(train, test)
    for part, first, again in (("train", train, source.train(root)), ("test", test, source.test(root))):
        assert np.array_equal(first.images, again.images), f"{part} images differ from one call to the next"
        assert np.array_equal(first.labels, again.labels), f"{part} labels differ from one call to the next"
        assert first.classes == again.classes, f"{part} classes differ from one call to the next"
    _check_description(source, root, train, test)


def _check_part(part: str, images: ImageSet) -> None:
    assert images.images.dtype == np.uint8, f"{part} images are {images.images.dtype}, not uint8"
    assert images.images.ndim == 4, f"{part} images are not [N, K, H, W]"
    assert images.images.flags.c_contiguous, f"{part} images are not contiguous"
    assert images.shape[0] in (1, 3), f"{part} images have {images.shape[0]} channels: is K the second axis?"
    assert images.images.max() > 1, f"{part} images are not in 0 … 255"
    assert images.labels.dtype == np.int64, f"{part} labels are {images.labels.dtype}, not int64"
    assert images.labels.shape == (len(images.images),), f"{part} has not one label an image"
    names = images.classes
    assert isinstance(names, tuple), "classes are no tuple"
    assert len(names) >= 2, "fewer than two classes"
    assert len(set(names)) == len(names), "class names repeat"
    assert all(isinstance(name, str) and name for name in names), "a class has no name"
    assert images.labels.min() >= 0, f"a {part} label is below 0"
    assert images.labels.max() < len(names), f"a {part} label is out of range"
    assert set(images.labels.tolist()) == set(range(len(names))), f"a class has no {part} image"


def _check_apart(train: ImageSet, test: ImageSet) -> None:
    known = {image.tobytes() for image in train.images}
    shared = sum(image.tobytes() in known for image in test.images)
    assert shared <= MOST_SHARED * len(test), f"{shared} of {len(test)} test images are training images"


def _check_description(source: Source, root: Path | None, train: ImageSet, test: ImageSet) -> None:
    families(source.augment)
    assert source.how_to_get, "how_to_get is empty"
    assert "\n" not in source.how_to_get, "how_to_get is not one line"
    if source.normaliser is not None:
        assert len(source.normaliser.mean) == train.shape[0], "the normaliser has another number of channels"
    found = source.find(root)
    assert found is not None, "find does not see data that train and test read"
    assert found.images == len(train) + len(test), "find counts other images than there are"
    assert found.classes == train.num_classes, "find counts other classes than there are"
    assert found.shape == train.shape, "find gives another shape"
