"""One trial, without Ray and without Optuna."""

import ast
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from raydistill import provenance
from raydistill.artifacts import (
    COMPLETED,
    DIVERGED,
    FAILED,
    RUNNING,
    STOPPED,
    Unit,
)
from raydistill.config import Scalar
from raydistill.data.distilled import DistilledSet
from raydistill.data.load import TrainData
from raydistill.distill.datadam import DataDAM
from raydistill.distill.loop import Outcome
from raydistill.errors import EnvironmentIssue
from raydistill.evaluate.protocol import protocol
from raydistill.search.definition import Budget, Float, Search
from raydistill.search.objective import Assignment, Engine, run_trial, trial_fingerprint
from raydistill.search.stopping import Bar, Bars
from raydistill.search.trials import read_trial, trial_unit
from tests.search import fakes
from tests.search.fakes import FAKE, make_data, make_search

PARAMS: dict[str, Scalar] = {"distill.lr_img": 2.0, "distill.momentum": 0.5, "distill.init": "real"}


def run(folder: Path, number: int = 0, bars: Bars | None = None, engine: Engine = FAKE, **budget: Any) -> Unit:
    run_trial(make_search(**budget), Assignment(number, PARAMS, bars or {}), make_data(), folder, engine=engine)
    return trial_unit(folder, number)


def steps_done(folder: Path) -> list[int]:
    return [line["step"] for line in fakes.read_work(folder) if line["what"] == "step"]


def test_a_trial_is_rated_at_each_rung_and_once_at_its_end(tmp_path: Path) -> None:
    unit = run(tmp_path, grace=4, reduction=2)
    state, record = unit.read(), read_trial(unit)
    assert record is not None
    assert list(record.values) == [4, 8, 16, 30]
    assert sorted(record.values.values()) == list(record.values.values())
    assert (record.status, record.params, record.iterations) == (COMPLETED, PARAMS, 30)
    assert record.val_accuracy == record.values[30]
    assert state["metrics"]["seconds"] == state["seconds"] >= 0
    assert state["step"] == 30
    about = {"method": "DataDAM", "dataset": "digits", "ipc": "10", "init": "real", "seed": "7"}
    assert state["tags"] == about | {"machine": provenance.machine()}
    assert [line["step"] for line in unit.history()] == list(range(1, 31))
    assert all({"loss", "seconds"} <= line.keys() for line in unit.history())
    assert DistilledSet.load(unit.directory / "set").pixels.shape == (1, 1, 1, 1)


def test_without_stopping_only_the_end_is_rated(tmp_path: Path) -> None:
    record = read_trial(run(tmp_path, stopping="none"))
    assert record is not None
    assert list(record.values) == [30]


def test_long_trials_note_about_fifty_steps(tmp_path: Path) -> None:
    unit = run(tmp_path, iterations=1000, stopping="none")
    assert [line["step"] for line in unit.history()] == list(range(20, 1001, 20))


def test_a_trial_without_iterations_is_rated_as_it_starts(tmp_path: Path) -> None:
    record = read_trial(run(tmp_path, iterations=0))
    assert record is not None
    assert (record.status, list(record.values), record.iterations) == (COMPLETED, [0], 0)


def test_the_students_accuracies_are_averaged_and_drawn_alike_for_all_trials(tmp_path: Path) -> None:
    asked: list[Mapping[str, Any]] = []

    def rate(images: DistilledSet, on: Any, **how: Any) -> list[float]:
        asked.append(how)
        return [0.2, 0.3, 0.7]

    for number in (0, 1):
        record = read_trial(run(tmp_path, number, engine=Engine(fakes.distill, rate), stopping="none", students=3))
        assert record is not None
        assert record.val_accuracy == pytest.approx(0.4)
    assert asked[0] == asked[1]
    assert asked[0]["students"] == 3
    assert asked[0]["protocol"] == make_search().budget.validation


