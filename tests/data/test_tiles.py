"""The tiles: what is asked for is what is written, whole, the same for the same seed; and the classes can be told apart."""

import json
from pathlib import Path

import numpy as np
import pytest

from raydistill.data import tiles
from raydistill.data.mhist import ANNOTATIONS, IMAGES, MARKER, GeneratedTiles
from raydistill.data.tiles import Wanted, draw, generate, judged
from raydistill.errors import ConfigError, EnvironmentIssue
from raydistill.seeding import numpy_generator
from tests.tiny import listing


def test_what_is_written_is_what_was_asked_for(tmp_path: Path) -> None:
    told: list[int] = []
    generate(tmp_path / "a", Wanted(train=11, test=7, side=20, seed=1), lambda: told.append(1))
    assert len(told) == 18
    assert json.loads((tmp_path / "a" / MARKER).read_text()) == {
        "kind": "generated tiles", "seed": 1, "side": 20, "train": {"HP": 7, "SSA": 4}, "test": {"HP": 5, "SSA": 2},
    }  # fmt: skip
    source = GeneratedTiles()
    assert np.bincount(source.train(tmp_path / "a").labels).tolist() == [7, 4]
    assert source.test(tmp_path / "a").shape == (3, 20, 20)
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_the_seed_names_every_tile(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        generate(tmp_path / name, Wanted(train=6, test=6, side=24, seed=seed))
    first, again, other = (listing(tmp_path / name) for name in "abc")
    assert first == again
    assert all(first[file] != other[file] for file in first if file.startswith(IMAGES))


def test_a_larger_set_begins_with_the_smaller(tmp_path: Path) -> None:
    generate(tmp_path / "a", Wanted(train=6, test=6, side=24, seed=0))
    generate(tmp_path / "b", Wanted(train=9, test=6, side=24, seed=0))
    small, large = listing(tmp_path / "a"), listing(tmp_path / "b")
    assert all(large[file] == content for file, content in small.items() if file.startswith(IMAGES))


def test_the_majority_of_the_annotators_is_the_label() -> None:
    rng = numpy_generator(0, "votes")
    votes = {name: [judged(name, rng)[1] for _ in range(200)] for name in ("HP", "SSA")}
    assert max(votes["HP"]) <= 3 < 4 <= min(votes["SSA"])
    assert {0, 3} < set(votes["HP"])
    assert {4, 7} < set(votes["SSA"])


def test_deeper_teeth_make_a_longer_edge_and_stain_says_nothing() -> None:
    """The lumen's edge over the root of its area, and the tile's mean colour, of 12 tiles of each class."""
    edges: dict[str, list[float]] = {"HP": [], "SSA": []}
    colours: dict[str, list[np.ndarray]] = {"HP": [], "SSA": []}
    for name in edges:
        for number in range(12):
            rng = numpy_generator(0, "look", name, number)
            tile = draw(judged(name, rng)[0], 112, rng)
            lumen = tile.min(-1) > 200
            edge = sum(int((lumen != np.roll(lumen, 1, axis)).sum()) for axis in (0, 1))
            edges[name].append(edge / np.sqrt(lumen.sum()))
            colours[name].append(tile.mean((0, 1)))
    assert np.median(edges["SSA"]) > 1.15 * np.median(edges["HP"])
    apart = np.abs(np.mean(colours["HP"], 0) - np.mean(colours["SSA"], 0))
    assert (apart < np.concatenate(list(colours.values())).reshape(-1, 3).std(0)).all()


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (Wanted(train=5, test=5, side=8, seed=0), "--side 8"),
        (Wanted(train=3, test=9, side=32, seed=0), "--train-images 3"),
        (Wanted(train=9, test=-1, side=32, seed=0), "--test-images -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(wanted: Wanted, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        generate(tmp_path / "a", wanted)
    assert not (tmp_path / "a").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ANNOTATIONS).write_text("mine")
    with pytest.raises(ConfigError, match="holds something already"):
        generate(tmp_path, Wanted(train=6, test=6, side=24, seed=0))
    with pytest.raises(EnvironmentIssue, match="name another folder"):
        generate(tmp_path / ANNOTATIONS / "below", Wanted(train=6, test=6, side=24, seed=0))
    assert listing(tmp_path) == {ANNOTATIONS: b"mine"}


def test_nothing_is_left_of_a_set_that_was_not_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "a", Wanted(train=6, test=6, side=24, seed=0), stop)
    assert list(tmp_path.iterdir()) == []
    assert tiles.SMALLEST <= 24
