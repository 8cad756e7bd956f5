"""Loading by config: what comes out, and which settings are refused."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raydistill import registry
from raydistill.data.images import ImageSet, Normaliser
from raydistill.data.load import DataConfig, TrainData, build, load_test, load_train
from raydistill.data.sources import MNIST, Digits, Source
from raydistill.data.whiten import Whitener
from raydistill.errors import ConfigError, DataError, UnknownNameError
from tests.data.made import write_folder, write_mnist


def test_training_data_are_the_whole_part_divided(digits_data: TrainData) -> None:
    train, val = digits_data[:2]
    whole = Digits().train()
    together = sorted(image.tobytes() for part in (train, val) for image in part.images)
    assert together == sorted(image.tobytes() for image in whole.images)
    assert train.classes == val.classes == whole.classes
    assert train.images.dtype == np.uint8
    for label, members in enumerate(whole.by_class()):
        assert (val.labels == label).sum() == round(0.1 * len(members))


def test_the_validation_part_shares_no_image_with_the_others(digits_data: TrainData) -> None:
    parts = [digits_data.train, digits_data.val, load_test(DataConfig())]
    images = [{image.tobytes() for image in part.images} for part in parts]
    assert not images[0] & images[1]
    assert not images[2] & (images[0] | images[1])


def test_the_split_depends_on_its_seed_alone(digits_data: TrainData) -> None:
    same, other = load_train(DataConfig()), load_train(DataConfig(split_seed=1))
    assert np.array_equal(same.train.images, digits_data.train.images)
    assert np.array_equal(same.val.labels, digits_data.val.labels)
    assert not np.array_equal(other.val.images, digits_data.val.images)


def test_the_published_normaliser_is_used_where_there_is_one(tmp_path: Path) -> None:
    data = load_train(DataConfig(source="MNIST"), write_mnist(tmp_path))
    assert data.encoding == Normaliser(mean=(0.1307,), std=(0.3081,))


def test_else_it_is_fitted_on_the_training_images_alone(digits_data: TrainData) -> None:
    assert digits_data.encoding == Normaliser.fit(digits_data.train.images)
    assert digits_data.encoding != Normaliser.fit(digits_data.val.images)


def test_zca_is_fitted_on_the_training_images_alone() -> None:
    data = load_train(DataConfig(zca=True))
    assert isinstance(data.encoding, Whitener)
    expected = Whitener.fit(data.train.images)
    assert np.allclose(data.encoding.matrix, expected.matrix)
    assert data.encoding.mean.shape == (1, 8, 8)


def test_zca_takes_the_place_of_a_published_normaliser(tmp_path: Path) -> None:
    data = load_train(DataConfig(source="MNIST", zca=True), write_mnist(tmp_path))
    assert isinstance(data.encoding, Whitener)


def test_a_folder_is_loaded_with_its_settings(tmp_path: Path) -> None:
    config = DataConfig(source="folder", path=write_folder(tmp_path), image_size=10, val_fraction=0.25)
    train, val = load_train(config)[:2]
    assert (len(train), len(val), train.shape) == (9, 3, (1, 10, 10))
    assert load_test(config).shape == (1, 10, 10)
    assert load_test(DataConfig.parse(config.to_json())).classes == ("cat", "dog", "emu")


def test_real_mnist(mnist_root: Path) -> None:
    data, test = load_train(DataConfig(source="MNIST"), mnist_root), load_test(DataConfig(source="MNIST"), mnist_root)
    assert (len(data.train), len(data.val), len(test)) == (54_001, 5_999, 10_000)
    published = data.encoding
    assert isinstance(published, Normaliser)
    fitted = Normaliser.fit(data.train.images)
    assert fitted.mean == pytest.approx(published.mean, abs=1e-3)
    assert fitted.std == pytest.approx(published.std, abs=1e-3)


def test_training_data_need_no_test_files(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    folder = write_folder(tmp_path / "pets")
    for file in (tmp_path / "MNIST" / "raw").glob("t10k-*"):
        file.unlink()
    shutil.rmtree(folder / "test")
    assert len(load_train(DataConfig(source="MNIST"), tmp_path).train) == 20
    assert len(load_train(DataConfig(source="folder", path=folder)).train) == 9


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        ({"source": "MINST"}, UnknownNameError, "did you mean MNIST"),
        ({"source": "imagenet"}, UnknownNameError, "known: CIFAR10"),
        ({"source": "folder"}, ConfigError, "needs path; put images into PATH/train"),
        ({"source": "MNIST", "path": "x"}, ConfigError, "path has no effect on source='MNIST'"),
        ({"image_size": 32}, ConfigError, "image_size has no effect on source='digits'"),
        ({"source": "folder", "path": "x", "image_size": 4}, ConfigError, "image_size=4"),
        (
            {"resolution": 56},
            ConfigError,
            "resolution has no effect on source='digits'; leave it out, or use source='MHIST'",
        ),
        ({"source": "folder", "path": "x", "min_agreement": 6}, ConfigError, "min_agreement has no effect"),
        ({"source": "MHIST", "resolution": 100}, ConfigError, "resolution=100: input should be 224, 112 or 56"),
        ({"source": "MHIST", "min_agreement": 3}, ConfigError, "min_agreement=3"),
        ({"source": "MHIST", "min_agreement": 8}, ConfigError, "min_agreement=8"),
        ({"source": "MHIST", "path": "x"}, ConfigError, "path has no effect on source='MHIST'"),
        ({"val_fraction": 0}, ConfigError, "val_fraction=0"),
        ({"val_fraction": 1.0}, ConfigError, "val_fraction=1.0"),
        ({"sorce": "MNIST"}, ConfigError, "did you mean 'source'"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], error: type[ConfigError], says: str) -> None:
    with pytest.raises(error) as caught:
        DataConfig(**values)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(error, match=re.escape(str(caught.value))):
        DataConfig.parse(values)


class Strange(Source):
    """A user's source, registered by name, that gives what it was set to give."""

    augment = "none"
    how_to_get = "ask its author"
    given = ImageSet(np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 0, 1, 1]), ("a", "b"))

    def train(self, root: Path | None = None) -> ImageSet:
        return self.given

    test = train

    def find(self, root: Path | None = None) -> None:
        return None


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (ImageSet(np.zeros((4, 1, 8, 8), np.float32), np.array([0, 0, 1, 1]), ("a", "b")), "float32"),
        (ImageSet(np.zeros((4, 8, 8), np.uint8), np.array([0, 0, 1, 1]), ("a", "b")), "uint8 [4, 8, 8]"),
        (ImageSet(np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 0, 1, 1], np.int32), ("a", "b")), "int32"),
        (ImageSet(np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 0, -1, 1]), ("a", "b")), "label -1 of image 2"),
        (ImageSet(np.zeros((4, 1, 8, 8), np.uint8), np.array([0] * 4), ("a",)), "2 or more are needed"),
        (ImageSet(np.zeros((0, 1, 8, 8), np.uint8), np.zeros(0, np.int64), ("a", "b")), "no image of class 'a'"),
    ],
)
def test_a_registered_source_is_checked_at_the_door(
    images: ImageSet, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.SOURCES, "strange", f"{__name__}:Strange")
    config = DataConfig(source="strange")
    assert len(load_train(config).train) == 2
    monkeypatch.setattr(Strange, "given", images)
    for load in (load_train, load_test):
        with pytest.raises(DataError, match=r"^strange, (train|test) part: [^\n]*ask its author$") as caught:
            load(config)
        assert says in str(caught.value)


def test_build_gives_the_named_source() -> None:
    assert type(build(DataConfig(source="MNIST"))) is MNIST
