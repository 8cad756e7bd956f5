"""The cache of trajectories: what names an entry, what it holds, and experts that are still being trained."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from raydistill import artifacts, storage
from raydistill.artifacts import TENSORS
from raydistill.errors import ArtifactError, ConfigError
from raydistill.experts import store
from raydistill.experts.curriculum import CurriculumConfig
from raydistill.experts.difficulty import DifficultyConfig
from raydistill.experts.trajectory import ExpertConfig, Place, Trajectory
from tests.distill import small
from tests.experts.test_trajectory import EPOCHS, RECIPE, config, stored, train

pytestmark = pytest.mark.usefixtures("narrow")


def test_the_entry_is_named_by_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    data = small.data()

    def name(settings: ExpertConfig, network: str = "ConvNetD3", given: Any = data) -> str:
        return store.entry(Path("cache"), settings, network, given).root.name

    same = name(config())
    assert name(config(count=9)) == same
    assert name(config(epochs=9)) == same
    assert name(config(difficulty=DifficultyConfig(steps=1))) == same  # no curriculum: the order is not asked for
    curriculum = CurriculumConfig()
    others = [
        config(seed=1),
        config(storage="float16"),
        config(epoch_steps=3),
        config(recipe=RECIPE.override({"lr": 0.2})),
        config(curriculum=curriculum),
        config(curriculum=curriculum, difficulty=DifficultyConfig(steps=1)),
    ]
    changed = data._replace(train=small.images(36, stream=5))
    names = [name(other) for other in others] + [name(config(), "ConvNetD2"), name(config(), given=changed)]
    assert len({same, *names}) == len(names) + 1
    monkeypatch.setattr(store, "ALGORITHM", store.ALGORITHM + 1)
    assert name(config()) not in {same, *names}


def test_the_cache_is_listed_checked_and_pruned(tmp_path: Path) -> None:
    place = store.entry(tmp_path, config(), "ConvNetD3", small.data())
    for index in range(2):
        train(place.root, config(), index=index)
    artifacts.write_json(place.root / store.ENTRY, store.identity(config(), "ConvNetD3", small.data()))
    (place.trajectory(1) / TENSORS).write_bytes(b"damaged")
    (one,) = store.listed(tmp_path)
    assert (one.whole, one.damaged, one.epochs) == (1, ("0001",), EPOCHS)
    assert one.accuracy == Trajectory(place.trajectory(0)).manifest["accuracies"][-1]
    assert one.bytes > 0
    for lock in (place.lock(1), place.scores(0).parent / ".0000.lock"):
        with storage.alone(lock), pytest.raises(ConfigError, match=f"^{place.root.name} is being trained"):
            store.prune([one])
    assert place.trajectory(0).is_dir()
    assert store.prune([one]) == one.bytes
    assert list(store.listed(tmp_path)) == []


def test_an_expert_that_is_not_there_yet_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, config(), index=0)
    train(tmp_path, config(), index=1, epochs=2)
    looks = list[float]()

    def meanwhile(seconds: float) -> None:
        looks.append(seconds)
        train(tmp_path, config(), index=1)

    monkeypatch.setattr("raydistill.experts.store.time.sleep", meanwhile)
    arriving = store.Arriving(Place(tmp_path), 2, 0, EPOCHS)
    assert len(arriving) == 2
    assert arriving[0].epochs == EPOCHS
    assert looks == []
    assert arriving[1].epochs == EPOCHS  # it was there, but too short
    assert len(looks) == 1
    assert [one.path for one in arriving] == [one.path for one in arriving[:]]


def test_where_nobody_trains_any_more_waiting_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, config())
    clock, ends = [0.0], list[float]()

    def passes(seconds: float) -> None:
        clock[0] += 60
        if clock[0] == 1200:
            train(tmp_path, config(), index=1, epochs=1)
            ends.append(clock[0] + store.PATIENCE)
        assert clock[0] < 9000, "it waits for ever"

    monkeypatch.setattr("raydistill.experts.store.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("raydistill.experts.store.time.sleep", passes)
    with pytest.raises(ArtifactError, match="no epoch of an expert was stored in 30 minutes"):
        store.Arriving(Place(tmp_path), 2, 0, EPOCHS)[1]
    assert clock[0] >= ends[0], "it counts from the last one"


def test_one_that_is_damaged_while_others_are_trained_is_not_waited_for(tmp_path: Path) -> None:
    train(tmp_path, config())
    place = Place(tmp_path)
    (place.trajectory(0) / TENSORS).write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match=f"{place.trajectory(0)} was damaged; train it again"):
        store.Arriving(place, 1, 0, EPOCHS)[0]
    assert not place.trajectory(0).exists()


def test_a_pruned_entry_is_trained_again(tmp_path: Path) -> None:
    train(tmp_path, config())
    before = stored(tmp_path)
    shutil.rmtree(Place(tmp_path).trajectory(0))
    train(tmp_path, config())
    assert stored(tmp_path) == before
