"""Lengths that fit into a time: all by the same share, and what comes once does not shrink first."""

from collections.abc import Callable

import pytest

from raydistill import budget, plan
from raydistill.costs import Cost, Forecast
from raydistill.distill.datadam import DataDAM
from raydistill.errors import ConfigError
from raydistill.search.definition import Search
from raydistill.search.lengths import lengths, shortened

EACH = {"first visits of networks": 3.0, "new draws": 1.0, "iterations with known statistics": 0.5}


def search(**more: object) -> Search:
    distill = DataDAM.Config(iterations=1000, network_pool=10, pool_draws=2)
    return Search.parse({"name": "tiny", "distill": distill.to_json(), "evaluate": {"baselines": []}, **more})


def forecast(name: str, search: Search) -> Forecast:
    """At full length 10 first visits of 3 s, 10 draws of 1 s, 980 iterations of 0.5 s, and 5 students of 12 s."""
    counts = plan.counts(search.distill, search.distill.iterations)
    distilling = [Cost("distill", what, n, EACH[what], 1) for what, n in counts.items()]
    return Forecast([*distilling, Cost("evaluate", "distilled", search.evaluate.students, 12, 1)], 0, 0, 0)


def fitted(searches: dict[str, Search], told: Callable[[str, Search], Forecast], minutes: float) -> dict[str, Search]:
    share = budget.share_within(minutes, searches, told)
    return {name: shortened(one, share) for name, one in searches.items()}


def test_what_fits_stays() -> None:
    given = {"a": search()}
    assert fitted(given, forecast, 10) == given


def test_lengths_are_lowered_by_one_share() -> None:
    found = fitted({"a": search()}, forecast, 5)["a"]
    # 300 s: 36 of three students, 30 and 10 of first visits and draws, and 224 of iterations at 0.5 s.
    assert lengths(found) == {"distill.iterations": 468, "evaluate.students": 3}
    assert found == search().override(lengths(found))


def test_all_searches_have_the_same_share_and_fit_together() -> None:
    found = fitted({"a": search(), "b": search()}, forecast, 10)
    assert [lengths(one)["distill.iterations"] for one in found.values()] == [468, 468]
    # One that is twice as long keeps twice as much.
    longer = search(distill={**search().distill.to_json(), "iterations": 2000})
    one, two = (lengths(s)["distill.iterations"] for s in fitted({"a": search(), "b": longer}, forecast, 10).values())
    assert two == pytest.approx(2 * one, abs=1)
    assert (
        sum(
            forecast("", search().override({"distill.iterations": n, "evaluate.students": 2})).seconds
            for n in (one, two)
        )
        <= 600
    )


def test_experts_that_searches_share_are_trained_once() -> None:
    settings = {"iterations": 1000, "experts": {"count": 4}}
    one, two = (
        Search.parse({"name": name, "distill": {"method": "PAD", **settings}, "evaluate": {"baselines": []}})
        for name in ("one", "two")
    )
    more = two.override({"distill.experts.count": 5})

    def told(name: str, search: Search) -> Forecast:
        costs = [Cost("experts", "epochs", 1, 60, 1), Cost("distill", "steps", 10 * search.distill.iterations, 0.1, 1)]
        return Forecast(costs, 0, 0, 0)

    for searches, minutes in (({"a": one, "b": two}, 11), ({"a": one, "b": more}, 12)):
        found = fitted(searches, told, minutes)
        assert [search.distill.iterations for search in found.values()] == [300, 300]


def test_a_time_that_the_shortest_lengths_exceed_is_refused() -> None:
    # One first visit and one student.
    wrong = (
        r"--budget 0.2: the shortest lengths take 15 s .distill 3 s, evaluate 12 s.; give more .* 'evaluate.baselines"
    )
    with pytest.raises(ConfigError, match=wrong):
        fitted({"a": search()}, forecast, 0.2)
    assert lengths(fitted({"a": search()}, forecast, 0.25)["a"]) == lengths(shortened(search(), 0))


def test_no_number_of_minutes_is_refused() -> None:
    with pytest.raises(ConfigError, match="give a number of minutes"):
        fitted({"a": search()}, forecast, float("nan"))
