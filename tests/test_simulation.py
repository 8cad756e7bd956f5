"""A forecast thought through for many workers: exact where the answer is known, busy where it should be."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from raydistill import simulation
from raydistill.costs import Cost
from raydistill.errors import ConfigError
from raydistill.models import GRID
from raydistill.nas.rank import Item, distinct, plan
from raydistill.nas.schedule import dry_run, largest_first, operations
from raydistill.nas.space import NASConfig
from raydistill.runtime.local import Local
from raydistill.simulation import simulate
from tests.evaluate.test_students import a_set
from tests.test_cli import call
from tests.tiny import write_search

MNIST = (1, 28, 28)
HANDING = 0.007
"Seconds of the driver for a unit, as `tests/benchmarks/bench_units.py` measured beside other work."


@pytest.mark.parametrize(
    ("seconds", "workers", "handing", "window", "end"),
    [
        ([3, 2, 2], 2, 0.0, None, 4),
        ([4, 4, 4], 3, 1.0, None, 7),  # begun at 1, 2 and 3
        ([0, 0, 0, 0], 100, 1.0, None, 4),  # the driver alone
        ([1, 1, 1], 9, 0.0, 1, 3),  # each waits for all before it
        ([3, 1, 1, 1, 1], 9, 0.0, 2, 5),  # 1 waits for none, 2 and 3 for 0, 4 for 2
        ([1] * 8, 9, 0.0, 4, 2),
    ],
)
def test_the_driver_and_what_trials_wait_for(
    seconds: list[float], workers: int, handing: float, window: int | None, end: float
) -> None:
    found = dry_run(seconds, workers, handing, window)
    assert found.seconds == pytest.approx(end)
    assert found.driver == pytest.approx(len(seconds) * handing / end)


def test_stages_follow_each_other_and_each_says_what_it_waits_for() -> None:
    nas = Cost("nas", "networks", 4, 2.0, 1, 4, (1.0, 3.0))
    distill = Cost("distill", "iterations", 100, 0.01, 1)
    one, two, many = (simulate([distill, nas], 1, workers, 0.0) for workers in (1, 2, 8))
    assert (one.seconds, one.busy, one.limit) == (pytest.approx(9), pytest.approx(1), "nas: workers")
    assert (two.seconds, two.busy) == (pytest.approx(5), pytest.approx(9 / 10))
    assert (many.seconds, many.limit) == (pytest.approx(4), "nas: 4 pieces for 8 workers")
    slow = simulate([nas], 1, 8, 10.0)
    assert slow.limit == "nas: the driver"
    assert slow.driver == pytest.approx(40 / slow.seconds)


def test_a_search_is_no_faster_than_its_parallel_trials() -> None:
    lines = [Cost("search", "to 10", 8, 1.0, 2, 8), Cost("search", "to 30", 3, 2.0, 2, 3)]
    found = simulate(lines, 2, 64, 0.0)
    assert found.limit == "search: budget.parallel=2"
    assert found.seconds >= 14 / 2
    assert simulate(lines, 8, 64, 0.0).seconds == pytest.approx(3)


@pytest.mark.parametrize("workers", [1, 8, 64, 256, 1000])
def test_more_workers_are_never_slower(workers: int) -> None:
    lines = [Cost("nas", "networks", 1800, 5.5, 1, 1800, tuple(float(i) for i in range(1, 11)))]
    found, less = (simulate(lines, 1, count, HANDING) for count in (workers, max(1, workers // 2)))
    assert found.seconds <= less.seconds + 1e-9
    assert found.seconds >= max(1800 * 5.5 / workers, 1800 * HANDING)


def test_a_hundred_times_the_reports_workload_keeps_256_gpus_busy() -> None:
    """The grid's 22 names (18 architectures) on MNIST, a hundred seeds each, with all four proxies.

    A training takes its operations at 2 Tflop/s, give or take a third, and two seconds to start; the driver 5 ms for each.
    """
    config = NASConfig(baselines=("random", "early", "whole"), students=100, whole_epochs=10)
    images = a_set(count=99)
    plans = {proxy: plan(proxy, config, images, whole=54_000) for proxy in config.proxies}
    items = [Item(*each) for each in itertools.product(config.proxies, distinct(GRID), range(config.students))]
    noise = np.random.default_rng(0).uniform(2 / 3, 4 / 3, len(items))
    ordered = largest_first(items, plans, MNIST, 10)
    seconds = [2 + operations(i, plans, MNIST, 10) / 2e12 * n for i, n in zip(ordered, noise, strict=True)]
    assert dry_run(seconds, 256, HANDING).busy >= 0.9


@pytest.mark.parametrize("text", ["", "0", "1,,2", "a", "-1", "1;2", "1.5", "100001"])
def test_numbers_of_workers_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="--simulate"):
        simulation.sizes(text)


def test_too_many_pieces_are_refused() -> None:
    with pytest.raises(ConfigError, match="pieces"):
        simulate([Cost("nas", "networks", 10**9, 1.0, 1, 10**9)], 1, 8, 0.0)


def test_the_drivers_part_is_measured() -> None:
    assert 1e-6 < simulation.handing(Local()) < 1.0


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("plan", write_search(tmp_path), "--out", tmp_path / "runs", "--address", "in-process", "--simulate", "1,8")
    said = call(capsys, *args, "--json")
    assert said.code == 0, said.err
    document = json.loads(said.out)
    one, eight = document["simulated"]
    assert (one["workers"], eight["workers"]) == (1, 8)
    assert one["seconds"] > eight["seconds"]
    assert document["driver_seconds"] > 0
    assert {cost["pieces"] for cost in document["costs"] if cost["stage"] == "nas"} == {2}


def test_command_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    simulation.show([simulate([Cost("nas", "networks", 4, 2.0, 1, 4)], 1, 8, 0.001)], 0.001)
    said = capsys.readouterr().out
    assert "nas: 4 pieces for 8 workers" in said
    assert "1.00 ms of the driver" in said
