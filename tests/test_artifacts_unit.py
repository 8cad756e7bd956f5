"""Units of work: their life, their history through kills, and how a run's units are found."""

import json
from pathlib import Path

import pytest

from raydistill import artifacts
from raydistill.artifacts import Unit, units
from raydistill.errors import EnvironmentIssue


def test_the_life_of_a_unit(tmp_path: Path) -> None:
    unit = Unit(tmp_path / "units" / "trial" / "0007")
    assert (unit.kind, unit.name) == ("trial", "0007")
    assert unit.read() == {}
    assert unit.status is None
    assert unit.history() == []
    unit.begin("f" * 16, {"distill.lr_img": 0.3}, {"method": "DataDAM"})
    assert unit.status == artifacts.RUNNING
    unit.log(1, {"loss": 2.5})
    unit.log(2, {"loss": 1.5, "val_accuracy": 0.5})
    unit.finish(artifacts.COMPLETED, {"val_accuracy": 0.5}, step=2, seconds=1.25)
    assert unit.read() == {
        "schema": 1,
        "kind": "trial",
        "name": "0007",
        "fingerprint": "f" * 16,
        "status": "completed",
        "params": {"distill.lr_img": 0.3},
        "tags": {"method": "DataDAM"},
        "metrics": {"val_accuracy": 0.5},
        "step": 2,
        "seconds": 1.25,
    }
    assert unit.history() == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 1.5, "val_accuracy": 0.5}]
    assert Unit(unit.directory).read() == unit.read()


def test_beginning_again_keeps_the_history_of_the_same_work(tmp_path: Path) -> None:
    unit = Unit(tmp_path / "units" / "trial" / "0")
    unit.begin("a" * 16, {}, {})
    unit.log(1, {"loss": 2.0})
    unit.finish(artifacts.FAILED, {}, message="killed")
    unit.begin("a" * 16, {}, {})
    assert unit.status == artifacts.RUNNING
    assert "message" not in unit.read()
    assert unit.history() == [{"step": 1, "loss": 2.0}]


def test_what_counts_as_done() -> None:
    assert set(Unit.FINAL) == {"completed", "diverged", "stopped"}


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    unit = Unit(tmp_path / "units" / "trial" / "0")
    for step in range(1, 4):
        unit.log(step, {"loss": 1 / step})
    whole = unit.history_file.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in range(len(lines[-1]) - 1):
        unit.history_file.write_bytes(whole[: len(whole) - 1 - cut - 1])
        assert unit.history() == [json.loads(line) for line in lines[:2]]


def test_after_a_line_cut_short_the_unit_goes_on(tmp_path: Path) -> None:
    unit = Unit(tmp_path / "units" / "trial" / "0")
    unit.log(1, {"loss": 1.0})
    unit.log(2, {"loss": 0.5})
    with open(unit.history_file, "a", encoding="utf-8") as file:
        file.write('{"step": 3, "lo')
    unit.log(3, {"loss": 0.25})
    assert [line["step"] for line in unit.history()] == [1, 2, 3]


def test_rewind_forgets_what_came_later(tmp_path: Path) -> None:
    unit = Unit(tmp_path / "units" / "trial" / "0")
    unit.rewind(5)
    for step in (1, 2, 3, 4):
        unit.log(step, {"loss": float(step)})
    with open(unit.history_file, "a", encoding="utf-8") as file:
        file.write('{"step": 5, "lo')
    unit.rewind(2)
    unit.log(3, {"loss": 30.0})
    assert [(line["step"], line["loss"]) for line in unit.history()] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    unit.rewind(0)
    assert unit.history() == []


def test_a_unit_whose_numbers_are_no_numbers_is_not_recorded_as_finished(tmp_path: Path) -> None:
    unit = Unit(tmp_path / "units" / "trial" / "0")
    unit.begin("a" * 16, {}, {})
    with pytest.raises(ValueError, match="JSON"):
        unit.finish(artifacts.DIVERGED, {"loss": float("nan")})
    assert unit.status == artifacts.RUNNING


def test_notes_stay_when_the_same_work_is_begun_again(tmp_path: Path) -> None:
    unit = Unit(tmp_path / "units" / "trial" / "0")
    unit.begin("a" * 16, {}, {})
    unit.note("out of memory")
    unit.begin("a" * 16, {}, {})
    unit.note("again")
    unit.finish(artifacts.COMPLETED, {})
    assert unit.read()["notes"] == ["out of memory", "again"]
    unit.begin("b" * 16, {}, {})
    assert "notes" not in unit.read()


def test_units_lists_what_has_begun_in_name_order(tmp_path: Path) -> None:
    for kind, name in (("trial", "0002"), ("trial", "0001"), ("evaluate", "random-ConvNetD3")):
        Unit(tmp_path / "units" / kind / name).begin("a" * 16, {}, {})
    (tmp_path / "units" / "trial" / "0003").mkdir()
    assert [u.name for u in units(tmp_path, "trial")] == ["0001", "0002"]
    assert [(u.kind, u.name) for u in units(tmp_path)] == [
        ("evaluate", "random-ConvNetD3"),
        ("trial", "0001"),
        ("trial", "0002"),
    ]
    assert list(units(tmp_path / "nowhere")) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full_is_said_in_one_line(tmp_path: Path) -> None:
    unit = Unit(tmp_path / "units" / "trial" / "0000")
    unit.directory.mkdir(parents=True)
    unit.history_file.symlink_to("/dev/full")
    with pytest.raises(EnvironmentIssue, match=r"history\.jsonl: No space left on device; free space or choose"):
        unit.log(1, {"loss": 1.0})