def test_a_trial_out_of_the_best_stops_at_that_rung(tmp_path: Path) -> None:
    unit = run(tmp_path, bars={4: Bar(0.1, 1), 8: Bar(0.99, 1)}, grace=4, reduction=2)
    record = read_trial(unit)
    assert record is not None
    assert (record.status, list(record.values), record.iterations) == (STOPPED, [4, 8], 8)
    assert record.val_accuracy == record.values[8]
    assert record.message == "not in the best 1/2 of 2 at iteration 8"


def test_divergence_is_a_result_with_its_step_and_loss(tmp_path: Path) -> None:
    unit = run(tmp_path, 2, engine=fakes.TEMPERAMENTAL)
    state = unit.read()
    assert (state["status"], state["step"], state["message"]) == (DIVERGED, 5, "loss inf at step 5")
    assert "val_accuracy" not in state["metrics"]
    assert not (unit.directory / "error.txt").exists()


def test_an_exception_is_recorded_in_one_line_with_its_traceback_beside(tmp_path: Path) -> None:
    unit = run(tmp_path, 1, engine=fakes.TEMPERAMENTAL)
    assert unit.status == FAILED
    assert unit.read()["message"] == "ValueError: no good"
    assert "in temperamental" in (unit.directory / "error.txt").read_text()


def test_settings_that_do_not_go_together_fail_that_trial_alone(tmp_path: Path) -> None:
    run_trial(make_search(), Assignment(0, {"distill.ipc": 0}, {}), make_data(), tmp_path, engine=FAKE)
    unit = trial_unit(tmp_path, 0)
    assert unit.status == FAILED
    assert "ipc=0" in unit.read()["message"]


def test_a_gpu_that_fails_says_nothing_about_the_settings(tmp_path: Path) -> None:
    def fails(*args: Any, **more: Any) -> Outcome:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nsee …")

    with pytest.raises(EnvironmentIssue, match=r"trial 0: the GPU failed .CUDA error: an illegal .*--resume"):
        run_trial(make_search(), Assignment(0, {}, {}), make_data(), tmp_path, engine=FAKE._replace(distill=fails))
    assert trial_unit(tmp_path, 0).status == RUNNING


def test_a_settled_trial_is_left_as_it_is(tmp_path: Path) -> None:
    unit = run(tmp_path)
    before = unit.file.read_bytes(), unit.history_file.read_bytes(), len(fakes.read_work(tmp_path))
    run(tmp_path)
    assert (unit.file.read_bytes(), unit.history_file.read_bytes(), len(fakes.read_work(tmp_path))) == before


class Killed(BaseException):
    """Stands for a kill: nothing handles it."""


def killing_at(step: int) -> Engine:
    """The fake engine that is killed when it has done ``step`` and before it reports it."""

    def distill(config: Any, data: TrainData, *, report: Any, **rest: Any) -> Outcome:
        def until(at: int, numbers: Any, images: Any) -> bool:
            if at == step:
                raise Killed
            return bool(report(at, numbers, images))

        return fakes.distill(config, data, report=until, **rest)

    return Engine(distill, fakes.rate)


@pytest.mark.parametrize("step", [1, 2, 4, 5, 8, 9, 29, 30])
def test_a_killed_trial_goes_on_from_its_checkpoint_with_the_same_end(tmp_path: Path, step: int) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "cut", engine=killing_at(step))
    cut = trial_unit(tmp_path / "cut", 0)
    assert cut.status == RUNNING
    with open(cut.history_file, "a") as file:
        file.write('{"step": 77, "lo')  # a line cut short
    run(tmp_path / "cut")

    def known(unit: Unit) -> Any:
        return [{k: v for k, v in line.items() if k != "seconds"} for line in unit.history()]

    assert known(cut) == known(whole)
    assert cut.read()["metrics"]["val_accuracy"] == whole.read()["metrics"]["val_accuracy"]
    checkpoint = (step - 1) // 3 * 3
    assert steps_done(tmp_path / "cut") == [*range(1, step + 1), *range(checkpoint + 1, 31)]


