"""``gpus="auto"``: no GPU where there is none, else the share of one that leaves a piece of each stage's work room enough.

A piece of each kind is tried on a whole GPU, as for the forecast, and the memory that it took says how many fit. That is an
estimate: a piece for which it turns out too small is done again with twice the share, as any is.
"""

import math
from collections.abc import Callable, Sequence

from raydistill import plan
from raydistill.data.load import TrainData
from raydistill.errors import ConfigError
from raydistill.runtime.base import Runtime
from raydistill.search.definition import Budget, Resources, Search, Stage

CONTEXT = 0.7e9
"Bytes that a process takes of a GPU before its first tensor: CUDA's context, and the libraries' work space."
FILLED = 0.9
"Of a GPU's memory that pieces are planned to take."
MOST = 8
"Pieces that share a GPU; more of them only wait for each other."


def settled(
    search: Search, data: TrainData, runtime: Runtime, stages: Sequence[Stage], note: Callable[[str], None]
) -> Search:
    """The search with a number in the place of each ``"auto"`` of these stages.

    Args:
        search: any; one without ``"auto"`` comes back as it is.
        data: what the pieces are tried on.
        runtime: where.
        stages: those that will run.
        note: told what was found.

    Raises:
        ConfigError: an accelerator is asked for that is not there.
    """
    asking = [stage for stage in stages if search.budget.asks(stage) == "auto"]
    if not asking:
        return search
    whole = _with(search, dict.fromkeys(asking, 1.0))
    if not _has_gpu(whole.budget, asking, runtime):
        return _with(search, dict.fromkeys(asking, 0.0))
    note("trying how much memory of a GPU a piece of work takes")
    found = dict.fromkeys(asking, 1.0)
    for stage, (taken, total) in plan.gpu_memory(whole, data, runtime, asking).items():
        found[stage] = share(taken, total)
        pieces = round(1 / found[stage])
        note(f"{stage}: {pieces} on a GPU of {total / 1e9:.0f} GB at once, for one took {taken / 1e9:.1f} GB")
    return _with(search, found)


def share(taken: int, total: int) -> float:
    """Of a GPU of ``total`` bytes for pieces whose tensors take ``taken``: 1/n, rounded down to what Ray can count."""
    pieces = max(1, min(MOST, int(FILLED * total / (taken + CONTEXT))))
    return math.floor(1e4 / pieces) / 1e4


def _has_gpu(budget: Budget, stages: Sequence[Stage], runtime: Runtime) -> bool:
    try:
        for stage in stages:
            runtime.capacity(*budget.of(stage))
    except ConfigError:
        if any(budget.of(stage).accelerator for stage in stages):
            raise
        return False
    return True


def _with(search: Search, gpus: dict[Stage, float]) -> Search:
    budget = search.budget
    given = {
        stage: budget.resources.get(stage, Resources()).model_copy(update={"gpus": n}) for stage, n in gpus.items()
    }
    budget = budget.model_copy(update={"resources": {**budget.resources, **given}})
    return search.model_copy(update={"budget": budget})
