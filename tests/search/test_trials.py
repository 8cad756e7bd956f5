"""The trials as read back from the run folder."""

import shutil
from pathlib import Path

import pytest

from raydistill.artifacts import COMPLETED, DIVERGED, FAILED, RUNNING, STOPPED
from raydistill.search.trials import TrialRecord, best_trial, read_trial, read_trials, trial_unit


def record(number: int, status: str, accuracy: float | None = None, seconds: float | None = None) -> TrialRecord:
    return TrialRecord(number, {}, status, {}, accuracy, seconds)


def test_a_unit_reads_back_as_its_record(tmp_path: Path) -> None:
    unit = trial_unit(tmp_path, 12)
    assert read_trial(unit) is None
    unit.begin("f", {"distill.lr_img": 0.3}, {})
    unit.log(1, {"loss": 2.0})
    unit.log(4, {"loss": 1.0, "val_accuracy": 0.5})
    running = read_trial(unit)
    assert running == TrialRecord(12, {"distill.lr_img": 0.3}, RUNNING, {4: 0.5})
    assert not running.settled
    unit.finish(STOPPED, {"val_accuracy": 0.5, "seconds": 2.5, "iterations": 4}, message="why")
    ended = read_trial(unit)
    assert ended == TrialRecord(12, {"distill.lr_img": 0.3}, STOPPED, {4: 0.5}, 0.5, 2.5, 4, "why")
    assert ended.settled


def test_a_unit_that_never_began_is_no_trial(tmp_path: Path) -> None:
    unit = trial_unit(tmp_path, 0)
    unit.note("no room on its disk; goes on on another machine")
    assert read_trial(unit) is None
    unit.begin("f", {"a": 1}, {})
    record = read_trial(unit)
    assert record is not None
    assert (record.status, record.params) == (RUNNING, {"a": 1})


def test_trials_come_in_number_order_beyond_four_digits(tmp_path: Path) -> None:
    for number in (10000, 3, 9999):
        trial_unit(tmp_path, number).begin("f", {}, {})
    assert [r.number for r in read_trials(tmp_path)] == [3, 9999, 10000]


def test_a_copied_folder_is_no_trial(tmp_path: Path) -> None:
    trial_unit(tmp_path, 3).begin("f", {}, {})
    folder = trial_unit(tmp_path, 3).directory
    shutil.copytree(folder, folder.with_name("0003 copy"))
    assert [r.number for r in read_trials(tmp_path)] == [3]


def test_best_is_the_completed_trial_of_highest_accuracy_and_the_earlier_of_equals() -> None:
    records = [record(0, COMPLETED, 0.5), record(1, STOPPED, 0.9), record(2, COMPLETED, 0.7), record(3, COMPLETED, 0.7)]
    assert best_trial(records) is records[2]


@pytest.mark.parametrize("status", [STOPPED, DIVERGED, FAILED, RUNNING])
def test_without_a_completed_trial_there_is_no_best(status: str) -> None:
    assert best_trial([record(0, status, 0.9)]) is None
