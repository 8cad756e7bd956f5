"""What a person sees while it runs: live bars and trials on a terminal, a line now and then elsewhere; all on stderr."""

import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TextIO, TypeVar, cast

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

LINE_EVERY = 5.0
"Seconds between two lines where stderr is not a terminal."
SHOWN_TRIALS = 12
SHOWN_IN_LINE = 4
SHOWN_AS = {"experts": "expert", "confirm": "network"}
"Stage → what its rows on a terminal are, where they are not trials."
M = TypeVar("M", bound=Callable[..., None])


@dataclass(slots=True)
class _Trial:
    step: int
    total: int
    numbers: dict[str, float] = field(default_factory=dict)
    status: str = "running"

    @property
    def part(self) -> float:
        return min(1.0, self.step / self.total) if self.total > 0 else 0.0


@dataclass(slots=True)
class _Stage:
    task: TaskID
    total: int
    unit: str
    done: int = 0
    text: str = ""
    ended: bool = False
    share: float | None = None

    @property
    def count(self) -> str:
        return f"{self.done}/{self.total}"


def _harmless(method: M) -> M:
    """One caller at a time; and a display that fails falls silent instead of ending the work."""

    @wraps(method)
    def guarded(self: "Progress", *args: Any, **kwargs: Any) -> None:
        if self.quiet:
            return
        try:
            with self._lock:
                method(self, *args, **kwargs)
        except Exception:
            self.quiet = True

    return cast(M, guarded)


