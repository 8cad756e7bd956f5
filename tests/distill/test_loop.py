"""The loop: killed and called again it ends with the same bytes; and every other way in which a run can end."""

import math
import random
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from raydistill import artifacts
from raydistill.data.distilled import DistilledSet
from raydistill.data.images import DeviceImages, Normaliser
from raydistill.data.load import TrainData
from raydistill.distill import initialise, loop, unroll
from raydistill.distill.datadam import DataDAM, DataDAMConfig
from raydistill.distill.loop import Outcome, distill
from raydistill.distill.pad import PADConfig
from raydistill.errors import ArtifactError, ConfigError
from raydistill.models.fit import Recipe
from tests.distill import small

STEPS = 9
TRAINING = Recipe(batch=12, lr=0.05, momentum=0, weight_decay=0)


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "build", lambda name, shape, classes, seed, device: small.network(name, seed))
    monkeypatch.setattr(initialise, "EMBED_STEPS", 2)


@pytest.fixture(scope="module")
def data() -> TrainData:
    train = small.images()
    return TrainData(train, small.images(9, stream=1), Normaliser.fit(train.images))


def config(**settings: Any) -> DataDAMConfig:
    return DataDAMConfig(**{"ipc": 2, "batch_real": 6, "power": 2, "lr_img": 0.5, "iterations": STEPS, **settings})


def killed_at(steps: list[int]) -> Callable[..., bool]:
    """A report that lets the process die at each of ``steps``, once each."""
    left = list(steps)

    def report(step: int, numbers: Mapping[str, float], images: Callable[[], DistilledSet]) -> bool:
        if step in left:
            left.remove(step)
            raise Killed
        return True

    return report


def stored(directory: Path, name: str = "set") -> bytes:
    return (directory / name / artifacts.TENSORS).read_bytes()


def with_kills(settings: DataDAMConfig, data: TrainData, directory: Path, steps: list[int]) -> Outcome:
    report = killed_at(steps)
    for _ in steps:
        with pytest.raises(Killed):
            distill(
                settings, data, seed=3, directory=directory, report=report, report_at=range(100), checkpoint_seconds=0
            )
    return distill(
        settings, data, seed=3, directory=directory, report=report, report_at=range(100), checkpoint_seconds=0
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"network_pool": 4, "pool_draws": 2},
        {"network_pool": 4, "network_stages": (0, 3), "training": TRAINING, "pool_draws": 1},
        {"factor": 2, "init": "noise"},
        {"network": "ConvNetBN", "precision": "bfloat16"},
    ],
    ids=str,
)
def test_killed_and_called_again_gives_the_same_bytes(
    settings: dict[str, Any], data: TrainData, tmp_path: Path
) -> None:
    whole = distill(config(**settings), data, seed=3, directory=tmp_path / "whole")
    kills = random.Random(repr(settings)).sample(range(1, STEPS + 1), 3)
    outcome = with_kills(config(**settings), data, tmp_path / "killed", sorted(kills))
    assert (outcome.status, outcome.step) == (whole.status, whole.step) == (artifacts.COMPLETED, STEPS)
    assert stored(tmp_path / "killed") == stored(tmp_path / "whole")
    assert stored(tmp_path / "killed", "initial") == stored(tmp_path / "whole", "initial")
    assert not (tmp_path / "killed/state").exists()


def test_it_really_goes_on_from_the_checkpoint(
    data: TrainData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    original = DataDAM.step
    monkeypatch.setattr(DataDAM, "step", lambda self, i: done.append(i) or original(self, i))
    with_kills(config(), data, tmp_path, [5])
    assert done == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8]


def test_without_a_checkpoint_yet_it_starts_over(data: TrainData, tmp_path: Path) -> None:
    report = killed_at([4])
    with pytest.raises(Killed):
        distill(config(), data, seed=3, directory=tmp_path / "a", report=report, report_at=[4])
    assert not (tmp_path / "a/state").exists()
    distill(config(), data, seed=3, directory=tmp_path / "a")
    distill(config(), data, seed=3, directory=tmp_path / "b")
    assert stored(tmp_path / "a") == stored(tmp_path / "b")


