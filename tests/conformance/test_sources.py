"""The battery for data sources: all of ours pass it, and broken ones do not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raydistill.data.folder import ImageFolder
from raydistill.data.images import ImageSet, Normaliser
from raydistill.data.mhist import GeneratedTiles
from raydistill.data.sources import KMNIST, MNIST, Digits, FashionMNIST, Found, Source
from raydistill.data.tiles import Wanted, generate
from tests.conformance.sources import check_source
from tests.data.made import write_folder, write_image, write_mnist


def test_digits() -> None:
    check_source(Digits(), None)


@pytest.mark.parametrize("source", [MNIST, FashionMNIST, KMNIST])
def test_idx_sources_on_made_files(source: type[MNIST], tmp_path: Path) -> None:
    check_source(source(), write_mnist(tmp_path, source.__name__))


def test_real_mnist(mnist_root: Path) -> None:
    check_source(MNIST(), mnist_root)


def test_grey_folder(tmp_path: Path) -> None:
    check_source(ImageFolder(write_folder(tmp_path / "pets")), None)


def test_coloured_folder_of_several_sizes(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for part in ("train", "test"):
        for name in ("a", "b"):
            for number in range(3):
                height, width = rng.integers(9, 20, 2)
                picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
                write_image(tmp_path / part / name / f"{number}.png", picture)
    check_source(ImageFolder(tmp_path, image_size=12), None)


@pytest.mark.parametrize("settings", [{}, {"resolution": 56}, {"min_agreement": 6}])
def test_generated_tiles(settings: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp() / "tiles"
    if not folder.exists():
        generate(folder, Wanted(train=12, test=6, side=112, seed=0))
    check_source(GeneratedTiles(**settings), folder)


class Sound(Source):
    """Fulfils the contract; each test below breaks it in one place."""

    augment = "none"
    how_to_get = "it is made on the spot"

    def __init__(self) -> None:
        self.calls = 0

    def _part(self, count: int, stream: int) -> ImageSet:
        self.calls += 1
        images = np.random.default_rng(stream).integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
        return ImageSet(images, np.arange(count, dtype=np.int64) % 3, ("a", "b", "c"))

    def train(self, root: Path | None = None) -> ImageSet:
        return self._part(12, 0)

    def test(self, root: Path | None = None) -> ImageSet:
        return self._part(6, 1)

    def find(self, root: Path | None = None) -> Found | None:
        return Found("memory", 18, 3, (1, 8, 8))


class FloatImages(Sound):
    def train(self, root: Path | None = None) -> ImageSet:
        whole = super().train(root)
        return ImageSet((whole.images / 255).astype(np.float32), whole.labels, whole.classes)


class UnscaledImages(Sound):
    def train(self, root: Path | None = None) -> ImageSet:
        whole = super().train(root)
        return ImageSet(whole.images // 128, whole.labels, whole.classes)


class ChannelsLast(Sound):
    def train(self, root: Path | None = None) -> ImageSet:
        whole = super().train(root)
        return ImageSet(np.ascontiguousarray(whole.images.transpose(0, 2, 3, 1)), whole.labels, whole.classes)


class NarrowLabels(Sound):
    def test(self, root: Path | None = None) -> ImageSet:
        whole = super().test(root)
        return ImageSet(whole.images, whole.labels.astype(np.int32), whole.classes)


class LabelsFromOne(Sound):
    def train(self, root: Path | None = None) -> ImageSet:
        whole = super().train(root)
        return ImageSet(whole.images, whole.labels + 1, whole.classes)


class ClassMissing(Sound):
    def test(self, root: Path | None = None) -> ImageSet:
        whole = super().test(root)
        return whole.subset(np.flatnonzero(whole.labels < 2))


class ClassOfOne(Sound):
    def train(self, root: Path | None = None) -> ImageSet:
        return super().train(root).subset(np.arange(4))


class UnsortedClasses(Sound):
    """As a source that takes directories in the order in which the disk gives them."""

    def test(self, root: Path | None = None) -> ImageSet:
        whole = super().test(root)
        return ImageSet(whole.images, 2 - whole.labels, whole.classes[::-1])


class RepeatedNames(Sound):
    def _part(self, count: int, stream: int) -> ImageSet:
        whole = super()._part(count, stream)
        return ImageSet(whole.images, whole.labels, ("a", "b", "b"))


class OtherShape(Sound):
    def test(self, root: Path | None = None) -> ImageSet:
        whole = super().test(root)
        return ImageSet(np.ascontiguousarray(whole.images[..., :6]), whole.labels, whole.classes)


class Leaking(Sound):
    def test(self, root: Path | None = None) -> ImageSet:
        return super().train(root).subset(np.arange(6))


class Wavering(Sound):
    def train(self, root: Path | None = None) -> ImageSet:
        whole = super().train(root)
        return whole.subset(np.random.default_rng(self.calls).permutation(len(whole)))


class WrongNormaliser(Sound):
    normaliser = Normaliser(mean=(0.5,) * 3, std=(0.2,) * 3)


class WrongCount(Sound):
    def find(self, root: Path | None = None) -> Found | None:
        return Found("memory", 12, 3, (1, 8, 8))


class Unseen(Sound):
    def find(self, root: Path | None = None) -> Found | None:
        return None


def test_the_sound_one_passes() -> None:
    check_source(Sound(), None)


@pytest.mark.parametrize(
    ("broken", "breach"),
    [
        (FloatImages, "float32"),
        (UnscaledImages, "0 … 255"),
        (ChannelsLast, "channels"),
        (NarrowLabels, "int32"),
        (LabelsFromOne, "out of range"),
        (ClassMissing, "no test image"),
        (ClassOfOne, "cannot be split"),
        (UnsortedClasses, "order"),
        (RepeatedNames, "repeat"),
        (OtherShape, "shapes differ"),
        (Leaking, "6 of 6 test images"),
        (Wavering, "one call to the next"),
        (WrongNormaliser, "normaliser"),
        (WrongCount, "counts other images"),
        (Unseen, "does not see"),
    ],
)
def test_a_broken_source_is_caught(broken: Callable[[], Source], breach: str) -> None:
    with pytest.raises(AssertionError, match=breach):
        check_source(broken(), None)
