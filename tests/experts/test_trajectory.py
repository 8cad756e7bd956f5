"""Expert trajectories: the same wherever they are trained, killed or not; what is stored and how it is read."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from raydistill import artifacts, storage
from raydistill.artifacts import TENSORS
from raydistill.errors import ArtifactError, ConfigError
from raydistill.experts import trajectory
from raydistill.experts.curriculum import CurriculumConfig
from raydistill.experts.difficulty import DifficultyConfig, score_item
from raydistill.experts.trajectory import ExpertConfig, Place, Trajectory, finished, last_part, train_item
from raydistill.models import build
from raydistill.models.fit import Fit, Recipe
from raydistill.models.flat import Layout, flatten, load
from tests.distill import small

RECIPE = Recipe(batch=12, lr=0.1, momentum=0, weight_decay=0)
EPOCHS = 4


pytestmark = pytest.mark.usefixtures("narrow")


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


def config(**settings: Any) -> ExpertConfig:
    return ExpertConfig(**{"count": 1, "recipe": RECIPE, **settings})


def train(root: Path, settings: ExpertConfig, epochs: int = EPOCHS, index: int = 0, first: int = 0) -> dict[str, Any]:
    return train_item(
        data=small.data(),
        config=settings,
        network="ConvNetD3",
        first=first,
        epochs=epochs,
        root=str(root),
        index=index,
        device="cpu",
    )


def stored(root: Path, index: int = 0) -> bytes:
    return (Place(root).trajectory(index) / TENSORS).read_bytes()


def test_snapshots_are_the_parameters_after_each_pass(tmp_path: Path) -> None:
    result = train(tmp_path, config())
    found = Trajectory(Place(tmp_path).trajectory(0))
    assert found.epochs == EPOCHS
    assert len(result["accuracies"]) == EPOCHS + 1
    net = small.network("ConvNetD3", 0)
    assert found.layout == Layout.of(net)
    vectors = [found.snapshot(epoch) for epoch in range(EPOCHS + 1)]
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(vectors))
    load(net, vectors[-1])
    assert torch.equal(flatten(net), vectors[-1])
    assert not (tmp_path / "parts" / "0000").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"epoch_steps": 2},
        {"storage": "float16"},
        {"recipe": RECIPE.override({"sharpness": 0.05})},
        {
            "curriculum": CurriculumConfig(init_ratio=0.5, add_end_epoch=2, rm_epoch_first=2, rm_epoch_second=3),
            "difficulty": DifficultyConfig(networks=1, steps=2, recipe=RECIPE),
        },
    ],
    ids=str,
)
@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_killed_after_any_epoch_it_ends_with_the_same_bytes(
    tmp_path: Path, settings: dict[str, Any], epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = config(**settings)
    if given.curriculum is not None:
        for root in ("whole", "killed"):
            score_item(
                data=small.data(),
                config=given.difficulty,
                network="ConvNetD2",
                seed=0,
                index=0,
                directory=str(Place(tmp_path / root).scores(0)),
                device="cpu",
            )
    train(tmp_path / "whole", given)
    note, done = trajectory._Training._note, []

    def dies(self: Any, loss: float) -> None:
        if len(done) == epoch + 1:
            raise Killed
        done.append(loss)
        note(self, loss)

    monkeypatch.setattr(trajectory._Training, "_note", dies)
    with pytest.raises(Killed):
        train(tmp_path / "killed", given)
    assert last_part(Place(tmp_path / "killed"), 0) == epoch
    monkeypatch.setattr(trajectory._Training, "_note", note)
    steps = count_visits(monkeypatch)
    train(tmp_path / "killed", given)
    assert len(steps) == EPOCHS - epoch
    assert stored(tmp_path / "killed") == stored(tmp_path / "whole")


def count_visits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    visits: list[int] = []
    visit = Fit.visit

    def counted(self: Fit, order: torch.Tensor) -> float:
        visits.append(len(order))
        return visit(self, order)

    monkeypatch.setattr(Fit, "visit", counted)
    return visits


def test_a_damaged_state_costs_what_came_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "whole", config())
    monkeypatch.setattr(trajectory._Training, "_finish", lambda self: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        train(tmp_path / "other", config())
    monkeypatch.undo()
    monkeypatch.setattr(trajectory, "build", lambda name, shape, classes, seed, device: small.network(name, seed))
    (Place(tmp_path / "other").part(0, 2) / TENSORS).write_bytes(b"damaged")
    visits = count_visits(monkeypatch)
    train(tmp_path / "other", config())
    assert len(visits) == EPOCHS - 1
    assert stored(tmp_path / "other") == stored(tmp_path / "whole")


def test_what_is_done_is_not_done_again_and_damage_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, config())
    before = stored(tmp_path)
    visits = count_visits(monkeypatch)
    train(tmp_path, config())
    assert visits == []
    file = Place(tmp_path).trajectory(0) / TENSORS
    file.write_bytes(before[:-8] + b"damaged!")
    assert finished(file.parent) is None
    train(tmp_path, config())
    assert stored(tmp_path) == before


def test_a_trajectory_that_does_not_say_its_first_epoch_begins_with_the_initialisation(tmp_path: Path) -> None:
    train(tmp_path, config())
    file = Place(tmp_path).trajectory(0) / artifacts.MANIFEST
    manifest = artifacts.read_json(file)
    assert manifest.pop("first") == 0
    artifacts.write_json(file, manifest)
    assert Trajectory(Place(tmp_path).trajectory(0)).first == 0
    assert train(tmp_path, config())["losses"] == manifest["losses"]
    assert "first" not in artifacts.read_json(file), "it was trained again"


def test_a_longer_trajectory_goes_on_from_a_shorter_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "long", config(), epochs=6)
    train(tmp_path / "short", config(), epochs=2)
    visits = count_visits(monkeypatch)
    train(tmp_path / "short", config(), epochs=6)
    assert len(visits) == 4
    assert stored(tmp_path / "short") == stored(tmp_path / "long")


@pytest.mark.parametrize("epoch", range(EPOCHS + 1))
def test_epochs_that_nothing_reads_are_trained_and_not_kept(
    tmp_path: Path, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "all", config())
    train(tmp_path / "late", config(), first=2)
    every, late = (Trajectory(Place(tmp_path / name).trajectory(0)) for name in ("all", "late"))
    assert (late.first, late.epochs) == (2, EPOCHS)
    assert all(torch.equal(every.snapshot(e), late.snapshot(e)) for e in range(2, EPOCHS + 1))
    assert every.manifest["accuracies"] == late.manifest["accuracies"]
    assert (late.path / TENSORS).stat().st_size < 0.7 * (every.path / TENSORS).stat().st_size

    kept: list[list[int]] = []
    note = trajectory._Training._note

    def dies(self: Any, loss: float) -> None:
        note(self, loss)
        kept.append(sorted(int(path.name) for path in Place(tmp_path / "killed").part(0, 0).parent.glob("[0-9]*")))
        if len(kept) == epoch + 1:
            raise Killed

    monkeypatch.setattr(trajectory._Training, "_note", dies)
    with pytest.raises(Killed):
        train(tmp_path / "killed", config(), first=2)
    assert kept == [[0], [1], [2], [2, 3], [2, 3, 4]][: epoch + 1]
    visits = count_visits(monkeypatch)
    train(tmp_path / "killed", config(), first=2)
    assert len(visits) == EPOCHS - epoch
    assert stored(tmp_path / "killed") == stored(tmp_path / "late")


def test_earlier_epochs_are_added_and_later_ones_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "whole", config(), epochs=6)
    train(tmp_path / "grown", config(), first=3, epochs=6)
    train(tmp_path / "grown", config(), epochs=2)
    assert stored(tmp_path / "grown") == stored(tmp_path / "whole")
    visits = count_visits(monkeypatch)
    train(tmp_path / "grown", config(), first=4, epochs=5)
    assert visits == []


def test_a_state_that_is_kept_for_later_epochs_is_no_start_of_earlier_ones(tmp_path: Path) -> None:
    train(tmp_path / "whole", config())
    with mock.patch.object(trajectory._Training, "_finish", side_effect=Killed), pytest.raises(Killed):
        train(tmp_path / "other", config(), first=3)
    train(tmp_path / "other", config())
    assert stored(tmp_path / "other") == stored(tmp_path / "whole")


def test_epochs_of_steps_see_as_many_images_as_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visits = count_visits(monkeypatch)
    train(tmp_path, config(epoch_steps=5))
    assert visits == [60] * EPOCHS  # more than the 36 images: they are passed again


def test_trajectories_differ_by_index_and_seed_alone(tmp_path: Path) -> None:
    for index in range(2):
        train(tmp_path / "a", config(), index=index)
    train(tmp_path / "b", config(count=7), index=1)
    train(tmp_path / "c", config(seed=1))
    assert stored(tmp_path / "a", 1) == stored(tmp_path / "b", 1)
    assert stored(tmp_path / "a", 0) != stored(tmp_path / "a", 1)
    assert stored(tmp_path / "a", 0) != stored(tmp_path / "c", 0)


def test_half_precision_halves_the_file_and_keeps_the_parameters_near(tmp_path: Path) -> None:
    train(tmp_path / "full", config())
    train(tmp_path / "half", config(storage="float16"))
    full, half = (Trajectory(Place(tmp_path / name).trajectory(0)) for name in ("full", "half"))
    sizes = [(t.path / TENSORS).stat().st_size for t in (full, half)]
    assert sizes[1] < 0.6 * sizes[0]
    assert half.snapshot(EPOCHS).dtype == torch.float32
    assert torch.allclose(half.snapshot(EPOCHS), full.snapshot(EPOCHS), atol=1e-3)
    assert not torch.equal(half.snapshot(EPOCHS), full.snapshot(EPOCHS))


def test_a_folder_that_is_no_trajectory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no manifest"):
        Trajectory(tmp_path)
    artifacts.save_folder(tmp_path / "other", "distilled set", {}, {"x": torch.zeros(1)})
    with pytest.raises(ArtifactError, match="no expert trajectory"):
        Trajectory(tmp_path / "other")


def test_momentum_and_batch_norm_are_refused() -> None:
    with pytest.raises(ConfigError, match="use momentum=0"):
        config(recipe=Recipe())
    with pytest.raises(ConfigError, match="running statistics"):
        Layout.of(build("ConvNetBN", (1, 8, 8), 3, 0))


def test_sharpness_takes_the_gradient_uphill() -> None:
    data, recipe = small.real(), RECIPE.override({"augment": "none"})
    plain, sharp = small.network("ConvNetD3", 0), small.network("ConvNetD3", 0)
    rho, start = 0.1, flatten(plain)
    gradient = torch.zeros_like(start)
    Fit(plain, data, recipe, 0).run(1)
    gradient = (start - flatten(plain)) / recipe.lr
    uphill = small.network("ConvNetD3", 0)
    load(uphill, start + rho * gradient / gradient.norm())
    above = flatten(uphill)
    Fit(uphill, data, recipe, 0).run(1)
    expected = start - (above - flatten(uphill))
    Fit(sharp, data, recipe.override({"sharpness": rho}), 0).run(1)
    assert torch.allclose(flatten(sharp), expected, atol=1e-6)
    assert not torch.allclose(flatten(sharp), flatten(plain), atol=1e-5)


def test_a_layout_is_stored_whole() -> None:
    layout = Layout.of(build("ConvNetD2", (1, 8, 8), 3, 0))
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout
    assert layout != Layout.of(build("ConvNetD2", (1, 8, 8), 4, 0))


def test_a_file_that_is_cut_short_is_named_when_it_is_read(tmp_path: Path) -> None:
    train(tmp_path, config())
    found = Trajectory(Place(tmp_path).trajectory(0))
    file = found.path / TENSORS
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ArtifactError, match=f"{file} was damaged .*; train it again"):
        found.snapshot(EPOCHS)
    assert not found.path.exists()  # so that it will be
    with pytest.raises(ArtifactError, match=f"{file} is gone; train it again"):
        found.snapshot(0)


def test_a_changed_byte_is_found_when_it_is_read_and_whole_files_are_checked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path, config())
    found, checked, checksum = Trajectory(Place(tmp_path).trajectory(0)), list[Path](), storage.checksum
    monkeypatch.setattr(storage, "checksum", lambda path: checked.append(path) or checksum(path))
    before = found.snapshot(0)
    assert torch.equal(Trajectory(found.path).snapshot(0), before)
    file = found.path / TENSORS
    assert checked == [file]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match=f"{file} was damaged .*; train it again"):
        found.snapshot(0)
    train(tmp_path, config())
    assert torch.equal(Trajectory(found.path).snapshot(0), before)


def test_a_longer_trajectory_may_take_its_place_while_it_is_read(tmp_path: Path) -> None:
    train(tmp_path, config(), first=2)
    found = Trajectory(Place(tmp_path).trajectory(0))
    before = found.snapshot(3)
    train(tmp_path, config(), epochs=EPOCHS + 2)  # another search reads more of it, and earlier ones
    assert torch.equal(found.snapshot(3), before)
    assert (found.first, found.epochs) == (0, EPOCHS + 2)


def test_what_a_kill_has_left_aside_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, config())
    path, before = Place(tmp_path).trajectory(0), stored(tmp_path)
    path.rename(path.with_name(f".{path.name}.old"))
    steps = count_visits(monkeypatch)
    train(tmp_path, config())
    assert (steps, stored(tmp_path)) == ([], before)


def test_an_expert_that_diverges_is_named(tmp_path: Path) -> None:
    wild = config(recipe=RECIPE.override({"lr": 1e30}))
    with pytest.raises(ConfigError, match=r"expert 0 diverged in epoch \d: .* lower distill.experts.recipe.lr"):
        train(tmp_path, wild)
    assert not Place(tmp_path).trajectory(0).exists()


def test_an_epoch_under_way_tells_its_numbers(tmp_path: Path) -> None:
    place = Place(tmp_path)
    noted = [{"loss": None, "accuracy": 0.1, "step": 0}, {"loss": 0.5, "accuracy": 0.7, "step": 3}]
    for epoch in (0, 1):
        artifacts.save_folder(place.part(0, epoch), "state", {"noted": noted[: epoch + 1]}, {})
    assert trajectory.part_numbers(place, 0, 0) == {"val_accuracy": 0.1}
    assert trajectory.part_numbers(place, 0, 1) == {"val_accuracy": 0.7, "loss": 0.5}
    assert trajectory.part_numbers(place, 0, 2) == {}


def test_what_kills_left_half_written_is_removed(tmp_path: Path) -> None:
    left = [tmp_path / ".0000.x.tmp" / TENSORS, Place(tmp_path).part(0, 0).parent / ".0002.x.tmp" / TENSORS]
    other = tmp_path / ".0001.x.tmp" / TENSORS  # of a trajectory that another process may be at
    for file in (*left, other):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"half")
    train(tmp_path, config())
    assert [file.exists() for file in (*left, other)] == [False, False, True]


def test_a_damaged_mirror_is_brought_again_and_the_good_copy_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path, config())
    found = Trajectory(Place(tmp_path).trajectory(0))
    file, good = found.path / TENSORS, (found.path / TENSORS).read_bytes()
    before = found.snapshot(0)
    file.write_bytes(good[:-8])
    monkeypatch.setattr(storage, "fetch_folder", lambda path: file.write_bytes(good))  # as a run's object storage does
    assert torch.equal(found.snapshot(0), before)
    assert file.read_bytes() == good


@pytest.mark.parametrize("again", [lambda root: train(root, config()), lambda root: Place(root).clear(0)])
def test_parts_that_a_kill_left_beside_a_whole_trajectory_go(tmp_path: Path, again: Callable[[Path], object]) -> None:
    train(tmp_path, config())
    place, before = Place(tmp_path), stored(tmp_path)
    artifacts.save_folder(place.part(0, 1), "state", {}, {})
    with storage.alone(place.lock(0)):
        place.clear(0)  # it is being trained further
    assert place.part(0, 1).exists()
    again(tmp_path)
    assert not place.part(0, 1).exists()
    assert stored(tmp_path) == before
