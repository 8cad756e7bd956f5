"""Suggestions as a pure function of the trials so far."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.artifacts import COMPLETED, DIVERGED, FAILED, RUNNING, STOPPED, write_json
from raydistill.config import Scalar
from raydistill.errors import ConfigError
from raydistill.search.definition import Choice, Distribution, Float, Int, Search, When
from raydistill.search.study import importances, suggest
from raydistill.search.trials import TrialRecord, trial_unit
from tests.search.fakes import SPACE, height, make_search

LR = "distill.lr_img"


def ended(
    search: Search, number: int, params: dict[str, Scalar], status: str = COMPLETED, **changes: Any
) -> TrialRecord:
    value = height(search.without_space().override(params).distill)
    return replace(TrialRecord(number, params, status, {4: value * 0.9}, value, 1.0 + value, 30), **changes)


def sequence(search: Search, trials: int) -> list[TrialRecord]:
    """A whole search, each trial completed before the next is asked for."""
    records: list[TrialRecord] = []
    for number in range(trials):
        records.append(ended(search, number, suggest(search, number, records)))
    return records


def with_space(search: Search, space: dict[str, Distribution]) -> Search:
    return Search(**{**dict(search), "space": space})


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
@pytest.mark.parametrize("objectives", ["accuracy", "accuracy+seconds"])
def test_equal_records_give_equal_suggestions_and_other_seeds_others(sampler: str, objectives: str) -> None:
    search = make_search(sampler=sampler, objectives=objectives)
    first = sequence(search, 8)
    assert sequence(search, 8) == first
    other = sequence(search.model_copy(update={"seed": 8}), 8)
    assert other[0].params == first[0].params
    assert other[3].params != first[3].params


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_results_that_a_trial_may_not_see_yet_change_nothing(data: st.DataObject) -> None:
    parallel = data.draw(st.integers(1, 4), label="parallel")
    number = data.draw(st.integers(1, 7), label="number")
    search = make_search(parallel=parallel)
    records = sequence(search, number)
    expected = suggest(search, number, records)
    unseen = [r.number for r in records if r.number > number - parallel]
    states = data.draw(
        st.lists(st.sampled_from([RUNNING, COMPLETED, STOPPED, DIVERGED, FAILED]), min_size=8, max_size=8)
    )
    for position in unseen:
        bare = TrialRecord(position, records[position].params, RUNNING, {})
        records[position] = replace(bare, status=states[position], val_accuracy=1.0, values={4: 1.0}, seconds=0.1)
    assert suggest(search, number, data.draw(st.permutations(records), label="order")) == expected


def test_results_that_a_trial_sees_and_settings_under_way_do_matter() -> None:
    search = make_search(parallel=2, startup=1)
    records = sequence(search, 6)
    before = suggest(search, 6, records)
    seen = [*records[:4], replace(records[4], val_accuracy=0.999), records[5]]
    assert suggest(search, 6, seen) != before
    pending = [*records[:5], replace(records[5], params={**records[5].params, LR: 0.02})]
    assert suggest(search, 6, pending) != before


def test_a_suggestion_needs_all_earlier_trials() -> None:
    search = make_search()
    with pytest.raises(ValueError, match="trial 3 needs"):
        suggest(search, 3, sequence(search, 2))
    running = [replace(r, status=RUNNING) for r in sequence(search, 3)]
    with pytest.raises(ValueError, match="trial 0 is running"):
        suggest(search, 3, running)


def test_settings_that_do_not_fit_together_are_drawn_again() -> None:
    pad = Search.parse({"name": "pad", "distill": {"method": "PAD"}})
    starts = {
        "distill.min_start_epoch": Int(low=0, high=5),
        "distill.max_start_epoch": Int(low=4, high=8),
    }
    drawn: list[Any] = [record.params for record in sequence(with_space(pad, starts), 12)]
    assert all(params["distill.min_start_epoch"] < params["distill.max_start_epoch"] for params in drawn)
    never = with_space(
        pad, {"distill.min_start_epoch": Int(low=4, high=9), "distill.max_start_epoch": Int(low=10, high=12)}
    )
    final = never.model_copy(update={"final": {"distill.max_start_epoch": 3}})
    with pytest.raises(
        ConfigError, match=r"space: none of 32 draws fits together; narrow it. The last: .*leaves no start"
    ):
        suggest(final, 1, [ended(final, 0, {"distill.min_start_epoch": 4, "distill.max_start_epoch": 10})])


def test_trial_0_has_the_searchs_own_values_where_they_lie_in_the_space() -> None:
    search = make_search()
    assert suggest(search, 0, []) == {LR: 1.0, "distill.momentum": 0.5, "distill.init": "real"}
    elsewhere = with_space(search, {**SPACE, LR: Float(low=2.0, high=3.0)})
    assert 2.0 <= float(suggest(elsewhere, 0, [])[LR]) <= 3.0  # type: ignore[arg-type]


def test_conditional_settings_appear_exactly_while_their_condition_holds() -> None:
    search = make_search(startup=4)
    seen = set()
    for record in sequence(search, 20):
        assert ("distill.ipc" in record.params) == (record.params["distill.init"] == "noise")
        seen.add(record.params["distill.init"])
    assert seen == {"real", "noise"}


def test_conditions_may_follow_one_another_in_any_order_and_rest_on_fixed_settings() -> None:
    space: dict[str, Distribution] = {
        "distill.momentum": Float(low=0, high=0.5, when=When(path="distill.ipc", values=(1, 2))),
        "distill.ipc": Int(low=1, high=4, when=When(path="distill.init", values=("noise",))),
        "distill.init": Choice(values=("real", "noise")),
        LR: Float(low=1, high=2, when=When(path="distill.network", values=("ResNet18",))),
    }
    search = with_space(make_search(startup=30), space)
    kinds = set()
    for record in sequence(search, 25):
        assert LR not in record.params
        assert ("distill.momentum" in record.params) == (record.params.get("distill.ipc") in (1, 2))
        kinds.add(frozenset(record.params))
    assert len(kinds) == 3


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_bounds_are_included_and_never_passed(sampler: str) -> None:
    space: dict[str, Distribution] = {
        "distill.ipc": Int(low=2, high=4),
        LR: Float(low=0.1, high=0.1),
        "distill.momentum": Float(low=0.25, high=0.5),
        "distill.iterations": Int(low=1, high=1000, log=True),
    }
    records = sequence(with_space(make_search(sampler=sampler, startup=15), space), 30)[1:]
    assert {r.params["distill.ipc"] for r in records} == {2, 3, 4}
    assert {r.params[LR] for r in records} == {0.1}
    assert all(0.25 <= float(r.params["distill.momentum"]) <= 0.5 for r in records)  # type: ignore[arg-type]
    assert all(1 <= int(r.params["distill.iterations"]) <= 1000 for r in records)  # type: ignore[arg-type]


def test_a_log_scale_draws_evenly_per_decade() -> None:
    search = with_space(make_search(sampler="random"), {LR: Float(low=1e-4, high=1.0, log=True)})
    logs = [math.log10(float(r.params[LR])) for r in sequence(search, 200)[1:]]  # type: ignore[arg-type]
    assert 0.35 < sum(x < -2 for x in logs) / len(logs) < 0.65


def test_settings_are_not_tried_twice_while_others_are_left() -> None:
    search = with_space(make_search(startup=2), {"distill.ipc": Int(low=1, high=6)})
    drawn = [r.params["distill.ipc"] for r in sequence(search, 8)]
    assert set(drawn[:6]) == {1, 2, 3, 4, 5, 6}
    assert set(drawn[6:]) <= set(range(1, 7))


def test_modelled_suggestions_gather_where_results_are_good() -> None:
    def mean_distance(sampler: str) -> float:
        search = make_search(sampler=sampler, startup=6)
        tail = sequence(search, 30)[15:]
        return sum(abs(math.log10(float(r.params[LR])) - 0.3) for r in tail) / len(tail)  # type: ignore[arg-type,misc]

    assert mean_distance("tpe") < 0.6 * mean_distance("random")


def test_the_model_begins_once_startup_results_are_seen() -> None:
    search, random = make_search(startup=5, parallel=2), make_search(startup=99, parallel=2)
    records = sequence(random, 8)
    same = [suggest(search, n, records) == suggest(random, n, records) for n in range(1, 8)]
    assert same == [True] * 5 + [False] * 2  # trial 6 is the first to see five: 0 … 4


def test_stopped_trials_with_high_early_values_do_not_mislead() -> None:
    """Values at low budget from one region above all completed ones must not draw suggestions there."""
    search = make_search(startup=2, parallel=1)
    good: dict[str, Scalar] = {"distill.momentum": 0.5, "distill.init": "real"}
    records = []
    for number in range(20):
        bad = number % 2 == 1
        lr = (0.012 if bad else 2.0) * (1 + number / 100)
        record = ended(search, number, {LR: lr, **good})
        if bad:
            record = replace(record, status=STOPPED, values={4: 0.99}, val_accuracy=0.99)
        records.append(record)
    drawn = [float(suggest(search.model_copy(update={"seed": s}), 20, records)[LR]) for s in range(20)]  # type: ignore[arg-type]
    assert sum(lr > 0.2 for lr in drawn) >= 15


def test_diverged_trials_repel_and_failed_ones_say_nothing() -> None:
    search = make_search(startup=2, parallel=1)
    records = sequence(search, 12)
    extra: dict[str, Scalar] = {LR: 5.0, "distill.momentum": 0.5, "distill.init": "real"}
    failed = [*records, ended(search, 12, dict(extra), FAILED)]
    diverged = [*records, ended(search, 12, dict(extra), DIVERGED, values={}, val_accuracy=None)]
    elsewhere = [*records, ended(search, 12, {**extra, LR: 0.02}, FAILED)]
    assert suggest(search, 13, failed) == suggest(search, 13, elsewhere)
    assert suggest(search, 13, failed) != suggest(search, 13, diverged)


def test_two_objectives_take_stopped_and_diverged_trials() -> None:
    for sampler in ("tpe", "nsga2"):
        search = make_search(sampler=sampler, objectives="accuracy+seconds", startup=2)
        records = sequence(search, 8)
        records[2] = replace(records[2], status=STOPPED)
        records[4] = replace(records[4], status=DIVERGED, values={}, val_accuracy=None)
        assert set(suggest(search, 8, records)) >= {LR, "distill.momentum", "distill.init"}


def test_genetic_suggestions_cross_the_earlier_generation() -> None:
    search = make_search(sampler="nsga2", startup=4, parallel=1)
    search = with_space(search, {LR: SPACE[LR], "distill.init": SPACE["distill.init"]})
    records = sequence(search, 8)
    random = suggest(search.model_copy(update={"budget": search.budget.model_copy(update={"startup": 99})}), 8, records)
    assert suggest(search, 8, records) != random


def store(run: Path, search: Search, records: list[TrialRecord]) -> None:
    write_json(run / "search.json", search.to_json())
    for record in records:
        unit = trial_unit(run, record.number)
        unit.begin("f", record.params, {})
        if record.settled:
            unit.finish(record.status, {"val_accuracy": record.val_accuracy or 0.0, "seconds": 1.0, "iterations": 30})


def test_importances_name_the_setting_that_matters(tmp_path: Path) -> None:
    space: dict[str, Distribution] = {LR: SPACE[LR], "distill.momentum": Float(low=0.4, high=0.6)}
    search = with_space(make_search(sampler="random"), space)
    store(tmp_path, search, sequence(search, 20))
    found = importances(tmp_path)
    assert list(found) == [LR, "distill.momentum"]
    assert found[LR] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert importances(tmp_path) == found
    with mock.patch("raydistill.search.study.MOST_COMPLETED", 7):  # every third of the 20
        store(tmp_path / "third", search, [replace(r, number=n) for n, r in enumerate(sequence(search, 20)[::3])])
        assert importances(tmp_path) == importances(tmp_path / "third") != found


@pytest.mark.parametrize("trials", [0, 3])
def test_few_trials_have_no_importances(tmp_path: Path, trials: int) -> None:
    search = make_search()
    store(tmp_path, search, sequence(search, trials))
    assert importances(tmp_path) == {}


def test_what_never_varied_has_no_importance(tmp_path: Path) -> None:
    space: dict[str, Distribution] = {LR: SPACE[LR], "distill.momentum": Float(low=0.5, high=0.5)}
    search = with_space(make_search(sampler="random"), space)
    store(tmp_path, search, sequence(search, 8))
    assert list(importances(tmp_path)) == [LR]
    flat = [replace(r, val_accuracy=0.5) for r in sequence(search, 8)]
    store(tmp_path, search, flat)
    assert importances(tmp_path) == {}
