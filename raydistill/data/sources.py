"""Where real images come from: the contract ``Source``, and the sources that scikit-learn and torchvision know.

The training part and the test part are read by separate calls, and where they lie in separate files, reading the one
never opens the other: a machine that searches need not even hold the test part.

Shapes: N images, K channels, H×W pixels, C classes.
"""

import os
import socket
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from raydistill.data.idx import idx_length, read_idx
from raydistill.data.images import ImageSet, Normaliser
from raydistill.errors import DataError

Part = Literal["train", "test"]

DOWNLOAD_TIMEOUT = 30.0
"Seconds without an answer after which a download has failed."

TEN_DIGITS = tuple("0123456789")


class Found(NamedTuple):
    """What lies on the disk: where, N of both parts together, C, and (K, H, W)."""

    where: str
    images: int
    classes: int
    shape: tuple[int, int, int]


def data_roots(root: Path | None = None) -> list[Path]:
    """The directories in which data are looked for, in order; a download goes into the first.

    Args:
        root: an explicit directory (``--data-root``); after it come ``$RAYDISTILL_DATA`` and ``~/.cache/raydistill``.
    """
    named = [root, os.environ.get("RAYDISTILL_DATA") or None, "~/.cache/raydistill"]
    return list(dict.fromkeys(Path(place).expanduser() for place in named if place is not None))


