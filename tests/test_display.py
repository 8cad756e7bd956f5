"""What is shown of work that another machine does, over object storage."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from raydistill import artifacts, display, expert_stage, storage
from raydistill.artifacts import Unit
from raydistill.experts.trajectory import Place
from tests.test_stages import Heard


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Turns this process into one on another machine; gives the run's folder there, in one store."""
    import fsspec

    fsspec.filesystem("memory").store.clear()
    monkeypatch.setattr(display, "LOOK_EVERY", 0.0)

    def become(name: str) -> Path:
        monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / name))
        return storage.place("memory://bucket/run")

    return become


def test_the_last_line_of_a_history_is_found_where_it_is(machine: Callable[[str], Path]) -> None:
    far = Unit(machine("a") / "units" / "distill" / "final")
    near = Unit(machine("b") / "units" / "distill" / "final")
    latest = display.latest_of(near)
    assert latest() == {"step": 0.0}
    machine("a")
    far.log(1, {"loss": 2.0})
    far.log(5, {"loss": 1.0})
    machine("b")
    assert latest() == {"step": 5, "loss": 1.0}
    assert not near.history_file.exists(), "a worker on this machine may be ahead of the store"
    near.log(9, {"loss": 0.5})
    assert latest() == {"step": 9, "loss": 0.5}


def test_a_local_history_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_ask", None)
    unit = Unit(tmp_path / "units" / "distill" / "final")
    latest = display.latest_of(unit)
    assert latest() == {"step": 0.0}
    unit.log(3, {"loss": 2.0})
    assert latest() == {"step": 3, "loss": 2.0}


def test_epochs_of_experts_that_another_machine_trains_are_shown(
    machine: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expert_stage, "WATCH_SECONDS", 0.05)
    for epoch in (1, 2):
        artifacts.save_folder(Place(machine("a")).part(3, epoch), "state", {}, {"x": torch.zeros(1)})
    place, heard, told = Place(machine("b")), Heard(), list[tuple[int, int, int]]()
    monkeypatch.setattr(heard, "trial", lambda number, step, total, numbers: told.append((number, step, total)))
    with expert_stage._watched(place, [2, 3], 4, heard):
        until = time.monotonic() + 20
        while not told and time.monotonic() < until:
            time.sleep(0.05)
    assert set(told) == {(3, 2, 4)}
    assert not place.parts.exists()
