"""Iterations that fit into a time: the rest of the work and phases that come once do not shrink with them."""

import pytest

from raydistill import budget
from raydistill.distill.datadam import DataDAM
from raydistill.errors import ConfigError
from raydistill.plan import Cost, Forecast
from raydistill.search.definition import Float, Search

FIRST, DRAWS, KNOWN = "first visits of networks", "new draws", "iterations with known statistics"


def search(**more: object) -> Search:
    distill = DataDAM.Config(iterations=1000, network_pool=10, pool_draws=2)
    return Search.parse({"name": "tiny", "distill": distill.to_json(), **more})


def forecast(rest: float = 60.0) -> Forecast:
    """10 first visits of 3 s, 10 draws of 1 s, 980 iterations of 0.5 s, and a minute of students."""
    distilling = [
        Cost("distill", FIRST, 10, 3, 1),
        Cost("distill", DRAWS, 10, 1, 1),
        Cost("distill", KNOWN, 980, 0.5, 1),
    ]
    return Forecast([*distilling, Cost("evaluate", "distilled", 1, rest, 1)], 0, 0, 0)


def test_what_fits_stays() -> None:
    given = {"a": search()}
    assert budget.fitted(given, {"a": forecast()}, 10) == given


def test_iterations_alone_are_lowered() -> None:
    found = budget.fitted({"a": search()}, {"a": forecast()}, 5)["a"]
    # 300 s are 60 of students, 30 and 10 of first visits and draws, and 200 of iterations at 0.5 s.
    assert found.distill.iterations == pytest.approx(420, abs=2)
    assert found == budget.with_length(search(), found.distill.iterations)


def test_all_searches_have_the_same_share_and_fit_together() -> None:
    found = budget.fitted({"a": search(), "b": search()}, {"a": forecast(), "b": forecast()}, 10)
    assert {one.distill.iterations for one in found.values()} == {budget.length(found["a"])}
    assert budget.length(found["a"]) == pytest.approx(420, abs=2)


def test_experts_that_searches_share_are_trained_once() -> None:
    settings = {"iterations": 1000, "experts": {"count": 4}}
    one, two = (Search.parse({"name": name, "distill": {"method": "PAD", **settings}}) for name in ("one", "two"))
    more = two.override({"distill.experts.count": 5})
    costs = [Cost("experts", "epochs", 1, 60, 1), Cost("distill", "2 student steps", 10000, 0.1, 1)]
    told = Forecast(costs, 0, 0, 0)
    for searches, minutes in (({"a": one, "b": two}, 11), ({"a": one, "b": more}, 12)):
        found = budget.fitted(searches, dict.fromkeys(searches, told), minutes)
        assert [budget.length(search) for search in found.values()] == [pytest.approx(300, abs=1)] * 2


def test_the_final_length_is_the_one_that_counts() -> None:
    space = {"distill.lr_img": Float(low=0.1, high=1).to_json()}
    longer = search(space=space, final={"distill.iterations": 2000})
    assert budget.length(longer) == 2000
    found = budget.with_length(longer, 7)
    assert (found.distill.iterations, found.final) == (1000, {"distill.iterations": 7})


def test_a_time_that_the_rest_alone_exceeds_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"--budget 1: only iterations .* 1 min 0 s \(evaluate 1 min 0 s\); give more"
    ):
        budget.fitted({"a": search()}, {"a": forecast()}, 1)
