"""A search on Ray Tune.

Tune runs the trials: it places them, shares out the GPUs, keeps their processes alive from one trial to the next, and
starts those again whose process or machine died. It is not asked to remember anything: what was tried is in the run
folder's units. An interrupted search goes on with a fresh Tuner that is given what they lack, so nothing is restored
from pickles and nothing can be ahead of anything else when a process is killed.
"""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.logger import TBXLoggerCallback
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from raydistill import storage
from raydistill.artifacts import FAILED, Unit
from raydistill.data.load import TrainData
from raydistill.errors import EnvironmentIssue, FullDisk, OutOfGPUMemory, OutOfMemory
from raydistill.runtime import leaving, room
from raydistill.runtime.base import SMALLER, Share, threads
from raydistill.runtime.on_ray import OnRay
from raydistill.runtime.pool import device, signals_through
from raydistill.search.definition import Search
from raydistill.search.ledger import Ledger
from raydistill.search.objective import REAL, Assignment, Engine, run_trial, trial_fingerprint
from raydistill.search.stopping import Bar
from raydistill.search.trials import SETTLED, SILENT, Listener, trial_unit

# Loggers that no one reads cost 8 ms a report; the snapshots are for Tune's own restore; Ctrl-C is for the caller.
SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def run_search(
    search: Search,
    run: Path,
    data: TrainData,
    runtime: OnRay,
    listener: Listener = SILENT,
    engine: Engine = REAL,
) -> None:
    """Run every trial that the run folder lacks; the results are read with ``read_trials``.

    Raises:
        ConfigError: the run folder holds another search's trials, or no machine has the CPUs or GPUs of one trial.
        EnvironmentIssue: the nodes do not share the disk of ``run``, or a trial's surroundings failed, such as a full disk.
    """
    ledger = Ledger(search, run)
    share = search.budget.of("search")
    while ledger.remaining():
        runtime.capacity(*share)
        searcher = FromLedger(ledger, listener, runtime.full)
        _fit(search, run, data, runtime, searcher, share, engine)
        if searcher.failure is not None:
            raise searcher.failure
        if searcher.too_small:
            share = _enlarged(searcher, share, runtime)
        for number, error in searcher.moved.items():
            _again(searcher, number, f"{error}; goes on on another machine")
        if not searcher.unsettled:
            return


def _fit(
    search: Search, run: Path, data: TrainData, runtime: OnRay, searcher: "FromLedger", share: Share, engine: Engine
) -> None:
    """Have Tune run what remains, until all is settled or a trial needs more memory."""
    budget, remaining = search.budget, searcher.waiting
    workers = min(budget.parallel, len(remaining), runtime.capacity(*share))
    runtime.release()
    runtime.require_shared(run)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the listener is told of what fails
    os.environ.update(SETTINGS, TUNE_MAX_PENDING_TRIALS_PG=str(workers))
    places = tune.PlacementGroupFactory([room.wanted(share)], **_elsewhere(runtime))
    trainable = tune.with_parameters(_trial, search=search, data=data, run=storage.address(run), engine=engine)
    tuner = tune.Tuner(
        tune.with_resources(trainable, places),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=KeepWorkers(workers),
            num_samples=len(remaining),
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(run.absolute()),
            failure_config=tune.FailureConfig(max_failures=budget.max_failures),
            callbacks=[TBXLoggerCallback()],  # type: ignore[no-untyped-call]
            verbose=0,
        ),
    )
    with signals_through():
        tuner.fit()


def _elsewhere(runtime: OnRay) -> dict[str, Any]:
    """How Tune keeps trials from nodes whose disks are full."""
    return {"bundle_label_selector": [room.elsewhere(runtime.full)]} if runtime.full else {}


def _enlarged(searcher: "FromLedger", share: Share, runtime: OnRay) -> Share:
    """Twice the share for the trials that ran out of memory; where no machine has more they have failed."""
    of_gpu = any(isinstance(error, OutOfGPUMemory) for error in searcher.too_small.values())
    more = room.larger(share, of_gpu, runtime.full)
    for number, error in searcher.too_small.items():
        if more is None:
            unit = _unit(searcher, number)
            unit.finish(FAILED, {}, message=f"out of memory with {share} ({error}); {SMALLER}")
            searcher.listener.trial_finished(searcher.ledger.settle(number))
        else:
            _again(searcher, number, f"out of memory with {share}; goes on with {more}")
    return more or share


def _again(searcher: "FromLedger", number: int, why: str) -> None:
    searcher.listener.trial_again(number, why)  # first: writing it down may take a while, and be interrupted
    unit = _unit(searcher, number)
    if unit.status is not None:  # else it did not come so far
        unit.note(why)


def _unit(searcher: "FromLedger", number: int) -> Unit:
    """A trial's unit as its worker left it."""
    unit = trial_unit(searcher.ledger.run, number)
    storage.fetch(unit.directory)
    return unit


