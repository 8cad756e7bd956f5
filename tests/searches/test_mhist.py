"""The search on generated tiles, cut down to seconds: what a two-class set records, and under which name."""

import json
from pathlib import Path

import pytest

from raydistill.data.tiles import Wanted, generate
from tests.searches.test_searches import FOLDER
from tests.tiny import call

SHORT = {
    "data.resolution": "null", "data.val_fraction": "0.2", "distill.network": "ConvNetD1", "distill.ipc": "1",
    "distill.iterations": "2", "distill.batch_real": "2", "distill.network_pool": "null", "distill.network_stages": "[0]",
    "evaluate.protocol.epochs": "1", "evaluate.whole_epochs": "1", "evaluate.students": "2",
    "nas": '{"networks": ["ConvNet-D1-W4", "ConvNet-D2-W4"], "confirm_epochs": 1}',
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the search on MHIST, pointed at generated tiles."""
    folder = tmp_path_factory.mktemp("mhist")
    generate(folder / "tiles", Wanted(train=15, test=12, side=16, seed=0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder / "home"))
        patch.delenv("RAYDISTILL_DATA", raising=False)
        given = ["run", FOLDER / "mhist.py", "--data-root", folder / "tiles", "--out", folder, "--quiet"]
        sets = [word for key, value in SHORT.items() for word in ("--set", f"{key}={value}")]
        _call(*given, "--address", "in-process", *sets)
    return folder / "mhist"


def _call(*args: object) -> None:
    from raydistill.cli import app, guarded

    assert guarded(lambda: app([str(arg) for arg in args], prog_name="raydistill", standalone_mode=False)) == 0


def test_results_hold_what_two_classes_need(run: Path) -> None:
    rows = json.loads((run / "results.json").read_text())["stages"]["evaluate"]
    assert {row["set"] for row in rows} == {"distilled", "random", "whole"}
    for row in rows:
        assert set(row["recall"]) == {"HP", "SSA"}
        assert row["balanced_accuracy"] == pytest.approx(sum(row["recall"].values()) / 2)
        assert row["accuracy"]["mean"] == pytest.approx((8 * row["recall"]["HP"] + 4 * row["recall"]["SSA"]) / 12)
        assert row["majority_rate"] == pytest.approx(8 / 12)
        assert 0 <= row["auc"] <= 1


def test_so_do_the_networks_of_the_nas(run: Path) -> None:
    nas = json.loads((run / "results.json").read_text())["stages"]["nas"]
    assert len(nas["ranking"]) == 2
    for row, images in (*((row, (2, 1)) for row in nas["ranking"]), (nas["full"], (8, 4))):
        right = sum(count * recall for count, recall in zip(images, row["recall"].values(), strict=True))
        assert row["accuracy"] == pytest.approx(right / sum(images))
        assert row["balanced_accuracy"] == pytest.approx(sum(row["recall"].values()) / 2)
        assert row["majority_rate"] == pytest.approx(2 / 3)
    winner = f"balanced {100 * nas['full']['balanced_accuracy']:.2f} %"
    page = (run / "report" / "index.html").read_text()
    assert winner in page
    table = (run / "report" / "nas.csv").read_text().splitlines()[0]
    assert "balanced_accuracy,auc,recall HP,recall SSA,majority_rate" in table


def test_it_is_never_called_mhist(run: Path) -> None:
    """Not in what the run, its units, its set, its tracker or its page say of the data; the search's own name apart."""
    from raydistill.data.distilled import DistilledSet
    from raydistill.track.to_mlflow import embedded_uri

    assert json.loads((run / "results.json").read_text())["dataset"] == "generated tiles"
    assert json.loads((run / "search.json").read_text())["data"]["source"] == "generated tiles"
    images = DistilledSet.load(run / "units" / "distill" / "final" / "set")
    assert images.manifest["data"]["source"] == "generated tiles"
    for unit in run.glob("units/*/*/unit.json"):
        assert json.loads(unit.read_text())["tags"]["dataset"] == "generated tiles"
    page = (run / "report" / "index.html").read_text()
    assert "DataDAM on generated tiles" in page
    assert "MHIST" not in page
    assert embedded_uri(run)
    for file in run.rglob("*"):
        if file.is_file():
            assert b"MHIST" not in file.read_bytes(), file


def test_the_report_and_the_terminal_show_them(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (run / "report" / "index.html").read_text()
    for heading in ("balanced %", "AUC %", "recall HP %", "recall SSA %", "majority %"):
        assert heading in page
    said = call(capsys, "evaluate", run, "--network", "ConvNetD1", "--students", "1", "--protocol", "seed", "--quiet",
                "--address", "in-process", "--data-root", run.parent / "tiles")  # fmt: skip
    assert said.code == 0
    assert "12 test images, balanced " in said.out
    assert "majority 66.67 %" in said.out
    said = call(capsys, "evaluate", run, "--network", "ConvNetD1", "--students", "2", "--protocol", "seed", "--quiet",
                "--address", "in-process", "--data-root", run.parent / "tiles", "--json")  # fmt: skip
    found = json.loads(said.out)
    assert found["balanced_accuracy"] == pytest.approx(sum(found["recall"].values()) / 2)
    assert found["accuracy"]["mean"] == pytest.approx((8 * found["recall"]["HP"] + 4 * found["recall"]["SSA"]) / 12)
