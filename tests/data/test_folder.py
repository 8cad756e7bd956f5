"""A user's own image folder: what becomes of grey, colour, sizes and order."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from raydistill.data.folder import ImageFolder
from raydistill.errors import DataError
from tests.data.made import pixels, write_folder, write_image


def test_classes_and_files_are_sorted_by_name(tmp_path: Path) -> None:
    images = pixels(4, 8, 8)
    for name, image in (("b/2", images[3]), ("a/10", images[0]), ("b/1", images[2]), ("a/9", images[1])):
        write_image(tmp_path / "train" / f"{name}.png", image)
    read = ImageFolder(tmp_path).train()
    assert read.classes == ("a", "b")
    assert read.labels.tolist() == [0, 0, 1, 1]
    assert np.array_equal(read.images, images[:, None])


def test_colour_is_read_channels_first(tmp_path: Path) -> None:
    images = pixels(2, 8, 9, 3)
    write_image(tmp_path / "train" / "a" / "x.png", images[0])
    write_image(tmp_path / "train" / "b" / "x.png", images[1])
    read = ImageFolder(tmp_path).train()
    assert read.shape == (3, 8, 9)
    assert np.array_equal(read.images, images.transpose(0, 3, 1, 2))


def test_one_coloured_image_makes_all_rgb(tmp_path: Path) -> None:
    write_folder(tmp_path)
    assert ImageFolder(tmp_path).train().shape == (1, 8, 8)
    write_image(tmp_path / "train" / "cat" / "0.png", pixels(1, 8, 8, 3)[0])
    read = ImageFolder(tmp_path).train()
    assert read.shape == (3, 8, 8)
    assert np.array_equal(read.images[1, 0], read.images[1, 2])
    assert ImageFolder(tmp_path).test().shape == (3, 8, 8)


def test_test_images_become_what_training_images_are(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_image(tmp_path / "test" / "cat" / "0.png", np.full((8, 8, 3), 77, np.uint8))
    test = ImageFolder(tmp_path).test()
    assert test.shape == (1, 8, 8)
    assert (test.images[0] == 77).all()


def test_palettes_alpha_and_bilevel_are_understood(tmp_path: Path) -> None:
    colour = np.zeros((8, 8, 3), np.uint8)
    colour[..., 1] = 255
    for name, mode in (("a", "P"), ("b", "RGBA")):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.fromarray(colour).convert(mode).save(tmp_path / "train" / name / "x.png")
    read = ImageFolder(tmp_path).train()
    assert np.array_equal(read.images, np.stack([colour, colour]).transpose(0, 3, 1, 2))
    Image.fromarray(colour).convert("1").save(tmp_path / "train" / "b" / "y.png")
    assert ImageFolder(tmp_path).train().images[2].max() == 255


def test_sizes_are_made_equal_on_request(tmp_path: Path) -> None:
    write_folder(tmp_path, side=8)
    write_image(tmp_path / "train" / "cat" / "wide.png", np.full((10, 30), 200, np.uint8))
    read = ImageFolder(tmp_path, image_size=16).train()
    assert read.shape == (1, 16, 16)
    assert (read.images[4] == 200).all()
    assert ImageFolder(tmp_path, image_size=16).test().shape == (1, 16, 16)


def test_resizing_is_pillows_bilinear(tmp_path: Path) -> None:
    write_folder(tmp_path)
    file = tmp_path / "train" / "cat" / "0.png"
    expected = np.asarray(Image.open(file).resize((13, 13), Image.Resampling.BILINEAR))
    assert np.array_equal(ImageFolder(tmp_path, image_size=13).train().images[0, 0], expected)


def test_what_is_no_image_by_name_is_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("x")
    (tmp_path / "train" / "readme.md").write_text("x")
    (tmp_path / "train" / ".cache").mkdir()
    shutil.move(tmp_path / "train" / "dog" / "0.png", tmp_path / "train" / "dog" / "0.PNG")
    assert len(ImageFolder(tmp_path).train()) == 12


def test_a_relative_path_is_looked_for_here_then_in_the_data_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "root" / "pets", per_class=(3, 2))
    source = ImageFolder(Path("pets"))
    assert len(source.train(tmp_path / "root")) == 9
    write_folder(tmp_path / "pets", per_class=(5, 2))
    assert len(source.train(tmp_path / "root")) == 15


def test_training_images_are_read_without_the_test_part(tmp_path: Path) -> None:
    write_folder(tmp_path)
    expected = ImageFolder(tmp_path).train()
    shutil.rmtree(tmp_path / "test")
    assert np.array_equal(ImageFolder(tmp_path).train().images, expected.images)
    assert ImageFolder(tmp_path).find() is None
    with pytest.raises(DataError, match="no test/"):
        ImageFolder(tmp_path).test()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_images_are_read_or_told(tmp_path: Path, data: st.DataObject) -> None:
    write_folder(tmp_path, classes=("a", "b"), per_class=(1, 1))
    kind = data.draw(st.sampled_from(["PNG", "JPEG", "BMP", "PPM", "WEBP"]))
    buffer = io.BytesIO()
    Image.fromarray(pixels(1, 8, 8)[0]).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    file = tmp_path / "train" / "a" / "0.png"
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert ImageFolder(tmp_path, image_size=8).train().shape[1:] == (8, 8)
    except DataError as caught:
        told = str(caught)
        assert str(file) in told
        assert "\n" not in told
