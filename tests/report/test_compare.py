from pathlib import Path

import pandas as pd
import pytest

from raydistill.report import compare, tables
from raydistill.report.page import write_report
from tests.report.fake import fake_run
from tests.report.test_page import Page


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_run(tmp_path_factory.mktemp("more"), "wide", ipc=1, seed=8, trials=4, nas=False, distill={"factor": 2})


@pytest.fixture(scope="module")
def compared(finished: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([finished, other], tmp_path_factory.mktemp("compared"))


def test_accuracies_stand_side_by_side(compared: Path, finished: Path, other: Path) -> None:
    shown = Page(compared).text
    csv = pd.read_csv(compared.parent / "accuracy.csv").set_index(["run", "set"])
    for label, run in (("quickstart", finished), ("wide", other)):
        for row in tables.accuracy_table(run).to_dict("records"):
            assert f"{100 * row['mean']:.2f}" in shown
            assert csv.loc[(label, row["set"]), "mean"] == row["mean"]
    assert "wide, factor 2 (multi-formation)" in shown


def test_what_was_set_differently_is_listed(compared: Path) -> None:
    settings = pd.read_csv(compared.parent / "settings.csv").set_index("setting")
    assert settings.loc["distill.ipc"].astype(int).tolist() == [10, 1]
    assert "distill.iterations" not in settings.index
    chosen = pd.read_csv(compared.parent / "chosen.csv").set_index("setting")
    assert chosen.columns.tolist() == ["quickstart", "wide"]


def test_the_page_is_self_contained_and_has_its_pictures(compared: Path) -> None:
    shown = Page(compared)
    pictures = [link for link in shown.links if link.startswith("data:image/png;base64,")]
    assert len(pictures) == len(list(compared.parent.glob("*.png"))) == 3
    assert all(link in pictures or link[1:] in shown.anchors for link in shown.links)


def test_runs_of_one_name_are_told_apart_by_their_folders(finished: Path, tmp_path: Path) -> None:
    twin = fake_run(tmp_path, trials=0, nas=False)
    assert list(compare.labels([finished, twin])) == [str(finished), str(twin)]
    assert len(Page(write_report([finished, twin], tmp_path / "out")).text) > 500


def test_a_run_that_has_only_begun_may_be_among_them(finished: Path, tmp_path: Path) -> None:
    begun = fake_run(tmp_path, "begun")
    (begun / "units").rename(tmp_path / "units")
    shown = Page(write_report([finished, begun], tmp_path / "out")).text
    assert "begun: no evaluation has finished yet" in shown
    assert "begun: the set is not stored yet" in shown


@pytest.mark.filterwarnings("error")
def test_runs_that_have_all_only_begun_compare(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path, name, trials=0, nas=False) for name in ("a", "b")]
    for run in runs:
        (run / "units").rename(run / "gone")
    assert "b: no evaluation has finished yet" in Page(write_report(runs, tmp_path / "out")).text