class Progress:
    """The live display of a run; each method tells it what happened, from any thread, and never raises.

    Args:
        quiet: show nothing.
        stream: where to write, by default stderr.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        stream = stream or sys.stderr
        self.quiet = quiet or stream is None  # a process may have no stderr
        self._lock = threading.RLock()
        self._stages: dict[str, _Stage] = {}
        self._current = ""
        self._trials: dict[int, _Trial] = {}
        self._best: tuple[float, int, str] | None = None
        self._live: Live | None = None
        self._last_line, self._last_text = 0.0, ""
        if not self.quiet:
            self._console = Console(file=_Deaf(stream), highlight=False)  # type: ignore[arg-type]
            self._bars = Bars(
                TextColumn("{task.description:9}"),
                BarColumn(24),
                TextColumn("{task.fields[count]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
                console=self._console,
                auto_refresh=False,
                speed_estimate_period=3600,
            )

    @_harmless
    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        """A stage begins, and the one before it ends.

        Args:
            name: e.g. ``search``.
            total: how many ``unit`` it has, e.g. 16 ``trials``.
            unit: what is counted, in the plural.
            done: how many an earlier start has done, which say nothing about the time that is left.
        """
        self._end_stage()
        self._trials.clear()
        task = self._bars.add_task(name, total=total, completed=done, text="", count=f"{done}/{total}")
        self._stages[name] = _Stage(task, total, unit, done)
        self._current = name
        if self._console.is_interactive and self._live is None:
            self._live = Live(
                get_renderable=self._picture,
                console=self._console,
                refresh_per_second=4,
                redirect_stdout=False,
            )
            self._live.start()
        self._line(f"{name}: {total} {unit}" + (f", {done} of them done before" if done else ""), force=True)
        if done >= total:
            self._end_stage()

    @_harmless
    def advance(self, stage: str, n: int = 1, text: str = "", share: float | None = None) -> None:
        """``n`` more units of a stage are done.

        Args:
            stage: that began.
            n: how many more.
            text: shown beside it.
            share: of the stage's work that is done now, in [0, 1], for the bar and the time that is left; ``None``: that
                of its units.
        """
        known = self._stages[stage]
        known.done += n
        known.share = share
        known.text = text or known.text
        self._update(known)
        if known.done >= known.total:
            self._end_stage()
        else:
            self._line(self._state(stage))

    @_harmless
    def trial(self, number: int, step: int, total: int, numbers: Mapping[str, float], status: str = "running") -> None:
        """A trial of the current stage reported.

        Args:
            number: of the trial.
            step: done so far, of ``total``.
            total: steps of a whole trial.
            numbers: ``loss``, ``val_accuracy`` (fraction), …; earlier ones are kept.
            status: ``running`` or how it ended.
        """
        row = self._trials.setdefault(number, _Trial(step, total))
        row.step, row.total, row.status = step, total, status
        row.numbers.update(numbers)
        accuracy = numbers.get("val_accuracy")
        if accuracy is not None and (self._best is None or accuracy > self._best[0]):
            self._best = (accuracy, number, self._current)
        if status != "running":
            del self._trials[number]
        if self._current:
            self._update(self._stages[self._current])
            self._line(self._state(self._current))

    @_harmless
    def note(self, text: str) -> None:
        """One line that stays on the screen."""
        self._console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        """End the display and give the terminal back."""
        self._close()

    @_harmless
    def _close(self) -> None:
        self._end_stage()
        if self._live is not None:
            self._trials.clear()
            live, self._live = self._live, None
            live.stop()
        self.quiet = True

    def _update(self, stage: _Stage) -> None:
        running = sum(trial.part for trial in self._trials.values()) if stage is self._stages[self._current] else 0.0
        # Whole units for the count, parts of running trials for the time that is left.
        done = stage.done + running if stage.share is None else stage.share * stage.total
        self._bars.update(stage.task, completed=min(done, stage.total), text=stage.text, count=stage.count)

    def _end_stage(self) -> None:
        stage = self._stages.get(self._current)
        if stage is not None and not stage.ended:
            stage.ended = True
            self._line(self._state(self._current, ended=True), force=True)

    def _state(self, name: str, ended: bool = False) -> str:
        stage = self._stages[name]
        task = self._bars.tasks[self._bars.task_ids.index(stage.task)]
        parts = [f"{name}: {stage.count} {stage.unit}"]
        if self._trials and not ended:
            parts.append(f"{len(self._trials)} running{self._places()}")
        if self._best is not None and self._best[2] == name:
            parts.append(self._best_text())
        if stage.text:
            parts.append(stage.text)
        if ended:
            parts.append(f"took {_duration(task.elapsed or 0.0)}")
        elif task.time_remaining is not None:
            parts.append(f"about {_duration(task.time_remaining)} left")
        return ", ".join(parts)

    def _places(self) -> str:
        """Of a few trials, how far each is."""
        told = [f"{number} at {trial.step}/{trial.total}" for number, trial in sorted(self._trials.items())]
        return f" ({', '.join(told)})" if len(told) <= SHOWN_IN_LINE else ""

    def _line(self, text: str, force: bool = False) -> None:
        now = time.monotonic()
        news = text != self._last_text and now - self._last_line >= LINE_EVERY
        if self._live is None and (force or news):
            self._last_line, self._last_text = now, text
            self._console.print(Text(text), soft_wrap=True)

    def _best_text(self) -> str:
        if not self._best:
            return ""
        accuracy, number, stage = self._best
        return f"best {100 * accuracy:.2f} % ({SHOWN_AS.get(stage, 'trial')} {number})"

    def _picture(self) -> Group:
        # Drawn by the display's own thread: without the lock, which is held while lines are printed.
        trials = sorted(self._trials.items())
        table = Table(
            SHOWN_AS.get(self._current, "trial"),
            "step",
            "loss",
            "val. acc.",
            box=None,
            pad_edge=False,
            header_style="dim",
        )
        for number, trial in trials[:SHOWN_TRIALS]:
            loss, accuracy = trial.numbers.get("loss"), trial.numbers.get("val_accuracy")
            table.add_row(
                str(number),
                f"{trial.step}/{trial.total}",
                "" if loss is None else f"{loss:.4g}",
                "" if accuracy is None else f"{100 * accuracy:.2f} %",
            )
        below: list[Any] = [table] if trials else []
        if len(trials) > SHOWN_TRIALS:
            below.append(Text(f"and {len(trials) - SHOWN_TRIALS} more", style="dim"))
        if self._best is not None:
            below.append(Text(self._best_text()))
        return Group(self._bars.get_renderable(), *below)


class _Deaf:
    """A stream whose reader may go away: what cannot be written is lost, and nothing is raised in anyone's thread."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return

    def isatty(self) -> bool:
        try:
            return self._stream.isatty()
        except (OSError, ValueError):
            return False


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    return f"{round(whole / 60)} min" if whole < 5400 else f"{whole / 3600:.1f} h"