def test_a_machine_that_leaves_costs_no_step(data: TrainData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LAST_SECONDS", 0.0)
    monkeypatch.setattr(loop, "LEAVING", leaving := threading.Event())
    kill = killed_at([7])

    def report(step: int, numbers: Mapping[str, float], images: Callable[[], DistilledSet]) -> bool:
        if step == 4:
            leaving.set()
        return kill(step, numbers, images)

    with pytest.raises(Killed):
        distill(config(), data, seed=3, directory=tmp_path / "a", report=report, report_at=range(100))
    assert artifacts.load_folder(tmp_path / "a/state", loop.STATE_KIND)[0]["step"] == 6
    distill(config(), data, seed=3, directory=tmp_path / "a")
    distill(config(), data, seed=3, directory=tmp_path / "b")
    assert stored(tmp_path / "a") == stored(tmp_path / "b")


@pytest.mark.parametrize(("changes", "seed"), [({"lr_img": 0.25}, 3), ({}, 4)], ids=["config", "seed"])
def test_the_state_of_another_distillation_is_not_taken_up(
    changes: dict[str, Any], seed: int, data: TrainData, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        distill(
            config(), data, seed=3, directory=tmp_path / "a", report=killed_at([5]), report_at=[5], checkpoint_seconds=0
        )
    assert (tmp_path / "a/state").exists()
    for name in ("a", "b"):
        distill(config(**changes), data, seed=seed, directory=tmp_path / name)
    assert stored(tmp_path / "a") == stored(tmp_path / "b")


def test_the_seed_matters(data: TrainData, tmp_path: Path) -> None:
    distill(config(), data, seed=3, directory=tmp_path / "a")
    distill(config(), data, seed=4, directory=tmp_path / "b")
    assert stored(tmp_path / "a") != stored(tmp_path / "b")


@pytest.mark.parametrize("harm", ["tensors", "manifest", "kind", "cut"])
def test_a_damaged_state_is_an_error_that_helps(harm: str, data: TrainData, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        distill(config(), data, seed=3, directory=tmp_path, report=killed_at([5]), report_at=[5], checkpoint_seconds=0)
    state = tmp_path / "state"
    if harm == "tensors":
        content = bytearray((state / artifacts.TENSORS).read_bytes())
        content[-1] ^= 1
        (state / artifacts.TENSORS).write_bytes(bytes(content))
    elif harm == "cut":
        (state / artifacts.TENSORS).unlink()
    elif harm == "manifest":
        (state / artifacts.MANIFEST).write_text("{")
    else:
        DistilledSet(torch.zeros(3, 1, 8, 8), torch.arange(3), data.encoding, small.CLASSES).save(state)
    with pytest.raises(ArtifactError) as error:
        distill(config(), data, seed=3, directory=tmp_path)
    assert str(state) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_first_images_are_stored_once(data: TrainData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[str] = []
    original = DistilledSet.save
    monkeypatch.setattr(DistilledSet, "save", lambda self, path: saved.append(path.name) or original(self, path))
    with_kills(config(), data, tmp_path, [4, 7])
    assert saved == ["initial", "set"]
    first = DistilledSet.load(tmp_path / "initial")
    assert first.manifest["step"] == 0
    assert not torch.equal(first.pixels, DistilledSet.load(tmp_path / "set").pixels)


def test_stopped_by_the_report(data: TrainData, tmp_path: Path) -> None:
    outcome = distill(
        config(), data, seed=3, directory=tmp_path, report=lambda step, *_: step < 6, report_at=[2, 4, 6, 8]
    )
    assert (outcome.status, outcome.step) == (artifacts.STOPPED, 6)
    assert DistilledSet.load(tmp_path / "set").manifest["step"] == 6
    distill(config(iterations=6), data, seed=3, directory=tmp_path / "six")
    assert stored(tmp_path) == stored(tmp_path / "six")


def test_reports_come_where_asked_and_at_the_end(data: TrainData, tmp_path: Path) -> None:
    seen = []

    def report(step: int, numbers: Mapping[str, float], images: Callable[[], DistilledSet]) -> bool:
        seen.append((step, set(numbers), images().manifest["step"]))
        return True

    distill(config(), data, seed=3, directory=tmp_path, report=report, report_at=[2, 5, 50])
    assert [s for s, *_ in seen] == [m for *_, m in seen] == [2, 5, STEPS]
    assert all(names == {"loss", "loss_sam", "loss_mmd"} for _, names, _ in seen)


@pytest.mark.parametrize("lr_img", [1e6, 1e30, 3e38])
def test_diverged_says_where_and_with_what(lr_img: float, data: TrainData, tmp_path: Path) -> None:
    settings = config(lr_img=lr_img, loss_scale=100, augment="none", iterations=50, network="ConvNetNN")
    outcome = distill(settings, data, seed=3, directory=tmp_path)
    assert outcome.status == artifacts.DIVERGED
    assert 1 <= outcome.step < 50
    assert f"step {outcome.step}" in outcome.message
    assert "loss " in outcome.message
    assert "lower lr_img" in outcome.message
    assert torch.isfinite(outcome.images.pixels).all()
    assert DistilledSet.load(tmp_path / "set").manifest["step"] == outcome.step
    assert not (tmp_path / "state").exists()


@pytest.fixture
def matched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small experts are those of every cache."""
    monkeypatch.setattr(loop.experts, "open_all", lambda *given: small.experts())


@pytest.mark.usefixtures("matched")
@pytest.mark.parametrize("loss", [2.5, float("nan")])
def test_a_set_of_which_every_step_was_skipped_is_none(
    loss: float, data: TrainData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Mapping[str, float]] = []
    matching, true = unroll.matching, torch.tensor(loss)
    monkeypatch.setattr(unroll, "matching", lambda *given: matching(*given)._replace(loss=true))

    def report(step: int, numbers: Mapping[str, float], images: object) -> bool:
        told.append(numbers)
        return True

    settings = PADConfig(**{**small.PAD_SETTINGS, "threshold": 1, "iterations": 3})
    go = {"seed": 3, "directory": tmp_path, "report": report, "report_at": range(9), "checkpoint_seconds": 0}
    outcome = distill(settings, data, **go)
    assert (outcome.status, outcome.step) == (artifacts.DIVERGED, 3)
    for words in ("3 of 3 steps were skipped", "lower syn_lr or raise threshold", f"last loss was {loss:.4g}"):
        assert words in outcome.message
    assert [numbers["skipped"] for numbers in told] == [1, 2]
    assert [numbers.get("loss") for numbers in told] == [None if math.isnan(loss) else loss] * 2


@pytest.mark.usefixtures("matched")
def test_a_step_that_was_taken_makes_a_set_and_many_skipped_ones_are_told(
    data: TrainData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, matching = iter([torch.tensor(1e9), torch.tensor(0.5), torch.tensor(float("nan"))]), unroll.matching
    monkeypatch.setattr(unroll, "matching", lambda *given: matching(*given)._replace(loss=next(losses)))
    settings = PADConfig(**{**small.PAD_SETTINGS, "threshold": 1, "iterations": 3})
    outcome = distill(settings, data, seed=3, directory=tmp_path)
    assert outcome.status == artifacts.COMPLETED
    assert outcome.message.startswith("2 of 3 steps were skipped")


def test_no_iterations_leave_the_first_images(data: TrainData, tmp_path: Path) -> None:
    outcome = distill(config(iterations=0), data, seed=3, directory=tmp_path)
    assert (outcome.status, outcome.step) == (artifacts.COMPLETED, 0)
    assert stored(tmp_path) == stored(tmp_path, "initial")
    real = DeviceImages(data.train, data.encoding)
    pixels = {image.numpy().tobytes() for image in real.pixels}
    assert {image.numpy().tobytes() for image in (outcome.images.pixels * 255).round().byte()} <= pixels


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("init", ["noise", "real", "kcenter", "herding"])
def test_every_start_and_factor(init: str, factor: int, data: TrainData, tmp_path: Path) -> None:
    settings = config(init=init, factor=factor, iterations=2)
    outcome = distill(settings, data, seed=3, directory=tmp_path)
    assert outcome.status == artifacts.COMPLETED
    found = DistilledSet.load(tmp_path / "set")
    assert found.pixels.shape == (6, 1, 8, 8)
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert len(found) == 6 * factor**2
    assert found.classes == small.CLASSES
    assert torch.equal(found.pixels, outcome.images.pixels)


def test_the_manifest_says_what_made_it(data: TrainData, tmp_path: Path) -> None:
    outcome = distill(config(), data, seed=3, directory=tmp_path)
    manifest = DistilledSet.load(tmp_path / "set").manifest
    assert DataDAMConfig.parse(manifest["config"]) == config()
    assert (manifest["seed"], manifest["step"], manifest["factor"]) == (3, STEPS, 1)
    assert "torch" in manifest["versions"]
    assert outcome.images.manifest["seed"] == 3


def test_only_the_training_images_are_seen(data: TrainData, tmp_path: Path) -> None:
    distill(config(), data, seed=3, directory=tmp_path / "a")
    distill(config(), data._replace(val=small.images(3, stream=9)), seed=3, directory=tmp_path / "b")
    assert stored(tmp_path / "a") == stored(tmp_path / "b")


def test_more_images_than_a_class_has(data: TrainData, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ipc=13.*'left' has only 12.*lower ipc"):
        distill(config(ipc=13), data, seed=3, directory=tmp_path)
