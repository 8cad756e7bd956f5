"""One trial: distil with its settings, rate the images on the validation split at each rung and at the end.

Nothing here knows Ray or Optuna. All that a trial is handed of the data is ``TrainData``, so nothing in it can reach
the test set. Every trial distils and rates from the same seeds: settings are compared on equal draws.
"""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from raydistill import provenance, storage
from raydistill.artifacts import COMPLETED, FAILED, STOPPED, alone, folder_exists, remove, write_text
from raydistill.config import Scalar, fingerprint
from raydistill.data.distilled import DistilledSet
from raydistill.data.load import TrainData
from raydistill.distill import loop
from raydistill.errors import ArtifactError, EnvironmentIssue, FullDisk, OutOfMemory
from raydistill.evaluate import students
from raydistill.experts import store
from raydistill.runtime.base import memory_watched
from raydistill.search.definition import Search
from raydistill.search.stopping import Bars, rungs
from raydistill.search.trials import SETTLED, trial_unit
from raydistill.seeding import derive

REPORTS = 50
"How often a trial notes its numbers, rungs aside."

Progress = Callable[[int, Mapping[str, float]], None]


class Assignment(NamedTuple):
    """One trial as its worker gets it: ``bars`` are what it must reach at its rungs."""

    number: int
    params: Mapping[str, Scalar]
    bars: Bars


class Engine(NamedTuple):
    """The work of a trial: ``distill.loop.distill``, and ``evaluate.students.rate`` for its images."""

    distill: Callable[..., loop.Outcome] = loop.distill
    rate: Callable[..., Sequence[float]] = students.rate


REAL = Engine()

SURROUNDINGS = (EnvironmentIssue, ArtifactError, OSError)
"What says nothing about a trial's settings: the disk is full, experts are gone, the storage does not answer."


def run_trial(
    search: Search,
    assignment: Assignment,
    data: TrainData,
    run: Path,
    device: str = "cpu",
    progress: Progress = lambda step, numbers: None,
    engine: Engine = REAL,
) -> None:
    """Run a trial to its end, from its checkpoint if it has one, and record in its unit what came of it.

    Returns with the unit ``completed``, ``stopped``, ``diverged`` or ``failed``; an exception in the work is recorded
    (``error.txt``), not raised. A trial that is settled already is left as it is. One that lacks memory is not settled, for
    it may be given more; nor is one whose surroundings failed: what follows it is suggested from its result.

    Args:
        search: the search.
        assignment: number, settings and bars of the trial.
        data: training and validation images.
        run: the run folder.
        device: where to compute.
        progress: told the numbers of noted steps.
        engine: the work.

    Raises:
        OutOfMemory: the trial goes on from its checkpoint when it is run again.
        FullDisk: so it does, on another machine.
        EnvironmentIssue: so it does, when what is said there has been mended.
    """
    unit = trial_unit(run, assignment.number)
    with alone(unit.directory / ".lock"):
        storage.fetch(unit.directory)
        if unit.status in SETTLED:
            return
        tags = {"method": search.distill.method, "dataset": search.data.source, "seed": str(search.seed)}
        for name in ("ipc", "init"):
            tags[name] = str(assignment.params.get(f"distill.{name}", getattr(search.distill, name)))
        tags["machine"] = provenance.machine()
        unit.begin(trial_fingerprint(search, assignment.params), assignment.params, tags)
        try:
            with memory_watched():
                _Trial(search, assignment, data, run, device, progress, engine).run()
        except (OutOfMemory, FullDisk):
            raise
        except SURROUNDINGS as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise EnvironmentIssue(f"trial {assignment.number}: {reason}; then go on with --resume") from error
        except Exception as error:  # one bad trial does not end a search
            write_text(unit.directory / "error.txt", traceback.format_exc())
            unit.finish(FAILED, {}, message=" ".join(f"{type(error).__name__}: {error}".split())[:500])
        remove(unit.directory / "state")


def trial_fingerprint(search: Search, params: Mapping[str, Scalar]) -> str:
    """Of everything that a trial's result depends on."""
    values = search.without_space().to_json()
    about = {key: values[key] for key in ("seed", "data", "distill")}
    budget = {key: values["budget"][key] for key in ("stopping", "grace", "reduction", "validation", "students")}
    return fingerprint({**about, **budget, "params": dict(params)})