def one_line(error: BaseException) -> str:
    """The text of a foreign error as one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


class Source(ABC):
    """A data source; built without arguments, or with the data settings that ``settings`` names, as keywords."""

    settings: ClassVar[tuple[str, ...]] = ()
    "Fields of ``DataConfig`` that the constructor takes."
    required: ClassVar[str | None] = None
    "The one of them that must be given: without it the source is nowhere."
    normaliser: ClassVar[Normaliser | None] = None
    "The mean and standard deviation that the field publishes; ``None``: they are fitted on the training images."
    augment: ClassVar[str]
    "The DSA strategy that suits these images."
    how_to_get: ClassVar[str]
    "What a user does to have the data, in one line."

    @abstractmethod
    def train(self, root: Path | None = None) -> ImageSet:
        """The whole training part.

        Args:
            root: where to look first, see ``data_roots``.

        Raises:
            DataError: missing or damaged.
        """

    @abstractmethod
    def test(self, root: Path | None = None) -> ImageSet:
        """The test part, of the same classes and image shape.

        Args:
            root: where to look first, see ``data_roots``.

        Raises:
            DataError: missing or damaged.
        """

    def expect_test(self, root: Path | None = None) -> None:
        """Make sure, without reading it, that the test part will be there when it is wanted.

        Raises:
            DataError: it is missing or visibly damaged.
        """
        if self.find(root) is None:
            raise DataError(f"there is no test part beside the training images; {self.how_to_get}")

    def alias(self, root: Path | None = None) -> str | None:
        """The registered source that the data found here belong to, where that is another than was asked for."""
        return None

    @abstractmethod
    def find(self, root: Path | None = None) -> Found | None:
        """What lies on the disk, by names and headers alone; ``None`` where a part is missing.

        Raises:
            DataError: visibly damaged.
        """


class Digits(Source):
    """The 1,797 handwritten 8×8 digits that scikit-learn ships (Alpaydin & Kaynak, 1998), made bytes from 0 … 16.

    They come undivided: of each class every fifth image, in the order in which they are shipped, is the test part.
    """

    augment = "digits"
    how_to_get = "nothing to do: scikit-learn ships them"

    def train(self, root: Path | None = None) -> ImageSet:
        """1,442 images; ``root`` is not looked at."""
        images, in_test = self._read()
        return images.subset(np.flatnonzero(~in_test))

    def test(self, root: Path | None = None) -> ImageSet:
        """355 images; ``root`` is not looked at."""
        images, in_test = self._read()
        return images.subset(np.flatnonzero(in_test))

    def find(self, root: Path | None = None) -> Found:
        """They are always there."""
        return Found("scikit-learn", 1797, 10, (1, 8, 8))

    def _read(self) -> tuple[ImageSet, np.ndarray]:
        from sklearn.datasets import load_digits

        raw: Any = load_digits()
        pixels = np.rint(raw.images * (255 / 16)).astype(np.uint8)[:, None]
        images = ImageSet(pixels, raw.target.astype(np.int64), TEN_DIGITS)
        in_test = np.zeros(len(images), dtype=bool)
        for members in images.by_class():
            in_test[members[4::5]] = True
        return images, in_test


def _with_torchvision(name: str, call: str = "D('DATA', download=True)") -> str:
    return (
        f'with a network at hand run python -c "from torchvision.datasets import {name} as D; {call}" '
        f"and name the folder DATA with --data-root or RAYDISTILL_DATA"
    )


class Downloaded(Source):
    """A source that torchvision has under the same class name: in its layout; it fetches what is missing."""

    files: ClassVar[dict[Part, tuple[str, ...]]]
    "Each part's files, relative to a data root."
    published: ClassVar[tuple[int, int, tuple[int, int, int]]]
    "N of both parts together, C and (K, H, W), as published."

    @abstractmethod
    def read(self, base: Path, part: Part) -> ImageSet:
        """Read a part from the data root ``base``, where all its files are."""

    def train(self, root: Path | None = None) -> ImageSet:
        """The whole training part, fetched if it is nowhere."""
        return self.read(self._locate(root, "train"), "train")

    def test(self, root: Path | None = None) -> ImageSet:
        """The test part, fetched if it is nowhere."""
        return self.read(self._locate(root, "test"), "test")

    def find(self, root: Path | None = None) -> Found | None:
        """By file names, with the published numbers; checksums are compared when the files are read."""
        train, test = self.look(root, "train"), self.look(root, "test")
        return Found(str(train), *self.published) if train and test else None

    def expect_test(self, root: Path | None = None) -> None:
        """As ``Source.expect_test``; what is missing is fetched."""
        self._locate(root, "test")
        self.find(root)

    def download(self, base: Path, part: Part) -> None:
        """Let torchvision fetch into ``base``; it compares what came with the published checksums."""
        self.in_torchvision()(str(base), train=part == "train", download=True)

    def in_torchvision(self) -> Any:
        """The class of the same name in ``torchvision.datasets``."""
        import torchvision.datasets

        return getattr(torchvision.datasets, type(self).__name__)

    def look(self, root: Path | None, part: Part) -> Path | None:
        """The first data root with all files of ``part``."""
        for base in data_roots(root):
            # Path.is_file would raise where a folder may not be entered.
            if all(os.path.isfile(base / file) for file in self.files[part]):
                return base
        return None

    def _locate(self, root: Path | None, part: Part) -> Path:
        base = self.look(root, part)
        if base is not None:
            return base
        roots = data_roots(root)
        try:
            with _socket_timeout(DOWNLOAD_TIMEOUT):
                self.download(roots[0], part)
        except (OSError, RuntimeError, ValueError, EOFError, HTTPException, tarfile.TarError) as error:
            raise DataError(
                f"{type(self).__name__}: no {' and '.join(self.files[part])} in {' or '.join(map(str, roots))}, "
                f"and the download failed ({one_line(error)}); {self.how_to_get}"
            ) from None
        return roots[0]


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    # torchvision sets none and would wait for minutes where a firewall swallows packets.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _idx_files(name: str) -> dict[Part, tuple[str, ...]]:
    return {
        "train": (f"{name}/raw/train-images-idx3-ubyte", f"{name}/raw/train-labels-idx1-ubyte"),
        "test": (f"{name}/raw/t10k-images-idx3-ubyte", f"{name}/raw/t10k-labels-idx1-ubyte"),
    }


class MNIST(Downloaded):
    """Handwritten digits, 60,000 + 10,000 of 1×28×28 (LeCun, Cortes & Burges, 1998)."""

    files = _idx_files("MNIST")
    published = (70_000, 10, (1, 28, 28))
    normaliser: ClassVar[Normaliser | None] = Normaliser(mean=(0.1307,), std=(0.3081,))
    augment = "digits"
    how_to_get = _with_torchvision("MNIST")
    classes: ClassVar[tuple[str, ...]] = TEN_DIGITS

    def read(self, base: Path, part: Part) -> ImageSet:
        """Read the IDX files themselves: torchvision would ask for the test files too."""
        images, labels = (base / file for file in self.files[part])
        return ImageSet(read_idx(images, (28, 28))[:, None], read_idx(labels, ()).astype(np.int64), self.classes)

    def find(self, root: Path | None = None) -> Found | None:
        """Counted from the files' headers."""
        train, test = self.look(root, "train"), self.look(root, "test")
        if train is None or test is None:
            return None
        files = [train / self.files["train"][0], test / self.files["test"][0]]
        return Found(str(train), sum(idx_length(file, (28, 28)) for file in files), *self.published[1:])


