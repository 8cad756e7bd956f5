"""Lengths that fit into a time: iterations, students, and epochs on all images are lowered by one share until the forecast does.

How long a student of a set is trained, and which networks are, is part of what a figure means: that stays.
"""

import math
from collections.abc import Callable, Mapping

from raydistill.costs import Forecast, duration
from raydistill.errors import ConfigError
from raydistill.expert_stage import wanted
from raydistill.search.definition import Search
from raydistill.search.lengths import shortened

LESS = {
    "experts": "--set distill.experts.count=2",
    "search": "--set budget.trials=4",
    "distill": "--set distill.network_pool=3",
    "evaluate": "--set 'evaluate.baselines=[]'",
    "nas": "--set nas=null",
}
"Stage → what makes it shorter, though it is no length."

STEPS = 30
"Halvings of the interval in which the share is sought."


def share_within(minutes: float, searches: Mapping[str, Search], forecast: Callable[[str, Search], Forecast]) -> float:
    """The largest share, in [0, 1], of the searches' lengths (``search.lengths.shortened``) that takes ``minutes``.

    Args:
        minutes: of wall time, for all of them.
        searches: name → search.
        forecast: what ``plan.forecast`` says of a search of that name; asked again and again, with other lengths.

    Raises:
        ConfigError: the shortest lengths take longer.
    """

    def at(share: float) -> dict[str, float]:
        short = {name: shortened(search, share) for name, search in searches.items()}
        return stages(short, {name: forecast(name, search) for name, search in short.items()})

    if math.isnan(minutes):
        raise ConfigError("--budget nan: give a number of minutes")
    if sum(at(1).values()) <= 60 * minutes:
        return 1.0
    least = at(0)
    if sum(least.values()) > 60 * minutes:
        told = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in least.items() if seconds >= 1)
        raise ConfigError(
            f"--budget {minutes:g}: the shortest lengths take {duration(sum(least.values()))} ({told}); give more "
            f"minutes, or ask for less, such as {LESS[max(least, key=least.__getitem__)]}"
        )
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        share = (low + high) / 2
        if sum(at(share).values()) <= 60 * minutes:
            low = share
        else:
            high = share
    return low


def stages(searches: Mapping[str, Search], forecasts: Mapping[str, Forecast]) -> dict[str, float]:
    """Seconds of each stage of all; experts that several searches share are trained once."""
    seconds: dict[str, float] = {}
    trained = []
    for name, search in searches.items():
        experts = (search.data, wanted(search))
        for cost in forecasts[name].costs:
            if cost.stage != "experts" or experts not in trained:
                seconds[cost.stage] = seconds.get(cost.stage, 0.0) + cost.seconds
        trained.append(experts)
    return seconds
