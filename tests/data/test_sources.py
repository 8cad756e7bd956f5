"""The named sources: where they look, what they read, and that one part's reading leaves the other's files alone."""

import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raydistill.data.sources import CIFAR10, CIFAR100, MNIST, SVHN, Digits, Downloaded, FashionMNIST, data_roots
from raydistill.errors import DataError
from tests.data.made import pixels, write_cifar, write_mnist, write_svhn


def test_roots_come_in_order_and_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "home" / ".cache" / "raydistill"
    assert data_roots() == [home]
    monkeypatch.setenv("RAYDISTILL_DATA", "~/sets")
    assert data_roots(Path("here")) == [Path("here"), tmp_path / "home" / "sets", home]
    assert data_roots(tmp_path / "home" / "sets") == [tmp_path / "home" / "sets", home]
    monkeypatch.setenv("RAYDISTILL_DATA", "")
    assert data_roots() == [home]


@pytest.mark.parametrize("place", ["argument", "environment", "home"])
def test_files_are_found_in_each_root(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = data_roots()[0] if place == "home" else tmp_path / place
    write_mnist(root)
    if place == "environment":
        monkeypatch.setenv("RAYDISTILL_DATA", str(root))
    named = root if place == "argument" else tmp_path / "empty"
    assert len(MNIST().train(named)) == 30


def test_the_argument_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYDISTILL_DATA", str(write_mnist(tmp_path / "env", per_class=(5, 2))))
    assert len(MNIST().train(write_mnist(tmp_path / "named", per_class=(3, 2)))) == 30
    assert len(MNIST().train()) == 50


def test_digits_are_bytes_and_every_fifth_is_test() -> None:
    from sklearn.datasets import load_digits

    train, test = Digits().train(), Digits().test()
    raw: Any = load_digits()
    assert (len(train), len(test)) == (1442, 355)
    assert train.images.min() == 0
    assert train.images.max() == 255
    threes = raw.images[raw.target == 3]
    mine = test.images[test.labels == 3, 0]
    assert np.array_equal(mine, np.rint(threes[4::5] * 255 / 16))


def test_idx_sources_read_images_and_labels_in_order(tmp_path: Path) -> None:
    write_mnist(tmp_path, "FashionMNIST")
    train, test = FashionMNIST().train(tmp_path), FashionMNIST().test(tmp_path)
    assert np.array_equal(train.images, pixels(30, 28, 28, stream=0)[:, None])
    assert np.array_equal(test.images, pixels(20, 28, 28, stream=1)[:, None])
    assert train.labels.tolist() == [i % 10 for i in range(30)]
    assert train.classes[9] == "Ankle boot"


@pytest.mark.parametrize(("source", "classes"), [(CIFAR10, 10), (CIFAR100, 100)])
def test_cifar_is_read(source: type[CIFAR10], classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch, source.__name__)
    train, test = source().train(tmp_path), source().test(tmp_path)
    assert train.shape == test.shape == (3, 32, 32)
    assert train.classes == test.classes == tuple(f"class {i}" for i in range(classes))
    assert np.array_equal(train.images[: 2 * classes], pixels(2 * classes, 3 * 1024, stream=40).reshape(-1, 3, 32, 32))
    assert test.labels.tolist() == list(range(classes))
    assert train.images.flags.c_contiguous


def test_svhn_is_read_and_its_ten_is_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_svhn(tmp_path, monkeypatch)
    train, test = SVHN().train(tmp_path), SVHN().test(tmp_path)
    assert np.array_equal(train.images, pixels(30, 3, 32, 32, stream=40))
    assert test.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert train.images.flags.c_contiguous


def written(source: Downloaded, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    match source:
        case MNIST():
            return write_mnist(root, type(source).__name__)
        case SVHN():
            return write_svhn(root, monkeypatch)
        case _:
            return write_cifar(root, monkeypatch, type(source).__name__)


@pytest.mark.parametrize("source", [MNIST(), CIFAR10(), CIFAR100(), SVHN()], ids=lambda s: type(s).__name__)
def test_each_part_is_read_without_the_other(
    source: Downloaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(source, tmp_path / "whole", monkeypatch)
    shared = set(source.files["train"]) & set(source.files["test"])
    for part, other in (("train", "test"), ("test", "train")):
        half = tmp_path / part
        shutil.copytree(tmp_path / "whole", half)
        for file in set(source.files[other]) - shared:  # type: ignore[index]
            (half / file).unlink()
        assert len(getattr(source, part)(half)) == len(getattr(source, part)(tmp_path / "whole"))
        with pytest.raises(DataError, match="download failed"):
            getattr(source, other)(half)


@pytest.mark.parametrize("source", [MNIST(), CIFAR10(), SVHN()], ids=lambda s: type(s).__name__)
def test_what_is_nowhere_is_told_in_one_line(source: Downloaded, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        source.train(tmp_path / "named")
    message = str(caught.value)
    assert message.startswith(f"{type(source).__name__}: no {source.files['train'][0]}")
    assert str(tmp_path / "named") in message
    assert str(tmp_path / "home" / ".cache" / "raydistill") in message
    assert "no network" in message
    assert message.endswith(source.how_to_get)
    assert "\n" not in message


def test_a_download_goes_into_the_first_root_under_a_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fetch(self: Downloaded, base: Path, part: str) -> None:
        seen.append((base, part, socket.getdefaulttimeout()))
        write_mnist(base)

    monkeypatch.setattr(Downloaded, "download", fetch)
    monkeypatch.setenv("RAYDISTILL_DATA", str(tmp_path / "env"))
    assert len(MNIST().test(tmp_path / "named")) == 20
    assert seen == [(tmp_path / "named", "test", 30.0)]
    assert socket.getdefaulttimeout() is None
    assert len(MNIST().train(tmp_path / "named")) == 30
    assert len(seen) == 1


def test_how_to_get_is_code_that_runs() -> None:
    for source in (MNIST, CIFAR10, SVHN):
        _, code, _ = source.how_to_get.split('"')
        compile(code, "how_to_get", "exec")
        assert f"import {source.__name__} as D" in code


class Planted:
    """What a malicious pickle holds: reading it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("file", ["data_batch_1", "batches.meta"])
def test_cifar_files_that_are_not_the_published_ones_are_not_unpickled(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    write_cifar(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / file).write_bytes(pickle.dumps(Planted(tmp_path / "harm")))
    with pytest.raises(DataError, match="not as published") as caught:
        CIFAR10().train(tmp_path)
    assert not (tmp_path / "harm").exists()
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_svhn_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_svhn(tmp_path, monkeypatch) / "train_32x32.mat"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"SVHN: train_32x32.mat in [^\n]* not as published[^\n]*delete it"):
        SVHN().train(tmp_path)
