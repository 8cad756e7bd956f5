"""Whether two orders of the same networks agree: rank correlations with bootstrap intervals, and the regret of a pick.

Intervals are percentile bootstraps over networks: the networks are drawn again with replacement, pairs together. So they
say how far the correlation could be chance of which networks were compared; the spread between seeds is in the accuracies.

Shapes: n networks, R resamples.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from raydistill.seeding import numpy_generator

RESAMPLES = 2000
FEWEST = 3
"Networks without which a rank correlation says nothing."
TOPS = (5, 10)
CELLS = 4_000_000
"Pairs compared at once; bounds the memory."


class Correlation(NamedTuple):
    """A rank correlation with its 95 % interval; ``None`` where it is not defined (too few networks, or all equal)."""

    value: float | None
    low: float | None
    high: float | None
    networks: int

    @property
    def shown(self) -> bool:
        """Whether the interval lies above zero."""
        return self.low is not None and self.low > 0


def agreement(proxy: Mapping[str, float], truth: Mapping[str, float]) -> dict[str, Any]:
    """How well the order by ``proxy`` is the order by ``truth``, over the networks that both have.

    Args:
        proxy: network → accuracy on the proxy, its pick first.
        truth: network → accuracy after training on the whole set.

    Returns:
        ``spearman`` and ``kendall``: {``all``, ``top5``, ``top10``} → ``Correlation`` as a mapping, the tops being the best
        by ``truth``; ``regret``: what the truth's best is above the truth of the proxy's best.
    """
    names = sorted(proxy.keys() & truth.keys())
    by_truth = sorted(names, key=lambda name: -truth[name])
    groups = {"all": names, **{f"top{k}": by_truth[:k] for k in TOPS if k < len(names)}}
    found: dict[str, Any] = {}
    for measure in ("spearman", "kendall"):
        found[measure] = {
            group: correlation(measure, [proxy[n] for n in chosen], [truth[n] for n in chosen])._asdict()
            for group, chosen in groups.items()
        }
    return {**found, "regret": regret(proxy, truth)}


def regret(proxy: Mapping[str, float], truth: Mapping[str, float]) -> float | None:
    """The truth's best minus the truth of the proxy's pick, its first network; ``None`` if that one has no truth."""
    first = next(iter(proxy))
    return max(truth.values()) - truth[first] if first in truth else None


def correlation(measure: str, x: Sequence[float], y: Sequence[float]) -> Correlation:
    """Spearman's ρ or Kendall's τ_b between ``x`` [n] and ``y`` [n], with its bootstrap interval."""
    from scipy import stats

    a, b, count = np.asarray(x, float), np.asarray(y, float), len(x)
    if count < FEWEST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(None, None, None, count)
    point = stats.spearmanr if measure == "spearman" else stats.kendalltau
    resample = spearman_rows if measure == "spearman" else kendall_rows
    rows = numpy_generator(0, "bootstrap", measure).integers(0, count, (RESAMPLES, count))
    values = resample(a[rows], b[rows])
    # A resample of equal values has no order, so it cannot count.
    low, high = np.quantile(values[np.isfinite(values)], [0.025, 0.975])
    return Correlation(float(point(a, b).statistic), float(low), float(high), count)


def spearman_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's ρ of each row of ``a`` and ``b`` [R, n], equal values sharing a rank: [R], NaN where a row is constant."""
    from scipy import stats

    ranks = [stats.rankdata(values, axis=1) for values in (a, b)]
    centred = [r - r.mean(axis=1, keepdims=True) for r in ranks]
    with np.errstate(invalid="ignore"):
        rho: np.ndarray = (centred[0] * centred[1]).sum(1) / np.sqrt(
            (centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1)
        )
    return rho


def kendall_rows(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Kendall's τ_b of each row of ``a`` and ``b`` [R, n]: [R], NaN where a row is constant."""
    size = max(1, CELLS // a.shape[1] ** 2)
    parts = [_kendall(a[i : i + size], b[i : i + size]) for i in range(0, len(a), size)]
    return np.concatenate(parts)


def _kendall(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    signs = [np.sign(values[:, :, None] - values[:, None, :]) for values in (a, b)]
    with np.errstate(invalid="ignore"):
        tau: np.ndarray = (signs[0] * signs[1]).sum((1, 2)) / np.sqrt(
            np.abs(signs[0]).sum((1, 2)) * np.abs(signs[1]).sum((1, 2))
        )
    return tau
