"""Early stopping by successive halving (ASHA), as a pure function of settled trials.

At each rung a trial goes on only if it is among the best 1/reduction of those it may be compared with: the trials that
were settled before it was suggested. Their number is known from its own number, so the decision is the same whether
they ran on one worker or on eight, fast or slow, before or after an interruption.

L. Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from raydistill.search.definition import Budget
from raydistill.search.trials import TrialRecord


class Bar(NamedTuple):
    """What a trial must reach at a rung to go on; it stands for all that it is compared with, however many these are."""

    least: float
    "Validation accuracy in [0, 1]."
    compared: int
    "Trials that were rated there before."


Bars = dict[int, Bar]
"Iteration of a rung → the bar there."


def rungs(budget: Budget, iterations: int) -> tuple[int, ...]:
    """The iterations, below the last, at which a trial of ``iterations`` is rated and may be stopped."""
    if budget.stopping == "none":
        return ()
    found, rung = [], budget.grace
    while rung < iterations:
        found.append(rung)
        rung *= budget.reduction
    return tuple(found)


def bars(budget: Budget, number: int, records: Iterable[TrialRecord]) -> Bars:
    """The bars of trial ``number``, from the values of trials 0 … number − parallel."""
    found: dict[int, list[float]] = {}
    for record in records:
        if record.number <= number - budget.parallel:
            marks = rungs(budget, 1 + max(record.values, default=0))  # its end lies elsewhere, if its length is its own
            for step in marks:
                if step in record.values:
                    found.setdefault(step, []).append(record.values[step])
    return {step: bar(values, budget.reduction) for step, values in found.items()}


def bar(others: Sequence[float], reduction: int) -> Bar:
    """What is among the best 1/reduction of itself and ``others``.

    Args:
        others: validation accuracies of earlier trials.
        reduction: with fewer values than this, the new one included, every trial goes on.
    """
    places = (len(others) + 1) // reduction
    return Bar(sorted(others, reverse=True)[places - 1] if places else 0.0, len(others))


def expected_trials(budget: Budget, iterations: int) -> list[tuple[int, int, float]]:
    """(from, to, how many trials are expected to run these iterations), if each is as good as any other at every rung."""
    marks = [0, *rungs(budget, iterations), iterations]
    reached: list[list[float]] = []
    settled = [0.0] * (len(marks) - 1)  # at each rung, of those that this one is compared with, as many as are expected
    for number in range(budget.trials):
        if number >= budget.parallel:
            settled = [sum(pair) for pair in zip(settled, reached[number - budget.parallel], strict=True)]
        chance, row = 1.0, []
        for rung in range(len(marks) - 1):
            row.append(chance)
            compared = 1 + int(settled[rung])
            places = compared // budget.reduction
            chance *= places / compared if places else 1.0
        reached.append(row)
    return [(marks[i], marks[i + 1], sum(row[i] for row in reached)) for i in range(len(marks) - 1)]
