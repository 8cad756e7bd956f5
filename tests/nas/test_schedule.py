"""Which training begins first, and how busy that keeps many GPUs: thought through, not done."""

import itertools

import numpy as np
import pytest

from raydistill.models import GRID
from raydistill.nas.rank import Item, distinct, plan
from raydistill.nas.schedule import Dry, dry_run, largest_first, operations
from raydistill.nas.space import NASConfig
from tests.evaluate.test_students import a_set

MNIST = (1, 28, 28)


@pytest.mark.parametrize(
    ("seconds", "workers", "end", "busy"),
    [([3, 2, 2], 2, 4, 7 / 8), ([2, 2, 3], 2, 5, 7 / 10), ([1, 1], 4, 1, 0.5), ([], 3, 0, 1)],
)
def test_whoever_is_free_does_the_next(seconds: list[float], workers: int, end: float, busy: float) -> None:
    found = dry_run(seconds, workers)
    assert (found.seconds, found.busy) == (end, pytest.approx(busy))


def test_as_a_real_runtime_would_with_its_workers_free_at_random_times() -> None:
    """Never shorter than the longest item or the fair share, never longer than the two together."""
    seconds = np.random.default_rng(0).exponential(size=50).tolist()
    for workers in (1, 3, 20):
        fair = sum(seconds) / workers
        assert max(fair, max(seconds)) <= dry_run(seconds, workers).seconds <= fair + max(seconds)


@pytest.mark.parametrize("seeds", [10, 30])
def test_the_grid_keeps_64_gpus_busy(seeds: int) -> None:
    """18 networks × seeds × 4 proxies on MNIST; a training takes its operations, give or take a third, and a start.

    With 10 seeds there are fewer than three trainings on the whole set for each GPU, and the largest network's alone takes
    longer than a GPU's fair share; no order can be faster than that one. With 30 the GPUs are busy to the end.
    """
    config = NASConfig(baselines=("random", "early", "whole"), students=seeds, whole_epochs=10)
    images = a_set(count=99)
    plans = {proxy: plan(proxy, config, images, whole=54_000) for proxy in config.proxies}
    items = [Item(*each) for each in itertools.product(config.proxies, distinct(GRID), range(seeds))]
    rng = np.random.default_rng(0)
    noise = dict(zip(items, rng.uniform(2 / 3, 4 / 3, len(items)), strict=True))

    def run(order: list[Item]) -> Dry:
        return dry_run([2 + operations(i, plans, MNIST, 10) / 2e12 * noise[i] for i in order], 64)

    ordered, shuffled = (
        run(largest_first(items, plans, MNIST, 10)),
        run([items[i] for i in rng.permutation(len(items))]),
    )
    assert ordered.seconds < shuffled.seconds
    if seeds == 30:
        assert ordered.busy >= 0.9
        assert shuffled.busy < 0.9
    else:
        longest = max(2 + operations(i, plans, MNIST, 10) / 2e12 * noise[i] for i in items)
        assert ordered.seconds == pytest.approx(longest)


def test_largest_first_is_by_what_a_training_costs() -> None:
    config = NASConfig(baselines=("whole",))
    plans = {proxy: plan(proxy, config, a_set(), whole=6000) for proxy in config.proxies}
    items = [Item("distilled", "ConvNetW256", 0), Item("whole", "ConvNetD1", 0), Item("whole", "ConvNetNP", 0)]
    ordered = largest_first(items, plans, MNIST, 10)
    costs = [operations(item, plans, MNIST, 10) for item in ordered]
    assert costs == sorted(costs, reverse=True)
    assert ordered[0].network == "ConvNetNP"
