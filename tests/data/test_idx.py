"""The IDX reader: what it reads, and what it says of files that it cannot read."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raydistill.data.idx import idx_length, read_idx
from raydistill.errors import DataError
from tests.data.made import pixels, write_idx


def test_it_reads_what_was_written(tmp_path: Path) -> None:
    images, labels = pixels(7, 5, 4), np.arange(7)
    write_idx(tmp_path / "images", images)
    write_idx(tmp_path / "labels", labels)
    assert np.array_equal(read_idx(tmp_path / "images", (5, 4)), images)
    assert np.array_equal(read_idx(tmp_path / "labels", ()), labels)
    assert idx_length(tmp_path / "images", (5, 4)) == 7


def test_it_reads_as_torchvision_does(mnist_root: Path) -> None:
    from torchvision.datasets.mnist import read_image_file, read_label_file

    folder = mnist_root / "MNIST" / "raw"
    images, labels = folder / "t10k-images-idx3-ubyte", folder / "t10k-labels-idx1-ubyte"
    assert np.array_equal(read_idx(images, (28, 28)), read_image_file(str(images)).numpy())
    assert np.array_equal(read_idx(labels, ()), read_label_file(str(labels)).numpy())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "starts with nothing"),
        (b"\x1f\x8b\x08\x00rest", "uncompressed"),
        (b"<html>404</html>", "no IDX file"),
        (bytes((0, 0, 8, 1, 0, 0, 0, 1, 5)), "3 dimension"),
        (bytes((0, 0, 13, 3)) + bytes(40), "no IDX file of bytes"),
        (bytes((0, 0, 8, 3, 0, 0)), "ends within its header"),
        (bytes((0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 2)) + bytes(6), "3x2 where 2x2 belong"),
        (bytes((0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2)) + bytes(7), "23 bytes where its header promises 24"),
        (bytes((0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2)) + bytes(9), "25 bytes where its header promises 24"),
        (bytes((0, 0, 8, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 2)), "0 items"),
    ],
)
def test_it_names_the_file_and_the_damage(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(file, (2, 2))
    message = str(caught.value)
    assert str(file) in message
    assert says in message
    assert "\n" not in message


def test_a_missing_file_and_a_folder_in_its_place_are_data_errors(tmp_path: Path) -> None:
    for place in (tmp_path / "absent", tmp_path):
        with pytest.raises(DataError, match="cannot read"):
            read_idx(place, ())


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_bytes_it_reads_them_or_says_why_not(tmp_path: Path, data: st.DataObject) -> None:
    file = tmp_path / "file"
    write_idx(file, pixels(3, 2, 2))
    content = bytearray(file.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert read_idx(file, (2, 2)).shape == (3, 2, 2)
    except DataError as caught:
        told = str(caught)
        assert str(file) in told
