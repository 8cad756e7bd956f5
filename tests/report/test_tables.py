import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from raydistill import artifacts
from raydistill.artifacts import COMPLETED, FAILED, RUNNING, Unit, write_json
from raydistill.errors import ArtifactError
from raydistill.models import canonical
from raydistill.report import single, tables
from raydistill.report.run import Run
from raydistill.report.texts import shown_accuracy, shown_nas
from tests.report.fake import fake_run


def test_accuracy_holds_what_the_units_hold_in_the_order_of_the_arms(finished: Path) -> None:
    frame = tables.accuracy_table(finished)
    assert frame["set"].tolist() == ["distilled", "random", "herding", "kcenter", "whole"]
    for row in frame.to_dict("records"):
        record = artifacts.read_json(finished / f"units/evaluate/{row['set']}-ConvNetD3/unit.json")
        assert row["mean"] == record["metrics"]["accuracy_mean"]
        assert row["mean"] == pytest.approx(np.mean(row["runs"]))
        assert list(row["runs"]) == record["runs"]
        assert row["epochs"] == record["epochs"]
    assert "auc" not in frame  # not measured, so no empty column


def test_one_student_has_neither_spread_nor_interval(finished: Path) -> None:
    frame = tables.accuracy_table(finished).set_index("set")
    assert frame.loc["whole", ["std", "ci95_low", "ci95_high"]].isna().all()
    assert frame.loc["random", ["std", "ci95_low", "ci95_high"]].notna().all()


def test_no_interval_is_shown_beyond_what_an_accuracy_can_be(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=0, nas=False)
    unit = Unit(run / "units/evaluate/distilled-ConvNetD3")
    record = unit.read()
    write_json(unit.file, {**record, "metrics": {**record["metrics"], "ci95_low": -0.031, "ci95_high": 1.017}})
    frame = tables.accuracy_table(run)
    assert shown_accuracy(frame).loc[0, "95 % interval"] == "0.00 … 100.00"
    out = io.StringIO()
    tables.print_accuracy(run, Console(file=out, width=80))
    text = out.getvalue() + "".join(map(str, single.accuracy_blocks(Run(run))))
    assert "0.00 … 100.00" in text
    assert "101.7" not in text
    assert "-3.1" not in text


def test_the_network_distilled_with_comes_first(tmp_path: Path) -> None:
    run = fake_run(tmp_path, networks=("AlexNet", "ConvNetD3"), trials=0, nas=False)
    assert tables.accuracy_table(run)["network"].tolist() == ["ConvNetD3"] * 5 + ["AlexNet"] * 5


def test_networks_that_are_not_asked_for_any_more_have_no_rows(tmp_path: Path) -> None:
    run = fake_run(tmp_path, networks=("AlexNet", "ConvNetD3"), trials=0, nas=False)
    search = artifacts.read_json(run / "search.json")
    search["evaluate"] |= {"networks": ["ConvNetD3"], "baselines": ["random"]}
    write_json(run / "search.json", search)
    found = tables.accuracy_table(run)[["set", "network"]].to_numpy().tolist()
    assert found == [["distilled", "ConvNetD3"], ["random", "ConvNetD3"]]


def test_two_class_scores_are_shown_where_measured(tmp_path: Path) -> None:
    run = fake_run(tmp_path, classes=("HP", "SSA"), trials=0, nas=False)
    unit = Unit(run / "units/evaluate/distilled-ConvNetD3")
    record = unit.read()
    found = {"balanced_accuracy": 0.7, "auc": 0.81, "recall_0": 0.8, "recall_1": 0.6, "majority_rate": 0.6315}
    write_json(unit.file, {**record, "metrics": {**record["metrics"], **found}, "classes": ["HP", "SSA"]})
    frame = tables.accuracy_table(run).set_index("set")
    names = ["balanced_accuracy", "auc", "recall HP", "recall SSA", "majority_rate"]
    assert frame.loc["distilled", names].tolist() == list(found.values())
    assert frame.loc["random", names].isna().all()
    shown = shown_accuracy(frame.reset_index())
    headings = ["balanced %", "AUC %", "recall HP %", "recall SSA %", "majority %"]
    assert shown.loc[0, headings].tolist() == ["70.00", "81.00", "80.00", "60.00", "63.15"]
    out = io.StringIO()
    tables.print_accuracy(run, Console(file=out, width=80))
    assert "63.15" in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80


def test_trials_keep_their_number_outcome_and_settings(finished: Path) -> None:
    frame = tables.trials_table(finished)
    assert frame["number"].tolist() == list(range(12))
    assert frame.loc[5, "status"] == "diverged"
    assert math.isnan(frame.loc[5, "val_accuracy"])
    record = artifacts.read_json(finished / "units/trial/0003/unit.json")
    for path, value in record["params"].items():
        assert frame.loc[3, path] == value
    assert frame.loc[2, "val_accuracy"] == tables.curve(Unit(finished / "units/trial/0002"), "val_accuracy")[1][-1]


def test_a_whole_number_stays_one_beside_trials_without_it(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=3, nas=False)
    search = artifacts.read_json(run / "search.json")
    search["space"]["distill.ipc"] = {"kind": "int", "low": 1, "high": 9, "log": False, "when": None}
    write_json(run / "search.json", search)
    unit = Unit(run / "units/trial/0001")
    write_json(unit.file, {**unit.read(), "params": {**unit.read()["params"], "distill.ipc": 7}})
    assert tables.trials_table(run)["distill.ipc"].tolist() == [None, 7, None]


