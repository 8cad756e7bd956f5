"""What ``raydistill data`` shows."""

from pathlib import Path

import pytest

from raydistill import registry
from raydistill.data.describe import Row, describe
from tests.data.made import write_mnist


def by_name(root: Path | None = None) -> dict[str, Row]:
    return {row.name: row for row in describe(root)}


def test_every_source_has_a_row_and_a_way_to_it() -> None:
    rows = describe()
    assert [row.name for row in rows] == list(registry.SOURCES)
    assert all(row.how_to_get and "\n" not in row.how_to_get for row in rows)


def test_where_there_is_nothing() -> None:
    rows = by_name()
    assert rows["digits"][:6] == ("digits", "found", "scikit-learn", 1797, 10, (1, 8, 8))
    assert rows["folder"].status == "your own"
    missing = [name for name, row in rows.items() if row.status == "missing"]
    assert missing == ["MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100", "SVHN", "MHIST", "generated tiles"]
    assert all(rows[name][2:6] == (None,) * 4 for name in missing)


def test_what_is_found_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYDISTILL_DATA", str(write_mnist(tmp_path / "env", "KMNIST", (3, 2))))
    rows = by_name(write_mnist(tmp_path / "named", "MNIST", (4, 2)))
    assert rows["MNIST"][:6] == ("MNIST", "found", str(tmp_path / "named"), 60, 10, (1, 28, 28))
    assert rows["KMNIST"][:6] == ("KMNIST", "found", str(tmp_path / "env"), 50, 10, (1, 28, 28))


def test_published_sets_are_found_by_their_files(tmp_path: Path) -> None:
    from raydistill.data.sources import CIFAR100, SVHN

    for source in (CIFAR100, SVHN):
        for file in {*source.files["train"], *source.files["test"]}:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).touch()
    rows = by_name(tmp_path)
    assert rows["CIFAR100"][1:6] == ("found", str(tmp_path), 60_000, 100, (3, 32, 32))
    assert rows["SVHN"][1:6] == ("found", str(tmp_path), 99_289, 10, (3, 32, 32))


def test_half_a_set_is_missing(tmp_path: Path) -> None:
    (write_mnist(tmp_path) / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    assert by_name(tmp_path)["MNIST"].status == "missing"


def test_visible_damage_is_told(tmp_path: Path) -> None:
    file = write_mnist(tmp_path) / "MNIST/raw/t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    row = by_name(tmp_path)["MNIST"]
    assert row.status == "damaged"
    assert str(file) in row.how_to_get
    assert "delete it and get it again" in row.how_to_get
