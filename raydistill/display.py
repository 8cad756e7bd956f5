"""What people see while stages run: the protocol of a display, and who tells it of trials and of units under way."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from raydistill import artifacts, storage
from raydistill.artifacts import DIVERGED, FAILED, Unit
from raydistill.config import Scalar
from raydistill.errors import ConfigError
from raydistill.runtime.base import Told
from raydistill.search.definition import Search
from raydistill.search.trials import TrialRecord

LOOK_EVERY = 15.0
"Seconds between two looks into object storage."


class Display(Protocol):
    """What stages tell a person; ``track.Progress`` is one."""

    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        """A stage of ``total`` units begins, of which an earlier start has ``done`` some."""

    def advance(self, stage: str, n: int = 1, text: str = "", share: float | None = None) -> None:
        """``n`` more units of a stage are done; ``share`` in [0, 1] is that of its work, where units differ much."""

    def trial(self, number: int, step: int, total: int, numbers: Mapping[str, float], status: str = "running") -> None:
        """A trial, or another of the units, has come to ``step``, or has ended."""

    def note(self, text: str) -> None:
        """Something to know."""


class Several:
    """Displays that are all told the same, in this order."""

    def __init__(self, *displays: Display) -> None:
        self.displays = displays

    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        """A stage begins."""
        for one in self.displays:
            one.stage(name, total, unit, done)

    def advance(self, stage: str, n: int = 1, text: str = "", share: float | None = None) -> None:
        """``n`` more units of a stage are done."""
        for one in self.displays:
            one.advance(stage, n, text, share)

    def trial(self, number: int, step: int, total: int, numbers: Mapping[str, float], status: str = "running") -> None:
        """A trial has come to ``step``, or has ended."""
        for one in self.displays:
            one.trial(number, step, total, numbers, status)

    def note(self, text: str) -> None:
        """Something to know."""
        for one in self.displays:
            one.note(text)


class ToDisplay:
    """A search's listener that talks to the display."""

    def __init__(self, search: Search, display: Display) -> None:
        self.search, self.display = search, display
        self.totals: dict[int, int] = {}

    def trial_started(self, number: int, params: Mapping[str, Scalar]) -> None:
        """A trial was handed out."""
        plain = self.search.without_space()
        try:
            total = plain.override(params).distill.iterations
        except ConfigError:  # settings that do not go together; the trial itself says so
            total = plain.distill.iterations
        self.totals[number] = total
        self.display.trial(number, 0, total, {})

    def trial_progress(self, number: int, step: int, numbers: Mapping[str, float]) -> None:
        """Numbers of one step."""
        self.display.trial(number, step, self.totals.get(number, step), numbers)

    def trial_found(self, record: TrialRecord) -> None:
        """A trial was settled by an earlier start."""
        step = record.iterations or 0
        numbers = {} if record.val_accuracy is None else {"val_accuracy": record.val_accuracy}
        self.display.trial(record.number, step, self.totals.get(record.number, step), numbers, record.status)

    def trial_finished(self, record: TrialRecord) -> None:
        """A trial is settled."""
        self.trial_found(record)
        self.display.advance("search")
        if record.status in (DIVERGED, FAILED):
            self.display.note(f"trial {record.number} {record.status}: {record.message}")

    def trial_again(self, number: int, why: str) -> None:
        """A trial goes on with more of a machine."""
        self.display.note(f"trial {number}: {why}")


def noted(display: Display, unit_of: Callable[[int], Unit]) -> Told:
    """What ``Runtime.map`` tells of items that are done again, kept in their units and shown."""

    def tell(index: int, text: str) -> None:
        unit = unit_of(index)
        display.note(f"{unit.kind} {unit.name}: {text}")  # first: writing it down may take a while, and be interrupted
        unit.note(text)

    return tell


@contextmanager
def watched(unit: Unit, stage: str, display: Display, share: Callable[[int], float]) -> Iterator[None]:
    """Show a unit's history as it grows; the work may be in another process.

    Args:
        unit: the work.
        stage: of the display.
        display: what is told.
        share: step → the share of the work, in [0, 1], that is done then.
    """

    latest = latest_of(unit)

    def watch(over: threading.Event) -> None:
        shown = 0
        while True:
            ended = over.wait(0.5)
            last = latest()
            step = int(last["step"])
            display.advance(stage, step - shown, f"loss {last['loss']:.4g}" if "loss" in last else "", share(step))
            shown = step
            if ended:
                return

    with meanwhile(watch):
        yield


def latest_of(unit: Unit) -> Callable[[], dict[str, float]]:
    """What finds the last line of a unit's history: here, or now and then in object storage, where another machine writes.

    The mirror is left alone: the work may be on this machine, and be ahead of the store.
    """
    due, there = now_and_then(), [{"step": 0.0}]

    def latest() -> dict[str, float]:
        nonlocal there
        if storage.mirrored(unit.directory) and due() and (content := storage.peek(unit.history_file)):
            there = artifacts.lines_of(content.decode()) or there
        return max((unit.history() or there)[-1], there[-1], key=lambda line: line["step"])

    return latest


def now_and_then() -> Callable[[], bool]:
    """Whether it is time to look into object storage again."""
    looked = time.monotonic()

    def due() -> bool:
        nonlocal looked
        if time.monotonic() - looked < LOOK_EVERY:
            return False
        looked = time.monotonic()
        return True

    return due


@contextmanager
def meanwhile(watch: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run ``watch`` in a thread until the block is over, which sets the event that it is given."""
    over = threading.Event()
    thread = threading.Thread(target=watch, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
