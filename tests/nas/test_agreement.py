"""Rank correlations: scipy's values, intervals that hold what they should, and what is not defined."""

import numpy as np
import pytest
from scipy import stats

from raydistill.nas import agreement as module
from raydistill.nas.agreement import agreement, correlation, kendall_rows, regret, spearman_rows

RNG = np.random.default_rng(0)
TIED = RNG.integers(0, 5, (40, 12)).astype(float)
OTHER = TIED + RNG.integers(0, 4, (40, 12))


def test_rows_are_scipys_values_with_ties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CELLS", 300)  # several rounds
    pairs = list(zip(TIED, OTHER, strict=True))
    assert spearman_rows(TIED, OTHER) == pytest.approx([stats.spearmanr(a, b).statistic for a, b in pairs])
    assert kendall_rows(TIED, OTHER) == pytest.approx([stats.kendalltau(a, b).statistic for a, b in pairs])


def test_a_constant_row_has_no_correlation() -> None:
    flat, other = np.ones((1, 4)), np.arange(4.0)[None]
    assert np.isnan(spearman_rows(flat, other)).all()
    assert np.isnan(kendall_rows(flat, other)).all()


@pytest.mark.parametrize("measure", ["spearman", "kendall"])
def test_interval_holds_the_value_and_narrows_with_more_networks(measure: str) -> None:
    widths = []
    for count in (8, 200):
        truth = RNG.normal(size=count)
        found = correlation(measure, truth + RNG.normal(size=count), truth)
        assert found.low is not None
        assert found.high is not None
        assert found.value is not None
        assert -1 <= found.low <= found.value <= found.high <= 1
        assert found.networks == count
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_interval_is_as_wide_as_the_spread_of_samples() -> None:
    """Of 200 studies of 30 networks each, the intervals hold the true correlation in most."""
    rng, true = np.random.default_rng(1), 0.6
    held = 0
    for _ in range(200):
        x, noise = rng.normal(size=(2, 30))
        rho = 2 * np.sin(np.pi * true / 6)  # the normal correlation with this Spearman correlation
        found = correlation("spearman", x, rho * x + np.sqrt(1 - rho**2) * noise)
        held += found.low <= true <= found.high
    assert 175 <= held <= 200


@pytest.mark.parametrize(("x", "y"), [([0.1, 0.2], [0.3, 0.4]), ([0.5] * 4, [0.1, 0.2, 0.3, 0.4])])
def test_too_few_or_all_equal_is_not_defined(x: list[float], y: list[float]) -> None:
    assert correlation("kendall", x, y) == (None, None, None, len(x))
    assert not correlation("kendall", x, y).shown


def test_shown_where_the_interval_lies_above_zero() -> None:
    line = list(np.arange(10.0))
    assert correlation("spearman", line, line).shown
    assert not correlation("spearman", line, line[::-1]).shown


def test_the_tops_are_the_truths_best() -> None:
    truth = {f"n{i:02d}": float(i) for i in range(12)}
    # The upper half in order, the lower half reversed.
    proxy = {name: value if value >= 7 else 6 - value for name, value in truth.items()}
    found = agreement(dict(sorted(proxy.items(), key=lambda one: -one[1])), truth)
    assert {group: found["spearman"][group]["networks"] for group in found["spearman"]} == {
        "all": 12, "top5": 5, "top10": 10,
    }  # fmt: skip
    assert found["spearman"]["top5"]["value"] == pytest.approx(1)
    assert found["spearman"]["all"]["value"] < 1
    assert found["regret"] == 0


def test_regret_is_what_the_pick_loses() -> None:
    truth = {"a": 0.9, "b": 0.8, "c": 0.5}
    assert regret({"b": 0.3, "c": 0.2, "a": 0.1}, truth) == pytest.approx(0.1)
    assert regret({"a": 0.3, "b": 0.3, "c": 0.2}, truth) == 0
    assert regret({"d": 0.9, "a": 0.3}, truth) is None