class FashionMNIST(MNIST):
    """Pictures of clothing, 60,000 + 10,000 of 1×28×28 (Xiao, Rasul & Vollgraf, 2017)."""

    files = _idx_files("FashionMNIST")
    normaliser = Normaliser(mean=(0.2861,), std=(0.3530,))
    augment = "natural"
    how_to_get = _with_torchvision("FashionMNIST")
    classes = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip


class KMNIST(MNIST):
    """Cursive Japanese characters, 60,000 + 10,000 of 1×28×28 (Clanuwat et al., 2018)."""

    files = _idx_files("KMNIST")
    normaliser = None
    how_to_get = _with_torchvision("KMNIST")
    classes = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


class CIFAR10(Downloaded):
    """Tiny photographs, 50,000 + 10,000 of 3×32×32 in 10 classes (Krizhevsky, 2009)."""

    files = {
        "train": tuple(
            f"cifar-10-batches-py/{file}" for file in (*(f"data_batch_{i}" for i in range(1, 6)), "batches.meta")
        ),
        "test": ("cifar-10-batches-py/test_batch", "cifar-10-batches-py/batches.meta"),
    }
    normaliser = Normaliser(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
    augment = "natural"
    how_to_get = _with_torchvision("CIFAR10")
    published = (60_000, 10, (3, 32, 32))

    def read(self, base: Path, part: Part) -> ImageSet:
        """Let torchvision read: it unpickles a file only once its MD5 is the published one."""
        whole = self.in_torchvision()
        other = "test_list" if part == "train" else "train_list"
        # With the other part's list empty, torchvision neither asks for its files nor opens them.
        only = type(whole.__name__, (whole,), {other: []})
        try:
            data = only(str(base), train=part == "train")
        except (RuntimeError, OSError) as error:
            raise _damaged(self, base, part, error) from None
        images = np.ascontiguousarray(data.data.transpose(0, 3, 1, 2))
        return ImageSet(images, np.asarray(data.targets, dtype=np.int64), tuple(data.classes))


class CIFAR100(CIFAR10):
    """Tiny photographs, 50,000 + 10,000 of 3×32×32 in 100 classes (Krizhevsky, 2009)."""

    files = {
        "train": ("cifar-100-python/train", "cifar-100-python/meta"),
        "test": ("cifar-100-python/test", "cifar-100-python/meta"),
    }
    normaliser = Normaliser(mean=(0.5071, 0.4866, 0.4409), std=(0.2673, 0.2564, 0.2762))
    how_to_get = _with_torchvision("CIFAR100")
    published = (60_000, 100, (3, 32, 32))


class SVHN(Downloaded):
    """House numbers, 73,257 + 26,032 digits of 3×32×32 (Netzer et al., 2011); the extra part is not used."""

    files = {"train": ("train_32x32.mat",), "test": ("test_32x32.mat",)}
    normaliser = Normaliser(mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970))
    augment = "digits"
    how_to_get = _with_torchvision("SVHN", "[D('DATA', s, download=True) for s in ('train', 'test')]")
    published = (99_289, 10, (3, 32, 32))

    def read(self, base: Path, part: Part) -> ImageSet:
        """Let torchvision read; it asks for this part's file alone."""
        try:
            data = self.in_torchvision()(str(base), split=part)
        except (RuntimeError, OSError) as error:
            raise _damaged(self, base, part, error) from None
        return ImageSet(np.ascontiguousarray(data.data), data.labels.astype(np.int64), TEN_DIGITS)

    def download(self, base: Path, part: Part) -> None:
        """Fetch the one file."""
        self.in_torchvision()(str(base), split=part, download=True)


def _damaged(source: Downloaded, base: Path, part: Part, error: Exception) -> DataError:
    files = " or ".join(source.files[part])
    return DataError(
        f"{type(source).__name__}: {files} in {base} is not as published ({one_line(error)}); "
        f"delete it and get it again: {source.how_to_get}"
    )
