"""Intervals and two-class scores against formulas and numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from raydistill.evaluate.scores import (
    TWO_CLASS,
    as_fields,
    augmentation_robust_score,
    by_class,
    hard_label_recovery,
    improvement_over_random,
    interval,
    label_robust_score,
    possible,
    two_class_scores,
)

accuracies = st.lists(st.floats(0, 1), min_size=2, max_size=12)


@given(values=accuracies, level=st.sampled_from([0.5, 0.9, 0.95, 0.99]))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_the_interval_is_students(values: list[float], level: float) -> None:
    low, high = interval(values, level)
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    assert low <= mean + 1e-12
    assert high >= mean - 1e-12
    if deviation > 1e-9:
        expected = stats.t.interval(level, len(values) - 1, loc=mean, scale=deviation / math.sqrt(len(values)))
        assert (low, high) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_interval_of_five_by_the_table() -> None:
    # t(0.975, 4) = 2.776; mean 0.94, deviation √(0.001/4).
    low, high = interval([0.92, 0.93, 0.94, 0.95, 0.96])
    reach = 2.776445 * math.sqrt(0.001 / 4) / math.sqrt(5)
    assert (low, high) == pytest.approx((0.94 - reach, 0.94 + reach), abs=1e-7)


def test_it_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = [low <= 0 <= high for low, high in (interval(rng.standard_normal(5).tolist()) for _ in range(600))]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.03)


def test_equal_values_have_no_width_and_one_value_no_interval() -> None:
    assert interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    assert all(map(math.isnan, interval([0.5])))
    assert all(map(math.isnan, interval([])))


def test_two_class_scores_by_hand() -> None:
    # Score for class 1 is the difference of logits; class 0: -2, -1, 3 and class 1: 1, 4.
    difference = torch.tensor([-2.0, 1.0, -1.0, 4.0, 3.0])
    labels = torch.tensor([0, 1, 0, 1, 0])
    logits = torch.stack([torch.zeros(5), difference], 1)
    scores = two_class_scores(logits, labels)
    # Right: 2 of 3 and 2 of 2. Of 6 pairs (class 1, class 0) only (1, 3) is the wrong way round.
    assert scores == pytest.approx(
        {
            "balanced_accuracy": (2 / 3 + 1) / 2,
            "auc": 5 / 6,
            "recall_0": 2 / 3,
            "recall_1": 1.0,
            "majority_rate": 3 / 5,
        }
    )


def test_chance_and_perfection() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    right = torch.nn.functional.one_hot(labels).float()
    # An answer that is always the larger class has its accuracy and no more.
    for logits, values in ((torch.zeros(4, 2), (0.5, 0.5, 1, 0)), (right, (1, 1, 1, 1)), (-right, (0, 0, 0, 0))):
        assert two_class_scores(logits, labels) == dict(zip(TWO_CLASS, (*values, 0.75), strict=True))


def test_recalls_are_called_by_their_class() -> None:
    metrics = {"recall_1": 0.6, "accuracy_mean": 0.75, "recall_0": 0.8, "auc": 0.9}
    assert list(by_class(metrics, ("HP", "SSA")).items()) == [("auc", 0.9), ("recall HP", 0.8), ("recall SSA", 0.6)]
    assert as_fields(by_class(metrics, ("HP", "SSA"))) == {"auc": 0.9, "recall": {"HP": 0.8, "SSA": 0.6}}
    assert as_fields(by_class({"accuracy_mean": 0.75}, ())) == {}


def test_outputs_that_are_no_numbers_say_nothing() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    scores = two_class_scores(torch.full((4, 2), torch.nan), labels)
    assert (scores["auc"], scores["recall_0"], scores["recall_1"]) == (0.5, 0, 0)


def test_confident_scores_keep_their_order() -> None:
    # In float32 both probabilities would be 1, of the second pair also in float64.
    for logits in ([[0.0, 20.0], [0.0, 25.0]], [[0.0, 40.0], [0.0, 50.0]]):
        assert two_class_scores(torch.tensor(logits), torch.tensor([0, 1]))["auc"] == 1.0


def test_dd_ranking_by_hand() -> None:
    # Whole set 99 %; distilled 95 % with its own labels, 90 % with hard ones; random images 85 %.
    recovery, improvement = hard_label_recovery(0.99, 0.90), improvement_over_random(0.95, 0.85)
    assert (recovery, improvement) == pytest.approx((0.09, 0.10))
    alpha = 0.5 * 0.10 - 0.5 * 0.09
    expected = (math.exp(alpha) - math.exp(-1)) / (math.exp(1) - math.exp(-1))
    assert label_robust_score(recovery, improvement) == pytest.approx(expected)
    assert expected == pytest.approx(0.271075, abs=1e-5)
    # Without augmentation the set is 20 points above random images.
    beta = 0.5 * 0.10 + 0.5 * 0.20
    expected = (math.exp(beta) - math.exp(-1)) / (math.exp(1) - math.exp(-1))
    assert augmentation_robust_score(0.10, 0.20) == pytest.approx(expected)


def test_dd_ranking_lies_between_zero_and_one() -> None:
    assert label_robust_score(1, -1) == pytest.approx(0)
    assert label_robust_score(-1, 1) == pytest.approx(1)
    assert label_robust_score(0.3, 0.1, weight=1) == augmentation_robust_score(0.1, 0.7, weight=1)
    assert augmentation_robust_score(-1, -1) == pytest.approx(0)
    assert augmentation_robust_score(1, 1) == pytest.approx(1)


def test_no_end_of_a_shown_interval_lies_beyond_an_accuracy() -> None:
    assert possible(-0.1, 0.3) == (0.0, 0.3)
    assert possible(0.9, 1.2) == (0.9, 1.0)
    assert all(map(math.isnan, possible(math.nan, math.nan)))
