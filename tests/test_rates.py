"""Further tables of a run: learning rates chosen on the validation split, each student and each choice done once."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from raydistill import artifacts, definitions, results
from raydistill.artifacts import Unit
from raydistill.errors import ConfigError
from raydistill.evaluate import arms
from raydistill.report import tables
from raydistill.runtime.local import Local
from raydistill.search.definition import Search
from raydistill.stages import Experiment
from raydistill.track import Progress
from tests.tiny import listing, write_search

CROSS = {
    "protocol": {"name": "cross", "epochs": 3, "augment": "none"},
    "networks": ["MLP"],
    "baselines": ["random"],
    "students": 2,
    "rates": [0.001, 0.1],
}


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    plain = definitions.load(str(write_search(tmp_path_factory.mktemp("search"))))
    return plain.override({"space": {}, "evaluate.baselines": [], "evaluate.also": {"cross": CROSS}})


@pytest.fixture(scope="module")
def whole(search: Search, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "tiny"
    opened(search, run).run_distill()
    opened(search, run).run_evaluate()
    results.update(run)
    return run


def opened(search: Search, run: Path) -> Experiment:
    results.open_run(search, run, resume=True)
    return Experiment(search, run, Local(), Progress(quiet=True))


def test_the_better_rate_on_the_validation_split_is_used(whole: Path) -> None:
    for arm in ("distilled", "random"):
        choice = Unit(whole / "units" / "rates" / f"{arm}-MLP-cross")
        tried = {line["lr"]: line["val_accuracy"] for line in choice.history()}
        assert set(tried) == {0.001, 0.1}
        best = choice.read()["metrics"]["lr"]
        assert tried[best] == max(tried.values())
        rated = Unit(whole / "units" / "evaluate" / f"{arm}-MLP-cross").read()
        assert (rated["lr"], rated["table"], rated["students"]) == (best, "cross", 2)


def test_results_and_tables_tell_the_tables_apart(whole: Path) -> None:
    rows = artifacts.read_json(whole / "results.json")["stages"]["evaluate"]
    assert [(row["set"], row["network"], row.get("table"), "lr" in row) for row in rows] == [
        ("distilled", "ConvNetD1", None, False),
        ("distilled", "MLP", "cross", True),
        ("random", "MLP", "cross", True),
    ]
    frame = tables.accuracy_table(whole)
    assert list(zip(frame["set"], frame["network"], frame["protocol"], strict=True)) == [
        ("distilled", "ConvNetD1", "fast"),
        ("distilled", "MLP", "cross"),
        ("random", "MLP", "cross"),
    ]


def test_nothing_is_done_twice_and_a_lost_rate_alone_is_tried_again(
    search: Search, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "tiny"))
    calls: list[Any] = []
    original = arms.try_rate

    def counted(**item: Any) -> Any:
        calls.append(item["lr"])
        assert "test" not in item
        return original(**item)

    monkeypatch.setattr(arms, "try_rate", counted)
    before = listing(run / "units")
    opened(search, run).run_evaluate()
    assert (calls, listing(run / "units")) == ([], before)
    # As after a kill between the two rates and before any student.
    choice = Unit(run / "units" / "rates" / "distilled-MLP-cross")
    record = choice.read()
    choice.rewind(1)
    choice.begin(record["fingerprint"], record["params"], record["tags"])
    rated = Unit(run / "units" / "evaluate" / "distilled-MLP-cross")
    runs = rated.read()["runs"]
    rated.rewind(-1)
    rated.begin(rated.read()["fingerprint"], {}, {})
    opened(search, run).run_evaluate()
    assert calls == [0.1]
    assert choice.read()["metrics"]["lr"] == record["metrics"]["lr"]
    assert rated.read()["runs"] == runs


def test_a_rate_that_diverges_is_chosen_last(search: Search, whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "tiny"))
    choice = Unit(run / "units" / "rates" / "distilled-MLP-cross")
    record = choice.read()
    choice.rewind(-1)
    choice.begin(record["fingerprint"], record["params"], record["tags"])
    choice.log(1, {"lr": 0.001, "val_accuracy": 0.4, "seconds": 1.0, "diverged": 0.0})
    choice.log(2, {"lr": 0.1, "val_accuracy": 0.6, "seconds": 1.0, "diverged": 1.0})  # the larger of two classes
    rated = Unit(run / "units" / "evaluate" / "distilled-MLP-cross")
    rated.rewind(-1)
    rated.begin(rated.read()["fingerprint"], {}, {})
    opened(search, run).run_evaluate()
    assert choice.read()["metrics"]["lr"] == rated.read()["lr"] == 0.001


def test_students_taken_from_a_run_that_had_more_keep_their_rate(search: Search, whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "tiny"))
    before = Unit(run / "units" / "evaluate" / "random-MLP-cross").read()
    shutil.rmtree(run / "units" / "rates" / "random-MLP-cross")  # it is not taken along
    opened(search.override({"evaluate.also.cross.students": 1}), run).run_evaluate()
    after = Unit(run / "units" / "evaluate" / "random-MLP-cross").read()
    assert (after["students"], after["lr"], after["runs"]) == (1, before["lr"], before["runs"][:1])


def test_other_rates_are_another_choice(search: Search, whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "tiny"))
    opened(search.override({"evaluate.also.cross.rates": [0.05]}), run).run_evaluate()
    assert Unit(run / "units" / "evaluate" / "distilled-MLP-cross").read()["lr"] == 0.05
    opened(search.override({"evaluate.also.cross.rates": []}), run).run_evaluate()
    assert "lr" not in Unit(run / "units" / "evaluate" / "distilled-MLP-cross").read()


def test_hard_labels_in_the_place_of_hard_ones_are_refused(search: Search, tmp_path: Path) -> None:
    odd = search.override({"evaluate.also.cross.labels": "hard"})
    with pytest.raises(ConfigError, match=r"evaluate.also.cross.labels='hard': the set has hard labels anyway"):
        Experiment(odd, tmp_path / "tiny", Local(), Progress(quiet=True)).check()