class KeepWorkers(FIFOScheduler):
    """First come, first served; keeps ``workers`` processes from one trial to the next.

    By itself Tune keeps one idle process, and a search has more of them when a trial must wait for one that lasts longer
    than those after it: then all are free at once, and a new process takes seconds to import PyTorch.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray has no type for it
        self.workers = workers

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """At the first trial: make room for idle processes. Ray has no public setting for it."""
        super().on_trial_add(tune_controller, trial)
        tune_controller._actor_cache.increase_max(trial.placement_group_factory, self.workers)
        self.workers = 0


REPORT_SECONDS = 0.5
"Between two reports without a rating: one holds a trial up by milliseconds, until Tune has taken it."

NUMBERS = "numbers/"
"What a trial reports, as Tune flattens it."
WHY, MEMORY, GPU, NODE = "why", "out_of_memory", "gpu", "node"
"What a trial reports last that is not settled: the words of the exception; of what it needs more memory; whose disk is full."


class FromLedger(Searcher):
    """Tells Tune which trial is next: the first in the ledger that is ready."""

    def __init__(self, ledger: Ledger, listener: Listener, full: set[str]) -> None:
        super().__init__()
        self.ledger, self.listener, self.full = ledger, listener, full
        self.waiting = ledger.remaining()
        self.numbers: dict[str, int] = {}
        self.failure: Exception | None = None
        self.too_small: dict[int, OutOfMemory] = {}
        "Trials whose share was."
        self.moved: dict[int, str] = {}
        "Trials whose machine has a full disk."
        self.unsettled = set[int]()
        "Both, and those for which the search ends."

    def suggest(self, trial_id: str) -> Any:
        """The trial's config, ``None`` while the next must wait for others to end, or ``FINISHED``."""
        if not self.waiting or self.failure is not None or self.unsettled:
            return Searcher.FINISHED
        if not self.ledger.ready(self.waiting[0]):
            return None
        number = self.waiting.pop(0)
        self.numbers[trial_id] = number
        assignment = self.ledger.assign(number)
        self.listener.trial_started(number, assignment.params)
        bars = [[step, *bar] for step, bar in assignment.bars.items()]
        return {"number": number, "params": dict(assignment.params), "bars": bars}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass a trial's numbers on."""
        numbers = {key.removeprefix(NUMBERS): v for key, v in result.items() if key.startswith(NUMBERS)}
        number = self.numbers[trial_id]
        if WHY in result:
            self.unsettled.add(number)
        if MEMORY in result:
            error = OutOfGPUMemory if result[MEMORY] == GPU else OutOfMemory
            self.too_small[number] = error(result[WHY])
        elif NODE in result:
            self.full.add(result[NODE])
            self.moved[number] = result[WHY]
        elif WHY in result:
            self.failure = EnvironmentIssue(result[WHY])
        elif numbers:
            self.listener.trial_progress(number, result["timesteps_total"], numbers)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Read how it ended; Tune says ``error`` when its process died more often than is allowed."""
        number = self.numbers.pop(trial_id)
        if number in self.unsettled:
            return
        try:
            self._settle(number, error)
        except Exception as failure:  # Tune would take it for the trial's own
            self.failure = failure

    def _settle(self, number: int, error: bool) -> None:
        unit = trial_unit(self.ledger.run, number)
        storage.fetch(unit.directory)
        if error and unit.status not in SETTLED:
            times = self.ledger.search.budget.max_failures + 1
            if unit.status is None:  # it died each time before it could say that it runs
                params = self.ledger.assign(number).params
                unit.begin(trial_fingerprint(self.ledger.search, params), params, {})
            unit.finish(FAILED, {}, message=f"its process died {times} times; out of memory?")
        self.listener.trial_finished(self.ledger.settle(number))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is on disk."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher for a restore that is never made; listeners need not pickle


def _trial(config: Mapping[str, Any], search: Search, data: TrainData, run: str, engine: Engine) -> None:
    reported = -REPORT_SECONDS

    def progress(step: int, numbers: Mapping[str, float]) -> None:
        nonlocal reported
        if "val_accuracy" not in numbers and time.monotonic() - reported < REPORT_SECONDS:
            return
        tune.report({"timesteps_total": step, "numbers": dict(numbers)})  # TensorBoard's axis has that name
        reported = time.monotonic()

    leaving.watch()
    bars = {step: Bar(*bar) for step, *bar in config["bars"]}
    assignment = Assignment(config["number"], config["params"], bars)
    with threads(search.budget.of("search").cpus):
        try:
            run_trial(search, assignment, data, storage.place(run), device(), progress, engine)
        except OutOfMemory as error:
            tune.report({MEMORY: GPU if isinstance(error, OutOfGPUMemory) else "host", WHY: str(error)})
        except FullDisk as error:
            tune.report({NODE: ray.get_runtime_context().get_node_id(), WHY: str(error)})
        except EnvironmentIssue as error:
            tune.report({WHY: str(error)})


def _name(trial: Any) -> str:
    return f"{trial.config['number']:04d}"
