"""Early stopping by successive halving (ASHA), as a pure function of settled trials.

At each rung a trial goes on only if it is among the best 1/reduction of those it may be compared with: the trials that
were settled before it was suggested. Their number is known from its own number, so the decision is the same whether
they ran on one worker or on eight, fast or slow, before or after an interruption.

L. Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.
"""

from collections.abc import Iterable, Sequence

from raydistill.search.definition import Budget
from raydistill.search.trials import TrialRecord

Rivals = dict[int, list[float]]
"Iteration → validation accuracies that earlier trials had there."


def rungs(budget: Budget, iterations: int) -> tuple[int, ...]:
    """The iterations, below the last, at which a trial of ``iterations`` is rated and may be stopped."""
    if budget.stopping == "none":
        return ()
    found, rung = [], budget.grace
    while rung < iterations:
        found.append(rung)
        rung *= budget.reduction
    return tuple(found)


def rivals(budget: Budget, number: int, records: Iterable[TrialRecord]) -> Rivals:
    """What trial ``number`` is compared with: the values of trials 0 … number − parallel, by iteration."""
    found: Rivals = {}
    for record in sorted(records, key=lambda r: r.number):
        if record.number <= number - budget.parallel:
            for step, value in record.values.items():
                found.setdefault(step, []).append(value)
    return found


def goes_on(value: float, others: Sequence[float], reduction: int) -> bool:
    """Whether ``value`` is among the best 1/reduction of itself and ``others``, or too few are known to tell.

    Args:
        value: validation accuracy at the rung.
        others: the rivals' there.
        reduction: with fewer values than this, its own included, every trial goes on.
    """
    places = (len(others) + 1) // reduction
    return places == 0 or sum(other > value for other in others) < places
