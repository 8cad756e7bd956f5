"""The stage's part of results.json, from units written by hand."""

from pathlib import Path
from typing import Any

import pytest

from raydistill.artifacts import COMPLETED, DIVERGED, RUNNING, Unit, write_json
from raydistill.distill.datadam import DataDAM
from raydistill.nas.space import NASConfig
from raydistill.nas.summary import config_of, rated, summary, to_confirm, warning
from raydistill.search.definition import Search

TRUTH = {"ConvNetD1": 0.5, "ConvNetD2": 0.6, "ConvNetD3": 0.9, "ConvNetD4": 0.7, "ConvNetD5": 0.8}


def a_run(path: Path, **nas: Any) -> Path:
    search = Search(name="nas", distill=DataDAM.Config(), nas=NASConfig(**{"confirm": 0, **nas}))
    write_json(path / "search.json", search.to_json())
    return path


def unit(run: Path, proxy: str, network: str, accuracy: float, student: int = 0, status: str = COMPLETED) -> None:
    made = Unit(run / "units" / "nas" / f"{proxy}-{network}-{student}")
    made.begin("f", {}, {})
    if status != RUNNING:
        metrics = {"accuracy": accuracy, "seconds": 2.0, "train_seconds": 1.5}
        about = {"proxy": proxy, "network": network, "student": student}
        made.finish(status, metrics, seconds=2.0, flops=10, **about)


def confirmation(run: Path, network: str, **metrics: float) -> None:
    made = Unit(run / "units" / "confirm" / network)
    made.begin("f", {}, {})
    made.finish(COMPLETED, metrics, network=network, epochs=5, workers=1, seconds=9.0, flops=100)


def test_nothing_before_a_network_is_rated(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    assert summary(run) is None
    unit(run, "distilled", "ConvNetD1", 0.5, status=RUNNING)
    assert summary(run) is None


def test_each_architecture_under_each_of_its_names(tmp_path: Path) -> None:
    run = a_run(tmp_path, networks=("ConvNetW128", "ConvNetD1", "ConvNetD2", "ConvNetD3"), students=2)
    for network, accuracies in {"ConvNetD1": (0.5, 0.6), "ConvNetD2": (0.7, 0.7), "ConvNetD3": (0.9, 0.8)}.items():
        for student, accuracy in enumerate(accuracies):
            unit(run, "distilled", network, accuracy, student)
    found = summary(run)
    assert found is not None
    assert [(entry["name"], round(entry["accuracy"], 3)) for entry in found["ranking"]] == [
        ("ConvNetD3", 0.85), ("ConvNetW128", 0.85), ("ConvNetD2", 0.7), ("ConvNetD1", 0.55),
    ]  # fmt: skip
    assert (found["names"], found["distinct"], found["best"], found["seconds"]) == (4, 3, "ConvNetD3", 12.0)
    assert found["ranking"][0]["runs"] == [0.9, 0.8]
    assert not {"full", "spearman", "truth"} & found.keys()


def test_the_truth_decides_what_a_proxy_is_worth(tmp_path: Path) -> None:
    run = a_run(tmp_path, networks=tuple(TRUTH), baselines=("random", "whole"))
    for network, accuracy in TRUTH.items():
        unit(run, "whole", network, accuracy)
        unit(run, "distilled", network, accuracy / 2)
        unit(run, "random", network, 1 - accuracy)
    found = summary(run)
    assert found is not None
    assert found["spearman"] == found["kendall"] == pytest.approx(1)
    assert found["spearman_ci95"][0] > 0
    assert found["regret"] == 0
    assert found["proxies"]["random"]["regret"] == pytest.approx(0.4)
    assert found["warnings"] == [
        "The order of the networks on random images is not shown to be that on the whole set: Spearman's correlation "
        "is negative; Kendall's correlation is negative."
    ]


def test_of_equals_the_one_told_of_is_the_one_that_is_confirmed(tmp_path: Path) -> None:
    run = a_run(tmp_path, networks=("ConvNetAP", "ConvNetAS", "ConvNetD3"), confirm=1)  # AP is D3
    unit(run, "distilled", "ConvNetD3", 0.5)
    unit(run, "distilled", "ConvNetAS", 0.5)
    found, config = summary(run), config_of(run)
    assert found is not None
    assert config is not None
    assert [found["best"]] == to_confirm(config, rated(run, "distilled")) == ["ConvNetAS"]


def test_an_interval_with_zero_in_it_is_said_in_words() -> None:
    one = {"low": -0.104, "high": 0.7, "value": 0.3, "networks": 18}
    text = warning("distilled", {"spearman": {"all": one}, "kendall": {"all": {**one, "low": 0.1}}})
    assert text == (
        "The order of the networks on the distilled set is not shown to be that on the whole set: the 95 % interval of "
        "Spearman's correlation, -0.10 to 0.70, includes zero."
    )
    tops = {"all": {**one, "low": 0.1}, "top10": one}
    assert "Spearman's correlation among its best 10, -0.10 to 0.70, includes zero." in warning(
        "early", {"spearman": tops}
    )
    none = {"low": None, "high": None, "value": None, "networks": 2}
    assert "not defined over 2 networks" in warning("early", {"kendall": {"all": none}})
    assert warning("early", {"kendall": {"all": {**one, "low": 0.1}}}) == warning("early", {}) == ""


def test_a_network_with_a_diverged_student_is_never_the_pick(tmp_path: Path) -> None:
    run = a_run(tmp_path, networks=("ConvNetD1", "ConvNetAS"))
    unit(run, "distilled", "ConvNetD1", 0.5)
    unit(run, "distilled", "ConvNetAS", 0.6, status=DIVERGED)  # the other student learned
    found = summary(run)
    assert found is not None
    assert [(entry["name"], entry["accuracy"]) for entry in found["ranking"]] == [
        ("ConvNetD1", 0.5),
        ("ConvNetAS", 0.6),
    ]
    assert found["best"] == "ConvNetD1"
    assert found["proxies"]["distilled"]["diverged"] == 1


def test_the_winner_is_told_when_all_chosen_are_confirmed(tmp_path: Path) -> None:
    run = a_run(tmp_path, networks=tuple(TRUTH), confirm=2)
    for network, accuracy in TRUTH.items():
        unit(run, "distilled", network, accuracy)
    confirmation(run, "ConvNetD5", val_accuracy=0.97, test_accuracy=0.96)
    confirmation(run, "ConvNetD1", val_accuracy=0.99)  # of an earlier set's best
    assert "full" not in (summary(run) or {})
    confirmation(run, "ConvNetD3", val_accuracy=0.95)
    found = (summary(run) or {})["full"]
    assert found["tests"] == 1
    assert (found["name"], found["accuracy"], found["val_accuracy"], found["epochs"]) == ("ConvNetD5", 0.96, 0.97, 5)
    assert [one["name"] for one in found["networks"]] == ["ConvNetD5", "ConvNetD3"]
    assert "truth" not in (summary(run) or {})