def test_seconds_add_up_over_interruptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fakes.PAUSE, "0.02")
    with pytest.raises(Killed):
        run(tmp_path, engine=killing_at(25))
    # 24 steps were noted before, and the 6 after the checkpoint at step 24 are slept through again.
    assert run(tmp_path).read()["metrics"]["seconds"] >= 30 * 0.02


def test_rating_does_not_count_as_seconds_of_the_distillation(tmp_path: Path) -> None:
    rated = []

    def slow(images: DistilledSet, on: Any, **how: Any) -> list[float]:
        before = time.monotonic()
        time.sleep(0.3)
        found = fakes.rate(images, on, **how)
        rated.append(time.monotonic() - before)
        return found

    before = time.monotonic()
    unit = run(tmp_path, engine=Engine(fakes.distill, slow))
    assert unit.read()["metrics"]["seconds"] <= time.monotonic() - before - sum(rated)


@pytest.mark.parametrize("stop", [False, True])
def test_a_kill_between_the_last_number_and_the_end_repeats_no_work(tmp_path: Path, stop: bool) -> None:
    bars: Bars = {8: Bar(0.99, 2)} if stop else {}
    unit = run(tmp_path, bars=bars)
    ended, done = unit.read(), len(fakes.read_work(tmp_path))
    (unit.directory / "state").mkdir()
    unit.begin(trial_fingerprint(make_search(), PARAMS), PARAMS, ended["tags"])  # the end was never written
    run(tmp_path, bars=bars)
    assert len(fakes.read_work(tmp_path)) == done
    again = unit.read()
    for state in (ended, again):  # the clock
        assert state["metrics"].pop("seconds") == state.pop("seconds")
    assert again == ended
    assert not (unit.directory / "state").exists()
    assert ended["status"] == (STOPPED if stop else COMPLETED)


def test_two_workers_never_run_the_same_trial_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fakes.PAUSE, "0.01")
    workers = [threading.Thread(target=run, args=(tmp_path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert steps_done(tmp_path) == list(range(1, 31))


def test_the_fingerprint_changes_with_what_the_result_depends_on_alone() -> None:
    base = trial_fingerprint(make_search(), PARAMS)
    assert trial_fingerprint(make_search(name="other", trials=99, parallel=7, cpus=3, sampler="random"), PARAMS) == base
    for search in (make_search(iterations=31), make_search(grace=5), make_search(validation=protocol("seed"))):
        assert trial_fingerprint(search, PARAMS) != base
    assert trial_fingerprint(make_search(), {**PARAMS, "distill.momentum": 0.4}) != base


def test_the_real_engine_distils_rates_and_resumes(tmp_path: Path, digits_data: TrainData) -> None:
    search = Search(
        name="real",
        distill=DataDAM.Config(method="DataDAM", network="ConvNetD1", iterations=6, ipc=1, batch_real=8),
        space={"distill.lr_img": Float(low=0.1, high=1.0)},
        budget=Budget(grace=2, reduction=2, validation=protocol("fast", epochs=3)),
    )
    run_trial(search, Assignment(0, {"distill.lr_img": 0.5}, {}), digits_data, tmp_path)
    record = read_trial(trial_unit(tmp_path, 0))
    assert record is not None
    assert record.status == COMPLETED, record.message
    assert list(record.values) == [2, 4, 6]
    images = DistilledSet.load(trial_unit(tmp_path, 0).directory / "set")
    assert images.pixels.shape == (10, 1, 8, 8)
    assert torch.isfinite(images.pixels).all()


def test_nothing_in_the_search_can_name_the_test_set() -> None:
    package = Path(fakes.__file__).parents[2] / "raydistill"
    for file in sorted([*(package / "search").glob("*.py"), *(package / "runtime").glob("*.py")]):
        tree = ast.parse(file.read_text())
        named = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        named |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        named |= {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom | ast.Import) for a in n.names}
        assert not named & {"load_test", "test", "build", "source_class"}, file
        assert not {name for name in named if name.startswith("raydistill.data.sources")}, file


def test_a_trial_loads_neither_ray_nor_optuna() -> None:
    code = "import sys, raydistill.search.objective; print(sorted({'ray', 'optuna', 'mlflow', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
