"""A copy of MHIST: what is read from it, what is left out, and what is refused."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raydistill.data import mhist
from raydistill.data.describe import describe
from raydistill.data.load import DataConfig, load_test, load_train, named
from raydistill.data.mhist import ANNOTATIONS, IMAGES, MARKER, MHIST, Content, GeneratedTiles
from raydistill.data.tiles import Wanted, generate
from raydistill.errors import DataError
from tests.data.made import pixels, write_image

SIDE = 56
TRAIN = [("a.png", "HP", 0), ("b.png", "SSA", 7), ("c.png", "HP", 3), ("d.png", "SSA", 4), ("e.png", "HP", 2)]
TRAIN += [("f.png", "SSA", 6), ("g.png", "HP", 0), ("h.png", "SSA", 7)]
TEST = [("t.png", "SSA", 4), ("u.png", "HP", 3), ("v.png", "HP", 1)]


def write_copy(folder: Path) -> Path:
    """A copy of eight training and three test images, as small as ``small`` says that MHIST is."""
    rows = [(*row, "train") for row in TRAIN] + [(*row, "test") for row in TEST]
    for image, row in zip(pixels(len(rows), SIDE, SIDE, 3), rows, strict=True):
        write_image(folder / IMAGES / row[0], image)
    with open(folder / ANNOTATIONS, "w", newline="") as file:
        csv.writer(file).writerows([mhist.COLUMNS, *rows])
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    content = Content(SIDE, {("train", None): len(TRAIN), ("test", "HP"): 2, ("test", "SSA"): 1})
    monkeypatch.setattr(mhist, "PUBLISHED", content)


@pytest.fixture
def root(tmp_path: Path, small: None) -> Path:
    """A data root with a copy."""
    write_copy(tmp_path / "root" / "MHIST")
    return tmp_path / "root"


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated tiles."""
    folder = tmp_path_factory.mktemp("tiles") / "made"
    generate(folder, Wanted(train=12, test=6, side=SIDE, seed=3))
    return folder


def test_what_is_published_is_what_is_expected() -> None:
    assert mhist.PUBLISHED.side == 224
    assert mhist.PUBLISHED.counts == {("train", None): 2175, ("test", "HP"): 617, ("test", "SSA"): 360}


def test_images_come_as_they_are_listed(root: Path) -> None:
    train, test = MHIST().train(root), MHIST().test(root)
    assert (train.classes, train.labels.tolist()) == (("HP", "SSA"), [0, 1, 0, 1, 0, 1, 0, 1])
    assert test.labels.tolist() == [1, 0, 0]
    expected = pixels(len(TRAIN) + len(TEST), SIDE, SIDE, 3).transpose(0, 3, 1, 2)
    assert np.array_equal(np.concatenate([train.images, test.images]), expected)


def test_the_folder_itself_may_be_the_root(root: Path) -> None:
    assert len(MHIST().test(root / "MHIST")) == len(TEST)
    found = MHIST().find(root / "MHIST")
    assert found == (str(root / "MHIST"), 11, 2, (3, SIDE, SIDE))


def test_a_coarser_resolution_is_the_mean_of_squares(root: Path) -> None:
    coarse, fine = MHIST(resolution=28).train(root).images, MHIST().train(root).images
    means = fine.reshape(len(fine), 3, 28, 2, 28, 2).mean((3, 5))
    assert np.abs(coarse - means).max() <= 1
    assert np.abs(coarse - means).mean() < 0.51


def test_only_training_images_are_filtered_by_agreement(root: Path) -> None:
    source = MHIST(min_agreement=6)
    images = pixels(len(TRAIN), SIDE, SIDE, 3).transpose(0, 3, 1, 2)
    sure = [0, 1, 5, 6, 7]
    assert np.array_equal(source.train(root).images, images[sure])
    assert len(source.test(root)) == len(TEST)
    found = source.find(root)
    assert found is not None
    assert found.images == len(sure) + len(TEST)


def test_the_filter_reaches_what_is_trained_and_selected_on(root: Path) -> None:
    data = load_train(DataConfig(source="MHIST", min_agreement=6), root)
    assert sorted(np.concatenate([data.train.labels, data.val.labels])) == [0, 0, 1, 1, 1]
    assert len(load_test(DataConfig(source="MHIST", min_agreement=6), root)) == len(TEST)


def test_training_images_are_read_without_the_test_images(root: Path) -> None:
    for name, *_ in TEST:
        (root / "MHIST" / IMAGES / name).unlink()
    assert len(MHIST().train(root)) == len(TRAIN)
    with pytest.raises(DataError, match=r"has no t\.png nor 2 other images listed"):
        MHIST().test(root)


def test_alpha_and_a_byte_order_mark_do_no_harm(root: Path) -> None:
    expected = MHIST().train(root).images[0]
    file = root / "MHIST" / IMAGES / "a.png"
    Image.open(file).convert("RGBA").save(file)
    annotations = root / "MHIST" / ANNOTATIONS
    annotations.write_bytes(b"\xef\xbb\xbf" + annotations.read_bytes())
    assert np.array_equal(MHIST().train(root).images[0], expected)