class _Trial:
    """The report function of the loop, and what it remembers between two calls."""

    def __init__(
        self,
        search: Search,
        assignment: Assignment,
        data: TrainData,
        run: Path,
        device: str,
        progress: Progress,
        engine: Engine,
    ) -> None:
        self.search, self.data, self.device, self.progress, self.engine = search, data, device, progress, engine
        self.bars = assignment.bars
        self.unit = trial_unit(run, assignment.number)
        self.cache = store.beside(run)
        self.config = search.without_space().override(assignment.params).distill
        self.rungs = rungs(search.budget, self.config.iterations)
        history = self.unit.history()
        self.values = {int(line["step"]): line["val_accuracy"] for line in history if "val_accuracy" in line}
        self.seconds = {int(line["step"]): line["seconds"] for line in history}
        self.started = time.monotonic()
        self.going = False

    def run(self) -> None:
        last = self.config.iterations
        lost = [step for step in self.rungs if step in self.values and not self._goes_on(step)]
        if lost or (last in self.values and folder_exists(self.unit.directory / "set")):
            # All was done and noted; a kill came just before the unit's end was.
            step = lost[0] if lost else last
            self._finish(STOPPED if lost else COMPLETED, step, self.seconds[step])
            return
        outcome = self.engine.distill(
            self.config,
            self.data,
            seed=derive(self.search.seed, "distill"),
            directory=self.unit.directory,
            device=self.device,
            report=self.report,
            report_at=frozenset({*self.rungs, *range(0, last, max(1, last // REPORTS))}),
            cache=self.cache,
        )
        self._go_on_at(outcome.step)
        if outcome.status == COMPLETED and outcome.step not in self.values:  # no iterations, no report
            self._note(outcome.step, {"val_accuracy": self._rate(outcome.step, outcome.images)})
        self._finish(outcome.status, outcome.step, self._clock(), outcome.message)

    def report(self, step: int, numbers: Mapping[str, float], images: Callable[[], DistilledSet]) -> bool:
        """What the loop calls; rates the images at rungs and at the end, and says whether to go on."""
        self._go_on_at(step)
        rated = step in self.rungs or step == self.config.iterations
        self._note(step, {**numbers, "val_accuracy": self._rate(step, images())} if rated else numbers)
        return step not in self.rungs or self._goes_on(step)

    def _go_on_at(self, step: int) -> None:
        """At the first report: forget what was noted after the checkpoint, those steps were just done again."""
        if not self.going:
            self.unit.rewind(step - 1)
            self.values = {s: v for s, v in self.values.items() if s < step}
            self.started -= max((v for s, v in self.seconds.items() if s < step), default=0.0)
            self.going = True

    def _rate(self, step: int, images: DistilledSet) -> float:
        begun = time.monotonic()
        budget = self.search.budget
        accuracies = self.engine.rate(
            images,
            on=self.data.val,
            network=self.config.network,
            protocol=budget.validation,
            students=budget.students,
            seed=derive(self.search.seed, "validation"),
            device=self.device,
        )
        self.values[step] = sum(accuracies) / len(accuracies)
        self.started += time.monotonic() - begun  # a trial's seconds are those of the distillation
        return self.values[step]

    def _note(self, step: int, numbers: Mapping[str, float]) -> None:
        noted = {**numbers, "seconds": self._clock()}
        self.unit.log(step, noted)
        self.progress(step, noted)

    def _clock(self) -> float:
        return round(time.monotonic() - self.started, 3)

    def _goes_on(self, step: int) -> bool:
        return step not in self.bars or self.values[step] >= self.bars[step].least

    def _finish(self, status: str, step: int, seconds: float, message: str = "") -> None:
        metrics = {"iterations": float(step), "seconds": seconds}
        if status in (COMPLETED, STOPPED):
            metrics["val_accuracy"] = self.values[step]
        if status == STOPPED:
            compared = self.bars[step].compared + 1
            message = f"not in the best 1/{self.search.budget.reduction} of {compared} at iteration {step}"
        self.unit.finish(status, metrics, step=step, seconds=seconds, message=message)
