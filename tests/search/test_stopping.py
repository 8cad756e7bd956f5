"""Successive halving as a pure function."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.artifacts import COMPLETED
from raydistill.search.definition import Budget
from raydistill.search.stopping import Bar, bar, bars, expected_trials, rungs
from raydistill.search.trials import TrialRecord


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [(50, ()), (51, (50,)), (150, (50,)), (151, (50, 150)), (1000, (50, 150, 450)), (0, ())],
)
def test_rungs_grow_by_the_reduction_and_lie_before_the_end(iterations: int, expected: tuple[int, ...]) -> None:
    assert rungs(Budget(grace=50, reduction=3), iterations) == expected


def test_without_stopping_there_are_no_rungs() -> None:
    assert rungs(Budget(stopping="none", grace=1), 100) == ()


@pytest.mark.parametrize(
    ("value", "others", "on"),
    [
        (0.1, [], True),  # nothing to compare with
        (0.1, [0.9], True),  # two values are fewer than reduction = 3
        (0.1, [0.9, 0.8], False),  # the worst of three: one place
        (0.9, [0.1, 0.8], True),
        (0.8, [0.9, 0.1, 0.2, 0.3, 0.4], True),  # the second of six: two places
        (0.4, [0.9, 0.8, 0.1, 0.2, 0.3], False),  # the third
        (0.9, [0.9, 0.1], True),  # no other is better
    ],
)
def test_a_trial_goes_on_among_the_best_third(value: float, others: list[float], on: bool) -> None:
    assert bar(others, reduction=3).compared == len(others)
    assert (value >= bar(others, reduction=3).least) is on


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40, unique=True), st.integers(2, 5))
def test_exactly_the_share_of_distinct_values_goes_on(values: list[float], reduction: int) -> None:
    survivors = sum(v >= bar([o for o in values if o != v], reduction).least for v in values)
    assert survivors == (len(values) // reduction or len(values))


def test_the_bar_is_of_the_trials_that_were_settled_for_certain() -> None:
    records = [TrialRecord(n, {}, COMPLETED, {50: n / 10, 150: n / 5}) for n in (3, 0, 2, 1)]
    budget = Budget(parallel=2)
    assert bars(budget, 4, records) == {50: Bar(0.2, 3), 150: Bar(0.4, 3)}
    assert bars(budget, 3, records) == {50: Bar(0.1, 2), 150: Bar(0.2, 2)}
    assert bars(budget, 1, records) == {}
    # Trials of lengths of their own end where no other is rated.
    lengths = [TrialRecord(n, {}, COMPLETED, {50: n / 10, 60 + n: 1.0}) for n in range(4)]
    assert bars(budget, 5, lengths) == {50: Bar(0.3, 4)}


def test_expected_trials_follow_the_stopping_rule() -> None:
    budget = Budget(trials=4, parallel=1, grace=10, reduction=2)
    # One value is too few to tell; of two the better goes on, of three one, of four two.
    assert expected_trials(budget, 15) == [(0, 10, 4), (10, 15, 1 + 1 / 2 + 1 / 3 + 1 / 2)]
    assert expected_trials(Budget(trials=4, stopping="none"), 15) == [(0, 15, 4)]
    # With all at once, nobody has anyone to be compared with.
    assert expected_trials(Budget(trials=4, parallel=4, grace=10), 15) == [(0, 10, 4), (10, 15, 4)]
