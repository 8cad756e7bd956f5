"""The trials of a search as they stand in its run folder: the one record of what was tried and what came of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from raydistill.artifacts import COMPLETED, FAILED, Status, Unit, units
from raydistill.config import Scalar

SETTLED = Unit.FINAL | {FAILED}
"Statuses that end a trial for its search; unlike the other three, ``failed`` says nothing about the settings."


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """One trial as its unit tells it.

    Attributes:
        number: from 0; the unit's name.
        params: dotted config path → value, of the searched settings alone.
        status: ``running`` or one of ``SETTLED``.
        values: iteration → validation accuracy in [0, 1] measured there, in order.
        val_accuracy: at the trial's end; ``None`` if it was not measured there.
        seconds: that the distillation took; by the clock, so never the same twice.
        iterations: done.
        message: why it diverged, stopped or failed.
    """

    number: int
    params: Mapping[str, Scalar]
    status: Status
    values: Mapping[int, float]
    val_accuracy: float | None = None
    seconds: float | None = None
    iterations: int | None = None
    message: str = ""

    @property
    def settled(self) -> bool:
        """Whether the search is done with it."""
        return self.status in SETTLED


class Listener(Protocol):
    """Who wants to know how a search goes; called in the driving process, one call at a time."""

    def trial_started(self, number: int, params: Mapping[str, Scalar]) -> None:
        """A trial was handed out."""

    def trial_progress(self, number: int, step: int, numbers: Mapping[str, float]) -> None:
        """Numbers of one step; not of every step."""

    def trial_finished(self, record: TrialRecord) -> None:
        """A trial is settled."""

    def trial_again(self, number: int, why: str) -> None:
        """A trial goes on with more of a machine."""


class Silent:
    """The listener that does nothing."""

    def trial_started(self, number: int, params: Mapping[str, Scalar]) -> None:
        """Nothing."""

    def trial_progress(self, number: int, step: int, numbers: Mapping[str, float]) -> None:
        """Nothing."""

    def trial_finished(self, record: TrialRecord) -> None:
        """Nothing."""

    def trial_again(self, number: int, why: str) -> None:
        """Nothing."""


SILENT = Silent()


def trial_unit(run: Path, number: int) -> Unit:
    """The unit of trial ``number`` in the run folder."""
    return Unit(run / "units" / "trial" / f"{number:04d}")


def read_trial(unit: Unit) -> TrialRecord | None:
    """The record behind a trial's unit; ``None`` before it has begun."""
    state = unit.read()
    if "params" not in state:
        return None
    metrics = state.get("metrics", {})
    iterations = metrics.get("iterations")
    return TrialRecord(
        number=int(unit.name),
        params=state["params"],
        status=state["status"],
        values={int(line["step"]): line["val_accuracy"] for line in unit.history() if "val_accuracy" in line},
        val_accuracy=metrics.get("val_accuracy"),
        seconds=metrics.get("seconds"),
        iterations=None if iterations is None else int(iterations),
        message=state.get("message", ""),
    )


def read_trials(run: Path) -> list[TrialRecord]:
    """All begun trials of a run folder, by number; a folder that is not named by one, such as a copy, is none."""
    records = [read_trial(unit) for unit in units(run, "trial") if unit.name.isdecimal()]
    return sorted((r for r in records if r is not None), key=lambda r: r.number)


def best_trial(records: Iterable[TrialRecord]) -> TrialRecord | None:
    """The completed trial of highest validation accuracy, the earlier one of equals; ``None`` if none completed."""
    return max(_completed(records), key=lambda r: (r.val_accuracy, -r.number), default=None)


def _completed(records: Iterable[TrialRecord]) -> Sequence[TrialRecord]:
    return [r for r in records if r.status == COMPLETED and r.val_accuracy is not None]
