"""What another run in the same place has done already is taken from it, and what only looks alike is not."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raydistill import artifacts, definitions, provenance, results, reuse
from raydistill.artifacts import Unit
from raydistill.runtime.local import Local
from raydistill.search.definition import Search
from raydistill.stages import Experiment
from tests.test_stages import Heard
from tests.tiny import write_search

NAS: dict[str, Any] = {
    "networks": ["ConvNet-D1-W8-instance-relu-avg", "ConvNet-D1-W8-none-relu-avg"],
    "baselines": ["random", "early", "whole"],
    "students": 1,
    "whole_epochs": 1,
    "confirm": "all",
    "confirm_epochs": 1,
    "protocol": {"epochs": 3, "augment": "none"},
}
STAGES = ("distill", "evaluate", "nas")
OF_SET = {"evaluate/distilled-ConvNetD1", "evaluate/initial-ConvNetD1", "distill/final"}


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    given = definitions.load(f"{write_search(tmp_path_factory.mktemp('search'))}:other")
    return given.override({"nas": NAS, "evaluate.baselines": ["initial", "random", "kcenter", "whole"]})


@pytest.fixture(scope="module")
def first(search: Search, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is done, of a clean checkout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "git_commit", lambda: "c0ffee")
        return done(search.override({"name": "first"}), tmp_path_factory.mktemp("runs"))[0]


@pytest.fixture
def place(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs with a copy of it."""
    monkeypatch.setattr(provenance, "git_commit", lambda: "c0ffee")
    shutil.copytree(first, tmp_path / "first")
    return tmp_path


def done(search: Search, out: Path) -> tuple[Path, Heard]:
    run, heard = out / search.name, Heard()
    results.open_run(search, run, False)
    experiment = Experiment(search, run, Local(), heard)
    for stage in STAGES:
        getattr(experiment, f"run_{stage}")()
    return run, heard


def numbers(run: Path) -> dict[str, Any]:
    """Accuracies of all units, and whence they are."""
    found = {}
    for unit in artifacts.units(run):
        record = unit.read()
        metrics = {k: v for k, v in record["metrics"].items() if "seconds" not in k}
        found[f"{unit.kind}/{unit.name}"] = (metrics, [line.get("accuracy") for line in unit.history()])
    return found


def taken(run: Path) -> set[str]:
    return {f"{unit.kind}/{unit.name}" for unit in artifacts.units(run) if "taken_from" in unit.read()}


def test_the_same_search_under_another_name_takes_all_that_is_not_the_sets(search: Search, place: Path) -> None:
    run, heard = done(search.override({"name": "second"}), place)
    everything = set(numbers(run))
    assert everything - taken(run) == OF_SET | {name for name in everything if name.startswith("nas/distilled-")}
    assert numbers(run) == numbers(place / "first")
    assert heard.done == heard.totals
    assert sum("as first has them" in note for note in heard.notes) == 1 + 1 + len(NAS["networks"])
    rows = results.update(run)["stages"]["evaluate"]
    assert {row["set"] for row in rows if row.get("taken_from") == "first"} == {"random", "kcenter", "whole"}


def test_a_damaged_network_is_not_taken(search: Search, place: Path) -> None:
    damaged, gone = sorted((place / "first").glob("units/confirm/*/network"))
    (damaged / artifacts.TENSORS).unlink()
    shutil.rmtree(gone)
    run, _ = done(search.override({"name": "second"}), place)
    assert numbers(run) == numbers(place / "first")
    assert not any(name.startswith("confirm/") for name in taken(run))


def rewrite(file: Path, **changes: Any) -> None:
    artifacts.write_json(file, {**json.loads(file.read_text()), **changes})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run, unit: rewrite(run / "results.json", git_commit="other"),
        lambda run, unit: rewrite(run / "results.json", machine="another, 9 cores"),
        lambda run, unit: rewrite(run / "results.json", versions={"torch": "1"}),
        lambda run, unit: rewrite(run / "results.json", images="others"),
        lambda run, unit: (run / "results.json").write_text("[]"),
        lambda run, unit: (run / "results.json").unlink(),
        lambda run, unit: rewrite(unit.file, fingerprint="other"),
        lambda run, unit: rewrite(unit.file, status="running"),
        lambda run, unit: rewrite(unit.file, status="failed"),
        lambda run, unit: unit.file.write_text("{"),
        lambda run, unit: unit.file.write_text("[]"),
    ],
)
def test_what_only_looks_alike_is_left(spoil: Callable[[Path, Unit], None], tmp_path: Path) -> None:
    common = {"versions": {"torch": "2"}, "git_commit": "c0ffee", "machine": "a, 2 cores"}
    units = {}
    for name in ("one", "two"):
        units[name] = Unit(tmp_path / name / "units" / "nas" / "whole-a-0")
        artifacts.write_json(tmp_path / name / "results.json", common)
        units[name].begin("f", {}, {})
    units["one"].log(1, {"accuracy": 0.5})
    units["one"].finish("completed", {"accuracy": 0.5}, step=1)
    spoil(tmp_path / "one", units["one"])
    assert reuse.taken(units["two"], tmp_path / "two") is None
    assert units["two"].status == "running"


def test_a_changed_checkout_is_no_version(tmp_path: Path) -> None:
    for name in ("one", "two"):
        artifacts.write_json(tmp_path / name / "results.json", {"git_commit": "c0ffee-dirty"})
        Unit(tmp_path / name / "units" / "nas" / "a").begin("f", {}, {})
    Unit(tmp_path / "one" / "units" / "nas" / "a").finish("completed", {})
    assert reuse.taken(Unit(tmp_path / "two" / "units" / "nas" / "a"), tmp_path / "two") is None
