"""Experts that are damaged or fewer than before, and a set whose driver died when it was done."""

from pathlib import Path
from typing import Any

import pytest

from raydistill import artifacts, definitions, results
from raydistill.artifacts import TENSORS
from raydistill.experts.trajectory import Place
from raydistill.runtime.local import Local
from raydistill.stages import Experiment
from raydistill.track import Progress
from tests.test_expert_stage import TEXT, Notes, bytes_of, entry
from tests.tiny import write_search


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_search(tmp_path, TEXT)


@pytest.mark.parametrize("space", [True, False])
def test_one_that_is_damaged_in_the_middle_is_trained_again_and_the_work_goes_on(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: bool
) -> None:
    search = definitions.load(str(file)).override({} if space else {"space": {}})
    images = []
    for name in ("whole", "damaged"):
        run, heard = tmp_path / name / "run", Notes()
        experiment = Experiment(search, run, Local(), heard)
        results.open_run(search, run, resume=False)
        experiment.check()
        experiment.run_experts()
        whole = bytes_of(run.parent)
        if name == "damaged":  # after the stage has looked
            for index in (0, 1, 2):
                (Place(entry(run.parent)).trajectory(index) / TENSORS).write_bytes(b"damaged")
        experiment.run_search()
        experiment.run_distill()
        images.append((experiment.set_path / TENSORS).read_bytes())
        assert bytes_of(run.parent) == whole
    assert images[0] == images[1]
    assert any("was damaged" in note and note.endswith("it is trained now") for note in heard.notes)


def test_fewer_experts_than_before_are_told_of(file: Path, tmp_path: Path) -> None:
    plain, run = definitions.load(str(file)), tmp_path / "run"
    for count in (3, 2):
        search = plain.override({"distill.experts.count": count})
        results.open_run(search, run, resume=True)
        Experiment(search, run, Local(), Progress(quiet=True)).run_experts()
        stages = results.update(run)["stages"]
        assert stages["experts"]["trajectories"] == count
    assert len(bytes_of(tmp_path)) == 3  # the cache is shared


def test_a_finished_set_whose_driver_died_is_not_distilled_again(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, run = definitions.load(str(file)).override({"space": {}}), tmp_path / "run"
    results.open_run(search, run, resume=False)
    experiment = Experiment(search, run, Local(), Progress(quiet=True))
    experiment.run_experts()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Experiment, "_end_distill", interrupt)
        experiment.run_distill()
    before = stamp(experiment)
    Experiment(search, run, Local(), Progress(quiet=True)).run_distill()
    assert stamp(experiment) == before
    unit = artifacts.Unit(experiment.set_path.parent)
    assert (unit.status, unit.read()["step"]) == (artifacts.COMPLETED, 4)
    assert not (unit.directory / "ended.json").exists()
    # Another distillation is not taken for it.
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Experiment, "_end_distill", interrupt)
        other = search.override({"distill.iterations": 3})
        Experiment(other, run, Local(), Progress(quiet=True)).run_distill()
    Experiment(search, run, Local(), Progress(quiet=True)).run_distill()
    assert unit.read()["step"] == 4


def interrupt(*args: Any) -> None:
    raise KeyboardInterrupt


def stamp(experiment: Experiment) -> int:
    return (experiment.set_path / TENSORS).stat().st_mtime_ns
