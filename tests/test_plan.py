"""The forecast: what it counts is exact, what it times is real."""

import json
from pathlib import Path
from typing import Any

import pytest

from raydistill import plan
from raydistill.distill.datadam import DataDAM
from raydistill.runtime.local import Local
from raydistill.search.definition import Search
from tests.distill import small
from tests.test_cli import call
from tests.tiny import write_search


@pytest.mark.parametrize(("iterations", "expected"), [(7, {"iterations": 7}), (0, {"iterations": 0})])
def test_fresh_networks_make_all_iterations_alike(iterations: int, expected: dict[str, int]) -> None:
    config, phases = DataDAM.phases(DataDAM.Config(iterations=iterations))
    assert {phase.name: phase.times for phase in phases} == expected
    assert config.iterations == iterations


@pytest.mark.parametrize("iterations", [1, 6, 13, 40, 100])
@pytest.mark.parametrize("draws", [1, 3])
def test_phases_of_a_pool_are_what_a_distillation_does(
    iterations: int, draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from a real distillation: how often networks were made, and real statistics computed."""
    settings = {"network_pool": 6, "network_stages": (0, 1), "pool_draws": draws, "iterations": iterations}
    method = small.datadam(**settings)
    computed = []
    real = method._real_statistics
    monkeypatch.setattr(method, "_real_statistics", lambda *a: computed.append(1) or real(*a))
    for iteration in range(iterations):
        method.step(iteration)
    _, phases = DataDAM.phases(method.config)
    times = {phase.name: phase.times for phase in phases}
    assert sum(times.values()) == iterations
    assert times["first visits of networks"] == len({member for member, _ in method._known})
    assert times["first visits of networks"] + times.get("new draws", 0) == len(computed)


def test_the_sample_of_a_pool_shows_each_phase() -> None:
    method = small.datadam(network_pool=6, network_stages=(0, 1), pool_draws=3, iterations=100)
    sample, phases = DataDAM.phases(method.config)
    trial = small.datadam(**{name: getattr(sample, name) for name in ("network_pool", "network_stages", "pool_draws")})
    before = []
    for iteration in range(max(phase.sample.stop for phase in phases)):
        known = set(trial._known)
        trial.step(iteration)
        before.append(len(set(trial._known) - known))
    found = {phase.name: [before[i] for i in phase.sample] for phase in phases}
    assert found == {
        "first visits of networks": [1, 1],
        "new draws": [1, 1],
        "iterations with known statistics": [0, 0],
    }


def test_forecast_times_every_stage(tmp_path: Path) -> None:
    from raydistill import definitions
    from raydistill.data.load import load_train

    search = definitions.load(str(write_search(tmp_path)))
    data = load_train(search.data)
    found = plan.forecast(search, data, Local())
    # No final distillation of its own: the best trial's set is taken.
    assert {cost.stage for cost in found.costs} == {"search", "evaluate", "nas"}
    students = {cost.what: cost.times for cost in found.costs if cost.stage == "evaluate"}
    whole, few = "whole, students of ConvNetD1", 2
    assert students == {"distilled, students of ConvNetD1": few, "random, students of ConvNetD1": few, whole: 1}
    assert all(cost.each > 0 for cost in found.costs)
    assert found.seconds == pytest.approx(sum(cost.times * cost.each / cost.at_once for cost in found.costs))
    assert 10**7 < found.memory < 10**11


def test_what_is_known_is_not_timed_again(tmp_path: Path) -> None:
    from raydistill import definitions
    from raydistill.data.load import load_train

    class Counting(Local):
        pieces = 0

        def map(self, function: Any, items: Any, *rest: Any, **more: Any) -> Any:
            self.pieces += len(items)
            return super().map(function, items, *rest, **more)

    search, runtime = definitions.load(f"{write_search(tmp_path)}:other"), Counting()
    data, known = load_train(search.data), plan.Known()
    first = plan.forecast(search, data, runtime, known=known)
    timed = runtime.pieces
    assert plan.forecast(search, data, runtime, known=known) == first
    other = search.override({"distill.iterations": 1, "distill.init": "noise", "evaluate.students": 1})
    shorter = plan.forecast(other, data, runtime, known=known)
    assert runtime.pieces == timed
    assert {cost.what: cost.each for cost in shorter.costs} == {cost.what: cost.each for cost in first.costs}
    assert shorter.seconds < first.seconds
    plan.forecast(search.override({"distill.network": "ConvNetD2"}), data, runtime, known=known)
    assert runtime.pieces > timed


def test_every_proxy_of_a_nas_is_counted(tmp_path: Path) -> None:
    from raydistill import definitions
    from raydistill.data.load import load_train

    changes = {"nas.baselines": ["early", "whole"], "nas.students": 3, "nas.confirm": 1, "nas.confirm_epochs": 1}
    search = definitions.load(str(write_search(tmp_path))).override(changes)
    found = plan.forecast(search, load_train(search.data), Local())
    times = {cost.what: cost.times for cost in found.costs if cost.stage == "nas"}
    assert times == {"networks on small sets": 2 * 3 * 2, "networks on all images": 2 * 3, "confirmed networks": 1}


def test_experts_are_forecast_before_there_are_any() -> None:
    search = Search(name="pad", distill=small.PADConfig(**small.PAD_SETTINGS))
    timed = plan.time_piece(data=small.data(), kind="iterations", config=search.distill, device="cpu")
    assert timed["2 student steps"] > 0


def test_the_disk_of_experts_has_a_peak(tmp_path: Path) -> None:
    from raydistill import definitions
    from raydistill.data.load import load_train
    from tests.test_expert_stage import TEXT

    search = definitions.load(str(write_search(tmp_path, TEXT))).override({"space": {}, "nas": None})
    found = plan.forecast(search, load_train(search.data), Local())
    assert found.disk_peak > found.disk > 0
    assert found.to_json()["disk_peak_bytes"] == found.disk_peak
    # Without experts there is nothing to keep.
    none = plan.forecast(definitions.load(f"{write_search(tmp_path)}:other"), load_train(search.data), Local())
    assert none.disk_peak == none.disk == 0


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_search(tmp_path)
    said = call(capsys, "plan", file, "--out", tmp_path / "runs", "--address", "in-process", "--json")
    assert said.code == 0, said.err
    document = json.loads(said.out)
    assert document["seconds"] == pytest.approx(sum(row["seconds"] for row in document["costs"]))
    assert not (tmp_path / "runs").exists(), "nothing is written before a search starts"
