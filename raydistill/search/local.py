"""A search in this process, one trial after another; gives the same trials and numbers as ``search.tune``."""

from collections.abc import Mapping
from pathlib import Path

from raydistill.artifacts import FAILED
from raydistill.data.load import TrainData
from raydistill.errors import OutOfMemory
from raydistill.runtime.local import Local
from raydistill.search.definition import Search
from raydistill.search.ledger import Ledger
from raydistill.search.objective import REAL, Engine, run_trial
from raydistill.search.trials import SILENT, Listener, trial_unit


def run_search(
    search: Search,
    run: Path,
    data: TrainData,
    runtime: Local,
    listener: Listener = SILENT,
    engine: Engine = REAL,
) -> None:
    """Run every trial that the run folder lacks; the results are read with ``read_trials``.

    Raises:
        ConfigError: the run folder holds another search's trials.
        EnvironmentIssue: ``budget.gpus`` without a GPU, or a trial's surroundings failed, such as a full disk.
    """
    ledger = Ledger(search, run)
    share = search.budget.of("search")
    with runtime.worker(share.cpus, share.gpus) as device:
        for number in ledger.remaining():
            assignment = ledger.assign(number)
            listener.trial_started(number, assignment.params)

            def progress(step: int, numbers: Mapping[str, float], number: int = number) -> None:
                listener.trial_progress(number, step, numbers)

            try:
                run_trial(search, assignment, data, run, device, progress, engine)
            except OutOfMemory as error:
                trial_unit(run, number).finish(FAILED, {}, message=f"out of memory: {error}")
            listener.trial_finished(ledger.settle(number))