def test_generated_tiles_never_go_by_the_name_of_mhist(tiles: Path, root: Path) -> None:
    config = DataConfig(source="MHIST", min_agreement=5)
    assert named(config, tiles) == DataConfig(source="generated tiles", min_agreement=5)
    data = load_train(config, tiles)
    assert data.config is not None
    assert data.config.source == "generated tiles"
    assert MHIST().find(tiles) is None
    rows = {row.name: row for row in describe(tiles)}
    assert (rows["MHIST"].status, rows["generated tiles"][1:4]) == ("missing", ("found", str(tiles), 18))
    assert named(config, root) == config


def test_a_marked_copy_is_passed_over_for_a_real_one(
    tiles: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYDISTILL_DATA", str(root))
    assert len(MHIST().train(tiles)) == len(TRAIN)
    with pytest.raises(DataError, match=r"generated tiles: no annotations\.csv with generated\.json beside it"):
        GeneratedTiles().train(tmp_path)


def test_counts_of_generated_tiles_come_from_their_marker(tiles: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiles, tmp_path / "copy"))
    about = json.loads((folder / MARKER).read_text())
    (folder / MARKER).write_text(json.dumps(about | {"test": {"HP": 5, "SSA": 2}}))
    with pytest.raises(DataError, match="lists 4 test images of class HP, and there are 5"):
        GeneratedTiles().train(folder)
    for damage in ("{", "[]", json.dumps(about | {"side": 0}), json.dumps({"side": 56})):
        (folder / MARKER).write_text(damage)
        with pytest.raises(DataError, match=r"generated\.json is damaged[^\n]*--generate-tiles DIR"):
            GeneratedTiles().find(folder)


def edited(old: str, new: str) -> Callable[[Path], object]:
    """Replaces ``old`` in the annotations."""

    def edit(folder: Path) -> None:
        file = folder / ANNOTATIONS
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    return edit


# What is done to the copy, what the message names.
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no-annotations": (lambda f: (f / ANNOTATIONS).unlink(), "no annotations.csv in"),
    "no-images": (lambda f: shutil.rmtree(f / IMAGES), "images (No such file"),
    "image-missing": (lambda f: (f / IMAGES / "c.png").unlink(), "has no c.png listed in annotations.csv"),
    "column-missing": (edited("Majority Vote Label", "Label"), "no column 'Majority Vote Label'"),
    "empty-file": (lambda f: (f / ANNOTATIONS).write_bytes(b""), "no column 'Image Name'"),
    "no-text": (lambda f: (f / ANNOTATIONS).write_bytes(b"\xff\xfe\x00"), "cannot read"),
    "unknown-label": (edited("a.png,HP", "a.png,TA"), "line 2: Majority Vote Label is 'TA', where HP or SSA belongs"),
    "unknown-partition": (edited("a.png,HP,0,train", "a.png,HP,0,val"), "line 2: Partition is 'val'"),
    "eight-votes": (edited("b.png,SSA,7", "b.png,SSA,8"), "line 3: '8' annotators selected SSA, where 0 to 7"),
    "no-votes": (edited("b.png,SSA,7", "b.png,SSA,"), "line 3: '' annotators"),
    "half-a-vote": (edited("b.png,SSA,7", "b.png,SSA,6.5"), "line 3: '6.5' annotators"),
    "votes-contradict": (edited("d.png,SSA,4", "d.png,SSA,3"), "line 5: 3 of 7 annotators selected SSA, but the label"),
    "line-cut-short": (edited("v.png,HP,1,test", "v.png,HP"), "line 12: Partition is ''"),
    "listed-twice": (edited("c.png", "a.png"), "line 4: a.png is listed twice"),
    "outside": (edited("c.png", "../c.png"), "Image Name is '../c.png'"),
    "train-short": (edited("h.png,SSA,7,train", "h.png,SSA,7,test"), "lists 7 train images, and there are 8"),
    "test-class": (edited("u.png,HP,3", "u.png,SSA,4"), "lists 1 test images of class HP, and there are 2"),
    "size": (lambda f: write_image(f / IMAGES / "b.png", pixels(1, 50, 60, 3)[0]), "60x50 pixels, where 56x56 belong"),
    "grey": (lambda f: write_image(f / IMAGES / "b.png", pixels(1, SIDE, SIDE)[0]), "pixels of kind 'L'"),
    "no-image": (lambda f: (f / IMAGES / "b.png").write_bytes(b"\x89PNG rubbish"), "cannot read the image"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_told_in_one_line_with_the_way_out(case: str, root: Path) -> None:
    damage, says = DAMAGE[case]
    damage(root / "MHIST")
    with pytest.raises(DataError) as caught:
        MHIST().train(root)
    told = str(caught.value)
    assert "\n" not in told
    assert says in told
    assert told.startswith("MHIST: ")
    assert str(root / "MHIST") in told
    assert "https://bmirds.github.io/MHIST/" in told


def test_settings_that_leave_nothing(root: Path) -> None:
    with pytest.raises(DataError, match=r"resolution=112: the images in [^\n]* are 56x56 pixels"):
        MHIST(resolution=112).train(root)
    edited("g.png,HP,0", "g.png,HP,3")(root / "MHIST")
    with pytest.raises(DataError, match=r"min_agreement=7 leaves 1 training image[^\n]*class 'HP'[^\n]*lower it"):
        MHIST(min_agreement=7).train(root)
