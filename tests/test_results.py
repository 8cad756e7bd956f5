"""The run folder's contract, from units written by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from raydistill import artifacts, definitions, results
from raydistill.artifacts import COMPLETED, DIVERGED, FAILED, STOPPED, Unit
from raydistill.errors import ArtifactError, ConfigError
from raydistill.search.definition import Search
from tests.tiny import write_search


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return definitions.load(str(write_search(tmp_path)))


@pytest.fixture
def run(search: Search, tmp_path: Path) -> Path:
    results.open_run(search, tmp_path / "run", resume=False)
    return tmp_path / "run"


def unit(run: Path, kind: str, name: str, **params: float) -> Unit:
    made = Unit(run / "units" / kind / name)
    made.begin("f", params, {})
    return made


def evaluation(run: Path, arm: str, runs: list[float], **metrics: float) -> None:
    mean = sum(runs) / len(runs)
    unit(run, "evaluate", f"{arm}-ConvNetD1").finish(
        COMPLETED,
        {"accuracy_mean": mean, "accuracy_std": 0.1, "seconds": 2.0, **metrics},
        set=arm, network="ConvNetD1", protocol="fast", epochs=2, students=len(runs), runs=runs, seconds=2.0,
    )  # fmt: skip


def test_fresh_run(run: Path, search: Search) -> None:
    document = results.update(run)
    assert document == json.loads((run / "results.json").read_text())
    assert document["stages"] == {}
    assert (document["name"], document["seed"], document["schema"]) == ("tiny", 0, 1)
    assert definitions.load(str(run / "search.json")) == search


def test_run_is_opened_twice_only_on_request(run: Path, search: Search) -> None:
    before = (run / "search.json").read_bytes()
    with pytest.raises(ConfigError, match="--resume"):
        results.open_run(search.override({"seed": 3}), run, resume=False)
    assert (run / "search.json").read_bytes() == before


def test_a_run_goes_on_with_the_images_that_it_was_made_with(run: Path, search: Search) -> None:
    assert results.open_run(search, run, resume=True, images="a")["images"] == "a"
    assert results.open_run(search, run, resume=True)["images"] == "a"
    unit(run, "trial", "0000")
    with pytest.raises(ConfigError, match="was made with other images than those that digits has now"):
        results.open_run(search, run, resume=True, images="b")
    assert results.open_run(search, run, resume=True, images="a")["images"] == "a"


def test_evaluations_are_of_the_network_that_was_chosen(run: Path) -> None:
    evaluation(run, "distilled", [0.8])
    final = Unit(run / "units" / "distill" / "final")
    for network, rated in (("ConvNetD1", ["distilled"]), ("ConvNetD2", [])):
        final.begin("f", {"distill.network": network}, {})
        assert [row["set"] for row in results.update(run)["stages"].get("evaluate", [])] == rated


def test_resume_keeps_what_is_known(run: Path, search: Search) -> None:
    first = results.update(run, mlflow={"run_id": "x"}, report="report/index.html")
    results.add_seconds(run, "search", 3.0)
    unit(run, "trial", "0000", **{"distill.lr_img": 0.1}).finish(COMPLETED, {"val_accuracy": 0.5}, step=4, seconds=1.0)
    again = results.open_run(search, run, resume=True)
    assert again["run_id"] == first["run_id"]
    assert again["mlflow"] == {"run_id": "x"}
    assert again["report"] == "report/index.html"
    results.add_seconds(run, "search", 2.0)
    assert results.update(run)["stages"]["search"]["seconds"] == 5.0


def test_search_counts_and_names_the_best(run: Path) -> None:
    ends = [(COMPLETED, 0.5), (COMPLETED, 0.7), (STOPPED, 0.9), (DIVERGED, None), (FAILED, None)]
    for number, (status, accuracy) in enumerate(ends):
        metrics = {} if accuracy is None else {"val_accuracy": accuracy}
        unit(run, "trial", f"{number:04d}", **{"distill.lr_img": float(number)}).finish(status, metrics, step=4)
    found = results.update(run)["stages"]["search"]
    assert {name: found[name] for name in ("trials", "completed", "stopped", "diverged", "failed")} == {
        "trials": 5, "completed": 2, "stopped": 1, "diverged": 1, "failed": 1,
    }  # fmt: skip
    # A stopped trial's accuracy is of an early rung; it is never the best.
    assert found["best"] == {"params": {"distill.lr_img": 1.0}, "val_accuracy": 0.7, "trial": 1}


def test_no_trial_completed(run: Path) -> None:
    unit(run, "trial", "0000").finish(DIVERGED, {}, step=4)
    assert results.update(run)["stages"]["search"]["best"] is None


def test_distill_is_listed_once_it_has_ended(run: Path) -> None:
    final = unit(run, "distill", "final")
    assert "distill" not in results.update(run)["stages"]
    final.finish(COMPLETED, {}, step=4, seconds=1.5)
    expected = {"directory": "units/distill/final/set", "iterations": 4, "seconds": 1.5, "outcome": "completed"}
    assert results.update(run)["stages"]["distill"] == expected


def test_evaluations(run: Path) -> None:
    evaluation(run, "distilled", [0.8, 0.9], ci95_low=0.7, ci95_high=0.95, auc=0.97, recall_0=0.9, recall_1=0.8)
    rated = Unit(run / "units" / "evaluate" / "distilled-ConvNetD1")
    artifacts.write_json(rated.file, {**rated.read(), "classes": ["HP", "SSA"]})
    evaluation(run, "whole", [0.99])
    unit(run, "evaluate", "random-ConvNetD1")
    distilled, whole = results.update(run)["stages"]["evaluate"]
    assert distilled["accuracy"]["mean"] == pytest.approx(0.85)
    assert distilled["accuracy"]["ci95"] == [0.7, 0.95]
    assert (distilled["auc"], distilled["balanced_accuracy"]) == (0.97, None)
    assert distilled["recall"] == {"HP": 0.9, "SSA": 0.8}
    assert (whole["recall"], whole["majority_rate"]) == (None, None)
    assert whole["accuracy"]["ci95"] is None
    assert whole["accuracy"]["runs"] == [0.99]


def test_evaluations_that_are_not_asked_for_any_more_are_left_out_and_kept(run: Path, search: Search) -> None:
    evaluation(run, "distilled", [0.8])
    evaluation(run, "random", [0.7])
    results.open_run(search.override({"evaluate.baselines": ["whole"]}), run, resume=True)
    assert [row["set"] for row in results.update(run)["stages"]["evaluate"]] == ["distilled"]
    results.open_run(search.override({"evaluate.networks": ["MLP"]}), run, resume=True)
    assert "evaluate" not in results.update(run)["stages"]
    results.open_run(search, run, resume=True)
    assert [row["set"] for row in results.update(run)["stages"]["evaluate"]] == ["distilled", "random"]


def test_stage_whose_units_are_gone_goes_too(run: Path) -> None:
    evaluation(run, "distilled", [0.8])
    assert "evaluate" in results.update(run)["stages"]
    (run / "units" / "evaluate" / "distilled-ConvNetD1" / "unit.json").unlink()
    assert "evaluate" not in results.update(run)["stages"]


def test_tags_are_texts(search: Search) -> None:
    assert results.tags(search) == {
        "method": "DataDAM", "dataset": "digits", "ipc": "1", "init": "real", "seed": "0",
    }  # fmt: skip


def test_canonical_json_does_not_depend_on_order() -> None:
    assert results.canonical({"b": 1, "a": [2]}) == results.canonical({"a": [2], "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        results.canonical(float("nan"))


def test_results_are_written_whole(run: Path) -> None:
    results.update(run)
    assert {p.name for p in run.iterdir()} == {results.SEARCH, results.RESULTS}
    assert artifacts.read_json(run / results.RESULTS)["stages"] == {}


@pytest.mark.parametrize("content", ["[]", '"a"', "1", "{", "\xff"], ids=repr)
@pytest.mark.parametrize(
    ("name", "act"),
    [
        (results.RESULTS, results.update),
        (results.RESULTS, lambda run: results.add_seconds(run, "search", 1.0)),
        (results.RESULTS, lambda run: results.open_run(results.stored(run), run, resume=True)),
        (results.SEARCH, results.stored),
        ("units/trial/0000/unit.json", results.update),
    ],
)
def test_damaged_files_are_named_in_one_line(content: str, name: str, act: Callable[[Path], object], run: Path) -> None:
    (run / "units/trial/0000").mkdir(parents=True)
    (run / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(ArtifactError, match=rf"{name} is damaged \([^\n]*\); delete it and run again with --resume$"):
        act(run)
