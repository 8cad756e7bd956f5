"""The NAS stage, killed and run again, on the digits and in this process."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from raydistill import artifacts, definitions, nas_stage, results
from raydistill.artifacts import Unit
from raydistill.errors import ConfigError
from raydistill.evaluate import students, trained
from raydistill.nas import confirm, rank, summary
from raydistill.runtime.local import Local
from raydistill.search.definition import Search
from raydistill.stages import Experiment
from tests.test_stages import Died, Heard
from tests.tiny import listing, write_search

SMALL = [{"depth": 1, "width": 8}, {"depth": 2, "width": 8}, {"depth": 1, "width": 8, "norm": "none"}]
NAS: dict[str, Any] = {
    "networks": [*SMALL, "ConvNet-D1-W8-instance-relu-avg"],
    "baselines": ["random", "early", "whole"],
    "students": 2,
    "whole_epochs": 1,
    "confirm": 2,
    "confirm_epochs": 2,
    "protocol": {"epochs": 3, "augment": "none"},
}


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    given = definitions.load(f"{write_search(tmp_path_factory.mktemp('search'))}:other")
    return given.override({"name": "tiny", "nas": NAS})


@pytest.fixture(scope="module")
def distilled(search: Search, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its set."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    opened(search, run).run_distill()
    return run


@pytest.fixture(scope="module")
def whole(search: Search, distilled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Heard]:
    """The stage done on it."""
    run, heard = Path(shutil.copytree(distilled, tmp_path_factory.mktemp("whole") / "tiny")), Heard()
    opened(search, run, heard, resume=True).run_nas()
    return run, heard


@pytest.fixture
def run(whole: tuple[Path, Heard], tmp_path: Path) -> Path:
    """A copy of that."""
    return Path(shutil.copytree(whole[0], tmp_path / "tiny"))


def opened(search: Search, run: Path, heard: Heard | None = None, resume: bool = False) -> Experiment:
    results.open_run(search, run, resume)
    return Experiment(search, run, Local(), heard or Heard())


def accuracies(run: Path) -> dict[str, float]:
    return {unit.name: unit.read()["metrics"]["accuracy"] for unit in artifacts.units(run, "nas")}


def parameters(run: Path) -> dict[str, bytes]:
    return {str(p.parent.parent.name): p.read_bytes() for p in run.glob(f"units/confirm/*/network/{artifacts.TENSORS}")}


def test_every_architecture_is_trained_once_on_every_proxy_and_seed(whole: tuple[Path, Heard]) -> None:
    run, heard = whole
    assert len(accuracies(run)) == 3 * 4 * 2
    assert {unit.status for unit in artifacts.units(run, "nas")} == {"completed"}
    assert heard.totals == {"nas": 24, "confirm": 2}
    assert heard.done == Counter(heard.totals)


def test_results_say_which_is_best_and_whether_the_order_can_be_believed(whole: tuple[Path, Heard]) -> None:
    nas = results.update(whole[0])["stages"]["nas"]
    assert (nas["names"], nas["distinct"], nas["truth"]) == (4, 3, "whole")
    assert nas["best"] == nas["ranking"][0]["name"]
    assert set(nas["proxies"]) == {"distilled", "random", "early", "whole"}
    for proxy in ("distilled", "random", "early"):
        found = nas["proxies"][proxy]
        assert found["spearman"]["all"]["networks"] == found["kendall"]["all"]["networks"] == 3
        assert found["regret"] >= 0
        assert found["seconds"] >= found["train_seconds"] > 0
        assert found["flops"] > 0
    assert nas["spearman"] == nas["proxies"]["distilled"]["spearman"]["all"]["value"]
    assert "spearman" not in nas["proxies"]["whole"]
    assert nas["proxies"]["early"]["flops"] == pytest.approx(nas["proxies"]["distilled"]["flops"], rel=0.01)


def test_the_winner_is_the_best_of_the_confirmed_and_is_tested(whole: tuple[Path, Heard]) -> None:
    full = results.update(whole[0])["stages"]["nas"]["full"]
    assert len(full["networks"]) == 2
    assert full["val_accuracy"] == max(one["val_accuracy"] for one in full["networks"])
    assert 0 <= full["accuracy"] <= 1
    assert full["epochs"] == 2
    tested = [u.name for u in artifacts.units(whole[0], "confirm") if "test_accuracy" in u.read()["metrics"]]
    assert tested == [full["network"]]


def test_fewer_seeds_on_all_images_than_on_the_sets(search: Search, run: Path) -> None:
    before = accuracies(run)
    heard = Heard()
    opened(search.override({"nas.whole_students": 1}), run, heard, resume=True).run_nas()
    assert accuracies(run) == before  # what was done stays
    assert heard.done == {"nas": 3 * (3 * 2 + 1), "confirm": 2}
    for one in summary.rated(run, "whole"):
        assert one.runs == (before[f"whole-{one.network}-0"],)
    assert all(len(one.runs) == 2 for one in summary.rated(run, "distilled"))


def test_second_run_computes_nothing(search: Search, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("work was done again")

    before = listing(run / "units")
    for module, name in ((rank, "train_item"), (confirm, "train_full"), (nas_stage, "load_test")):
        monkeypatch.setattr(module, name, never)
    heard = Heard()
    opened(search, run, heard, resume=True).run_nas()
    assert listing(run / "units") == before
    assert heard.done == Counter(heard.totals)


@pytest.mark.parametrize("after", [1, 13])
def test_killed_and_started_again_gives_the_same(
    search: Search, distilled: Path, whole: tuple[Path, Heard], tmp_path: Path, after: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = Path(shutil.copytree(distilled, tmp_path / "tiny"))
    finish, count = Unit.finish, Counter[str]()

    def dying(self: Unit, *args: Any, **details: Any) -> None:
        if count["ended"] == after:
            raise Died
        count["ended"] += 1
        finish(self, *args, **details)

    with monkeypatch.context() as patched:
        patched.setattr(Unit, "finish", dying)
        with pytest.raises(Died):
            opened(search, run, resume=True).run_nas()
    opened(search, run, resume=True).run_nas()
    assert accuracies(run) == accuracies(whole[0])
    assert parameters(run) == parameters(whole[0])


def test_killed_between_two_epochs_of_the_confirmation(
    search: Search, whole: tuple[Path, Heard], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(run / "units" / "confirm")
    note, epochs = confirm._Training._note, []

    def dying(self: Any, loss: float) -> None:
        if len(epochs) == 2:
            raise Died
        epochs.append(self.done)
        note(self, loss)

    with monkeypatch.context() as patched:
        patched.setattr(confirm._Training, "_note", dying)
        with pytest.raises(Died):
            opened(search, run, resume=True).run_nas()
    begun = [u for u in artifacts.units(run, "confirm") if u.status == "running"]
    assert [line["step"] for line in begun[0].history()] == [1, 2]
    opened(search, run, resume=True).run_nas()
    assert parameters(run) == parameters(whole[0])
    assert [line["step"] for line in begun[0].history()] == [1, 2, 3]
    assert not list(run.glob("units/confirm/*/state"))


def test_another_set_leaves_what_does_not_depend_on_it(search: Search, run: Path) -> None:
    before = {name: (run / "units/nas" / name / "unit.json").stat().st_mtime_ns for name in accuracies(run)}
    other = search.override({"distill.iterations": 5})
    experiment = opened(other, run, resume=True)
    experiment.run_distill()
    assert "nas" not in results.update(run)["stages"]
    experiment.run_nas()
    changed = {n for n in before if (run / "units/nas" / n / "unit.json").stat().st_mtime_ns != before[n]}
    assert changed == {name for name in before if name.startswith("distilled-")}


def test_networks_no_longer_asked_for_are_not_ranked(search: Search, run: Path) -> None:
    fewer = search.override({"nas.networks": SMALL[:2], "nas.baselines": ["random"], "nas.confirm": 0})
    opened(fewer, run, resume=True).run_nas()
    nas = results.update(run)["stages"]["nas"]
    assert nas["names"] == 2
    assert set(nas["proxies"]) == {"distilled", "random"}
    assert "full" not in nas
    assert "spearman" not in nas


def test_where_all_are_confirmed_that_is_the_truth(search: Search, run: Path) -> None:
    opened(search.override({"nas.baselines": [], "nas.confirm": "all"}), run, resume=True).run_nas()
    nas = results.update(run)["stages"]["nas"]
    assert (nas["truth"], len(nas["full"]["networks"])) == ("confirm", 3)
    assert nas["proxies"]["distilled"]["spearman"]["all"]["networks"] == 3


def test_networks_that_diverge_are_results(search: Search, distilled: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(distilled, tmp_path / "tiny"))
    wild = {"nas.protocol.lr": 1e30, "nas.baselines": ["whole"], "nas.students": 1, "nas.confirm": 1}
    opened(search.override(wild), run, resume=True).run_nas()
    statuses = Counter(unit.status for unit in artifacts.units(run, "nas"))
    assert statuses["diverged"] >= 2
    nas = results.update(run)["stages"]["nas"]
    assert nas["proxies"]["distilled"]["diverged"] >= 1
    (confirmed,) = artifacts.units(run, "confirm")
    assert confirmed.status == "diverged"
    assert "lower nas.protocol.lr" in confirmed.read()["message"]
    assert 0 <= nas["full"]["accuracy"] < 0.5


def test_the_winner_is_stored_with_what_it_needs_to_see(whole: tuple[Path, Heard], search: Search) -> None:
    run = whole[0]
    full = results.update(run)["stages"]["nas"]["full"]
    winner = trained.load(run / "units" / "confirm" / full["network"] / "network")
    data = Experiment(search, run, Local(), Heard()).data
    judged = students.judge(winner.net, students.DeviceImages(data.val, winner.encoding))
    assert judged.accuracy == full["val_accuracy"]
    assert winner.manifest["classes"] == list(data.train.classes)


def test_sampled_networks_are_drawn_from_what_was_learned(
    search: Search, distilled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {
        "samples": 5, "parallel": 2, "startup": 2, "depths": [1, 2, 7], "widths": [4, 8], "norms": ["none", "group"],
        "activations": ["relu"], "poolings": ["avg"], "start": {"depth": 1, "width": 8, "norm": "group"},
    }  # fmt: skip
    changes = {
        "nas.sampled": space,
        "nas.networks": SMALL[:1],
        "nas.students": 1,
        "nas.baselines": ["random"],
        "nas.confirm": 0,
    }
    drawing = search.override(changes)
    found = []
    for attempt in ("a", "b"):
        run, heard = Path(shutil.copytree(distilled, tmp_path / attempt / "tiny")), Heard()
        experiment = opened(drawing, run, heard, resume=True)
        experiment.check(("nas",))
        if attempt == "b":
            with monkeypatch.context() as patched:
                patched.setattr(nas_stage, "_end", dies_at(3))
                with pytest.raises(Died):
                    experiment.run_nas()
        experiment.run_nas()
        assert heard.done["nas"] >= heard.totals["nas"] == 12
        found.append(accuracies(run))
    assert found[0] == found[1]
    networks = {name.split("-", 1)[1] for name in found[0]}
    assert len(networks) == 6
    assert "ConvNet-D1-W8-group-relu-avg-0" in networks
    assert not any("D7" in name for name in networks)
    assert {f"{p}-{n}" for p in ("distilled", "random") for n in networks} == set(found[0])


def dies_at(count: int) -> Any:
    end, done = nas_stage._end, []

    def dying(*args: Any) -> None:
        if len(done) == count:
            raise Died
        done.append(args)
        end(*args)

    return dying


def test_the_epochs_of_a_confirmation_are_shown(
    search: Search, distilled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Listening(Heard):
        def trial(
            self, number: int, step: int, total: int, numbers: Mapping[str, float], status: str = "running"
        ) -> None:
            super().trial(number, step, total, numbers, status)
            told.append((number, step, total, sorted(numbers), status))

    told: list[tuple[int, int, int, list[str], str]] = []
    run, note = Path(shutil.copytree(distilled, tmp_path / "tiny")), confirm._Training._note

    def noted(self: confirm._Training, loss: float) -> None:
        note(self, loss)
        time.sleep(0.5)  # until it was looked for

    monkeypatch.setattr(confirm._Training, "_note", noted)
    monkeypatch.setattr(nas_stage, "WATCH_SECONDS", 0.02)
    changes = {"nas.baselines": [], "nas.students": 1, "nas.confirm": 1, "nas.confirm_epochs": 2}
    opened(search.override(changes), run, Listening(), resume=True).run_nas()
    assert told == [(0, 1, 2, ["loss", "val_accuracy"], "running"), (0, 2, 2, [], "completed")]


def test_a_network_confirmed_by_itself_has_the_cores_of_what_is_done_by_itself(
    search: Search, distilled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(distilled, tmp_path / "tiny"))
    had: dict[str, set[int]] = {"ranked": set(), "confirmed": set()}
    for name, module, function in (("ranked", rank, "train_item"), ("confirmed", confirm, "train_full")):
        monkeypatch.setattr(module, function, _counting(getattr(module, function), had[name]))
    changes = {"budget.cpus": 1, "budget.final_cpus": 2, "nas.baselines": [], "nas.students": 1, "nas.confirm": 1}
    opened(search.override(changes), run, resume=True).run_nas()
    assert had == {"ranked": {1}, "confirmed": {2}}


def _counting(function: Callable[..., Any], threads: set[int]) -> Callable[..., Any]:
    def counted(**given: Any) -> Any:
        threads.add(torch.get_num_threads())
        return function(**given)

    return counted


class Cramped:
    """A cluster without room for one process."""

    def capacity(self, cpus: float, gpus: float, accelerator: str | None) -> int:
        raise ConfigError("no node has room")


def test_a_team_without_room_for_one_is_refused_before_anything_is_trained(search: Search) -> None:
    with pytest.raises(ConfigError, match="no node has room"):
        nas_stage.check_workers(search.override({"nas.workers": 4}), Cramped())  # type: ignore[arg-type]
    for fine in ({"nas.confirm": 0}, {"nas": None}):
        nas_stage.check_workers(search.override(fine), Cramped())  # type: ignore[arg-type]
    nas_stage.check_workers(search.override({"nas.workers": 4}), Local())
