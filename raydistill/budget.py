"""Lengths that fit into a time: iterations are lowered until the forecast does; nothing else is changed.

Students, their epochs and the networks of NAS are part of what a figure means, so they stay, and cost what they cost.
"""

from collections.abc import Mapping

from raydistill.errors import ConfigError
from raydistill.expert_stage import wanted
from raydistill.plan import Forecast, counts, duration
from raydistill.search.definition import Search

STAGES = ("experts", "search", "evaluate", "nas")
"What takes the time that it takes."

STEPS = 40
"Halvings of the interval in which the share of the iterations is sought."


def fitted(searches: Mapping[str, Search], forecasts: Mapping[str, Forecast], minutes: float) -> dict[str, Search]:
    """The searches with the same share of their iterations, the largest with which all together take ``minutes``.

    Args:
        searches: name → search.
        forecasts: name → what ``plan.forecast`` says of it, at its full length.
        minutes: of wall time, for all of them.

    Raises:
        ConfigError: what does not depend on the iterations takes longer.
    """
    rest = _rest(searches, forecasts)
    if sum(rest.values()) >= 60 * minutes:
        told = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in rest.items() if seconds)
        raise ConfigError(
            f"--budget {minutes:g}: only iterations are lowered, and the rest takes {duration(sum(rest.values()))} ({told}); "
            "give more minutes, or ask for less of the rest, such as --set evaluate.students=2"
        )
    left = 60 * minutes - sum(rest.values())
    low, high = 0.0, 1.0
    if _distilling(searches, forecasts, high) <= left:
        return dict(searches)
    for _ in range(STEPS):
        share = (low + high) / 2
        if _distilling(searches, forecasts, share) <= left:
            low = share
        else:
            high = share
    return {name: with_length(search, _share(search, low)) for name, search in searches.items()}


def length(search: Search) -> int:
    """Iterations of the final distillation."""
    return int(search.without_space().override(search.final).distill.iterations)


def with_length(search: Search, iterations: int) -> Search:
    """The search with so many iterations of its final distillation."""
    path = "distill.iterations"
    if path in search.final:
        return search.override({"final": {**search.final, path: iterations}})
    return search.override({path: iterations})


def _rest(searches: Mapping[str, Search], forecasts: Mapping[str, Forecast]) -> dict[str, float]:
    """Seconds of each stage but the last distillations; of experts that several searches share, those of one."""
    seconds, trained = dict.fromkeys(STAGES, 0.0), []
    for name, search in searches.items():
        experts = (search.data, wanted(search))
        for cost in forecasts[name].costs:
            if cost.stage in seconds and not (cost.stage == "experts" and experts in trained):
                seconds[cost.stage] += cost.seconds
        trained.append(experts)
    return seconds


def _share(search: Search, share: float) -> int:
    return max(1, int(share * length(search)))


def _distilling(searches: Mapping[str, Search], forecasts: Mapping[str, Forecast], share: float) -> float:
    """Seconds of all final distillations; phases that come once, such as the first visits of a pool, do not shrink first."""
    total = 0.0
    for name, search in searches.items():
        each = {cost.what: cost.each for cost in forecasts[name].costs if cost.stage == "distill"}
        config = search.without_space().override(search.final).distill
        if each:
            total += sum(n * each[phase] for phase, n in counts(config, _share(search, share)).items())
    return total
