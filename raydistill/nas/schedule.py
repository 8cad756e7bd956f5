"""In which order trainings begin, and how long they keep so many workers busy."""

import heapq
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from raydistill.models.flops import training_flops
from raydistill.nas.rank import Item, Plan
from raydistill.nas.space import Proxy


class Dry(NamedTuple):
    """A schedule that was only thought through."""

    seconds: float
    "From the first beginning to the last end."
    busy: float
    "Share of the workers' time in which they work, in [0, 1]."
    driver: float = 0.0
    "Share of the time in which the driver hands items out, in [0, 1]."


def operations(item: Item, plans: Mapping[Proxy, Plan], shape: tuple[int, int, int], classes: int) -> int:
    """Floating-point operations of a training."""
    return plans[item.proxy].images * training_flops(item.network, shape, classes)


def largest_first(
    items: Iterable[Item], plans: Mapping[Proxy, Plan], shape: tuple[int, int, int], classes: int
) -> list[Item]:
    """The items by falling number of operations: what takes longest begins first, so that workers end together."""
    return sorted(items, key=lambda item: -operations(item, plans, shape, classes))


def dry_run(seconds: Iterable[float], workers: int, handing: float = 0.0, window: int | None = None) -> Dry:
    """What ``Runtime.map`` would take: whoever is free does the next item.

    Args:
        seconds: of each item, in their order.
        workers: how many there are, at least one.
        handing: seconds that the driver needs for each item, one after another, before it begins.
        window: item n begins only when items 0 … n − window are done, as a search's trials do; ``None``: at once.
    """
    free, worked, driver, settled = [0.0] * workers, 0.0, 0.0, 0.0
    ends: list[float] = []
    for number, duration in enumerate(seconds):
        if window is not None and number >= window:
            settled = max(settled, ends[number - window])
        driver = max(driver, heapq.heappop(free), settled) + handing
        ends.append(driver + duration)
        heapq.heappush(free, ends[-1])
        worked += duration
    end = max(free)
    if not end:
        return Dry(0.0, 1.0)
    return Dry(end, worked / (end * workers), len(ends) * handing / end)