def test_nas_is_ranked_from_best_to_worst(finished: Path) -> None:
    frame = tables.nas_table(finished)
    assert len(frame) == 22
    assert frame["rank"].tolist() == list(range(1, 23))
    assert frame["accuracy"].is_monotonic_decreasing


def test_networks_of_two_classes_have_their_scores_too(tmp_path: Path) -> None:
    run = fake_run(tmp_path, classes=("HP", "SSA"), trials=0)
    best = tables.nas_table(run)["network"][0]
    for student, recall in enumerate((0.8, 0.7, 0.6)):
        unit = Unit(run / f"units/nas/distilled-{canonical(best)}-{student}")
        record = unit.read()
        found = {"balanced_accuracy": 0.7, "auc": 0.81, "recall_0": recall, "recall_1": 0.6, "majority_rate": 0.6315}
        write_json(unit.file, {**record, "metrics": {**record["metrics"], **found}, "classes": ["HP", "SSA"]})
    frame = tables.nas_table(run)
    names = ["balanced_accuracy", "auc", "recall HP", "recall SSA", "majority_rate"]
    assert frame.loc[0, names].tolist() == pytest.approx([0.7, 0.81, 0.7, 0.6, 0.6315])
    shown = shown_nas(frame)
    headings = ["balanced %", "AUC %", "recall HP %", "recall SSA %", "majority %"]
    assert shown.loc[0, headings].tolist() == ["70.00", "81.00", "70.00", "60.00", "63.15"]


def test_stages_take_the_time_on_the_wall_or_else_their_units_together(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=4)
    assert tables.stages_table(run).set_index("stage").loc["evaluate", "seconds"] == 25.5
    results = artifacts.read_json(run / "results.json")
    del results["wall_seconds"]
    write_json(run / "results.json", results)
    assert tables.stages_table(run).set_index("stage").loc["evaluate", "seconds"] == pytest.approx(5 * 4.2)


def test_unfinished_names_running_and_failed_units_only(finished: Path, tmp_path: Path) -> None:
    assert tables.unfinished_table(finished)["unit"].tolist() == ["trial/0009"]
    assert tables.unfinished_table(finished)["status"].tolist() == [FAILED]
    run = fake_run(tmp_path, trials=0, nas=False)
    Unit(run / "units/evaluate/random-ConvNetD3").begin("x" * 16, {}, {})
    assert tables.unfinished_table(run)[["unit", "status"]].to_numpy().tolist() == [
        ["evaluate/random-ConvNetD3", RUNNING]
    ]
    assert "random" not in tables.accuracy_table(run)["set"].tolist()


def test_pareto_rows_are_exactly_those_that_nothing_beats(finished: Path) -> None:
    frame = tables.trials_table(finished)
    done = frame[frame["status"] == COMPLETED]
    expected = {
        i
        for i, a in done.iterrows()
        if not any(
            b["seconds"] <= a["seconds"]
            and b["val_accuracy"] >= a["val_accuracy"]
            and (b["seconds"], b["val_accuracy"]) != (a["seconds"], a["val_accuracy"])
            for _, b in done.iterrows()
        )
    }
    front = tables.pareto_rows(frame)
    assert set(front) == expected
    assert frame.loc[front, "seconds"].is_monotonic_increasing


def test_curves_leave_out_what_is_not_finite(tmp_path: Path) -> None:
    unit = Unit(tmp_path / "units/trial/0000")
    unit.log(1, {"loss": 2.0})
    unit.log(2, {"loss": float("nan")})
    unit.log(3, {"loss": float("inf"), "val_accuracy": 0.5})
    unit.log(4, {"loss": 1.0})
    steps, values = tables.curve(unit, "loss")
    assert steps.tolist() == [1, 4]
    assert values.tolist() == [2, 1]
    assert tables.curve(unit, "val_accuracy")[0].tolist() == [3]
    assert tables.curve(unit, "nothing")[0].shape == (0,)


def test_differing_settings_are_those_that_differ(finished: Path, tmp_path: Path) -> None:
    other = fake_run(tmp_path, "other", ipc=1, seed=4, trials=0, nas=False)
    frame = tables.differing_settings({"a": finished, "b": other}).set_index("setting")
    assert frame.loc["distill.ipc"].tolist() == [10, 1]
    assert frame.loc["seed"].tolist() == [0, 4]
    assert "distill.iterations" not in frame.index
    assert "name" not in frame.index


def test_the_terminal_table_shows_every_arm(finished: Path) -> None:
    out = io.StringIO()
    tables.print_accuracy(finished, Console(file=out, width=160))
    text = out.getvalue()
    for row in tables.accuracy_table(finished).to_dict("records"):
        line = next(line for line in text.splitlines() if line.split()[:1] == [row["set"]])
        assert f"{100 * row['mean']:.2f}" in line


def test_the_terminal_says_when_there_is_nothing_yet(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=0, nas=False)
    for unit in artifacts.units(run, "evaluate"):
        unit.begin("x" * 16, {}, {})
    out = io.StringIO()
    tables.print_accuracy(run, Console(file=out, width=200))
    assert "no finished evaluation" in out.getvalue()


def test_a_folder_that_is_no_run_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"search\.json"):
        tables.accuracy_table(tmp_path)
    (tmp_path / "search.json").write_text(json.dumps({"distill": {}})[:-1])
    with pytest.raises(ArtifactError, match="damaged"):
        tables.read_search(tmp_path)
