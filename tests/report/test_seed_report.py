"""The page of the reproduction on run folders with made-up numbers: every cell measured or said to be not."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from raydistill.artifacts import COMPLETED, Unit, units, write_json
from raydistill.nas.summary import summary
from raydistill.report import nas_blocks, seed_differences, seed_nas
from raydistill.report.run import Run
from raydistill.report.seed_cells import KEYS, NOT_MEASURED, Found, Key, frames
from raydistill.report.seed_figures import CONSTANT, FIGURES, NAS, TABLES
from raydistill.report.seed_nas import nas_frames
from raydistill.report.seed_report import PARTS, report, write_page
from raydistill.search.definition import Search
from raydistill.search.reproduction import Reproduction
from tests.report.fake import fake_run

GIVEN = "searches/seed_report.py"
SOFT = {"method": "PAD", "labels": "soft"}


def rated(run: Path, arm: str, network: str, protocol: str, runs: list[float], table: str = "", **more: Any) -> None:
    """One evaluation unit with given accuracies."""
    metrics = {"accuracy_mean": sum(runs) / len(runs), "accuracy_std": 0.01, "seconds": 3.0 * len(runs)}
    epochs = 50 if protocol == "seed" else 1000
    unit = Unit(run / "units/evaluate" / (f"{arm}-{network}" + (f"-{table}" if table else "")))
    unit.begin("e" * 16, {"batch": 25 if table == "cross" else 256}, {})
    about = {
        "set": arm,
        "network": network,
        "protocol": protocol,
        "epochs": epochs,
        "students": len(runs),
        "runs": runs,
    }
    unit.finish(COMPLETED, metrics, **about, **({"table": table} if table else {}), **more)


def spread(run: Path, unit: str, low: float, high: float) -> None:
    """Give an evaluation a 95 % interval."""
    file = run / "units/evaluate" / unit / "unit.json"
    record = json.loads(file.read_text())
    record["metrics"] |= {"ci95_low": low, "ci95_high": high}
    file.write_text(json.dumps(record))


def part(out: Path, name: str, init: str, distill: dict[str, Any]) -> Path:
    """A part's run folder: a distillation and a NAS ranking, and no evaluation yet."""
    run = fake_run(out, f"seed_report_{name}", trials=0, distill={**distill, "init": init})
    for unit in (run / "units/evaluate").iterdir():
        for file in unit.iterdir():
            file.unlink()
        unit.rmdir()
    search = json.loads((run / "search.json").read_text())
    search["data"]["source"] = "MNIST"
    (run / "search.json").write_text(json.dumps(search))
    return run


def search_named(name: str) -> Search:
    return Search.parse({"name": f"seed_report_{name}", "distill": {"method": "DataDAM", "ipc": 10, "iterations": 900}})


WHOLE = Reproduction(name="seed_report", parts={key.part: search_named(key.part) for key in KEYS})


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts of MNIST, DataDAM from real images whole, PAD with a part of its evaluations, DataDAM from noise begun."""
    out = tmp_path_factory.mktemp("runs")
    run = part(out, "mnist_datadam", "real", {})
    for table, protocol, shift in (("", "field", 0.0), ("seed", "seed", 0.04), ("plain", "field, plain", 0.01)):
        rated(run, "distilled", "ConvNetD3", protocol, [0.97 - shift, 0.98 - shift], table)
        rated(run, "random", "ConvNetD3", protocol, [0.95 - 2 * shift, 0.95 - 2 * shift], table)
    spread(run, "random-ConvNetD3", 0.949, 0.951)
    spread(run, "random-ConvNetD3-seed", 0.8, 1.2)
    rated(run, "distilled", "AlexNet", "seed", [0.2, 0.3], "seed")
    rated(run, "distilled", "AlexNet", "cross", [0.90, 0.92], "cross", lr=0.03)
    rated(run, "random", "AlexNet", "cross", [0.85, 0.87], "cross", lr=0.01)
    rated(run, "whole", "ConvNetD3", "field", [0.994])
    rated(run, "whole", "AlexNet", "cross", [0.991], "cross")
    run = part(out, "mnist_pad", "real", SOFT)
    rated(run, "distilled", "ConvNetD3", "field", [0.98, 0.98])
    rated(run, "initial", "ConvNetD3", "field", [0.96, 0.96])
    rated(run, "distilled", "ConvNetD3", "hard", [0.96, 0.96], "hard")
    part(out, "mnist_datadam_noise", "noise", {})
    return out


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("distill", "ipc"), 1),
        (("seed",), 3),
        (("evaluate", "protocol", "epochs"), 7),
        (("data", "min_agreement"), 6),
    ],
)
def test_real_images_of_another_part_count_where_they_are_the_same(
    out: Path, tmp_path: Path, path: tuple[str, ...], value: int
) -> None:
    shutil.copytree(out, tmp_path / "runs")
    pad = Key("MNIST", "PAD", "real")
    assert Found(WHOLE, tmp_path / "runs", GIVEN).beside(pad, "random", "ConvNetD3", "") is not None
    file = tmp_path / "runs" / WHOLE.parts["mnist_datadam"].name / "search.json"
    stored = section = json.loads(file.read_text())
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = value
    file.write_text(json.dumps(stored))
    state = Found(WHOLE, tmp_path / "runs", GIVEN)
    assert state.beside(pad, "random", "ConvNetD3", "") is None
    assert state.beside(Key("MNIST", "DataDAM", "real"), "random", "ConvNetD3", "") is not None


@pytest.fixture(scope="module")
def found(out: Path) -> Found:
    return Found(WHOLE, out, GIVEN)


def ours(found: Found, number: str) -> dict[tuple[str, str], str]:
    table = next(table for table in TABLES if table.number == number)
    shown = frames(found, table)[1]
    return {(row["trained on"], row["protocol"].split(",")[0]): row["ours %"] for row in shown.to_dict("records")}


def test_every_cell_of_the_twelve_tables_is_measured_or_said_to_be_not(found: Found, tmp_path: Path) -> None:
    for state in (found, Found(WHOLE, tmp_path, GIVEN)):
        count = 0
        for table in TABLES:
            plain, shown = frames(state, table)
            assert len(plain) == len(shown) == 7
            for value, text in zip(plain["ours"], shown["ours %"], strict=True):
                assert (text == NOT_MEASURED) == math.isnan(value)
                assert text == NOT_MEASURED or re.fullmatch(r"\d+\.\d\d( ± \d+\.\d\d)?", text)
            assert [value for value in plain["report"] if not math.isnan(value)] == [
                table.full.accuracy,
                *[table.noise.accuracy] * 2,
                *[table.real.accuracy] * 2,
            ]
            count += len(shown)
        for dataset, method in PARTS:
            plain, shown = nas_frames(state, dataset, method)
            assert len(shown) == 10
            assert not any(text in ("", "nan", "None") for text in shown["ours"])
            assert [text == NOT_MEASURED for text in shown["ours"]] == [value is None for value in plain["ours"]]
            count += len(shown)
        total = report(state).facts["cells measured"]
        assert total.endswith(f" of {count}")
        assert (total.split()[0] == "0") == (state is not found)


def test_cells_hold_what_the_units_hold(found: Found) -> None:
    cells = ours(found, "I")
    assert cells[("full", "field")] == "99.40"
    assert cells[("from real", "seed")] == "93.50 ± 1.00"
    assert cells[("from real", "field")] == "97.50 ± 1.00"
    assert cells[("random real images", "seed")] == "87.00 ± 1.00"
    assert cells[("from noise", "seed")] == cells[("from noise", "field")] == NOT_MEASURED
    plain, _ = frames(found, TABLES[0])
    row = plain[(plain["set"] == "from real") & plain["protocol"].str.startswith("seed")].iloc[0]
    assert row["difference"] == pytest.approx(93.5 - 91.81)
    assert row["seconds"] == 3.0
    assert "600 iterations" in row["means"]
    assert "students take 51 steps" in row["means"]
    plain, _ = frames(found, TABLES[1])
    row = plain[(plain["set"] == "from real") & plain["protocol"].str.startswith("cross")].iloc[0]
    images = found.parts["mnist_datadam"].images
    assert images is not None
    assert f"students take {1001 * -(-len(images) // 25):,} steps" in row["means"]  # batches of that table
    crossed = ours(found, "II")
    assert crossed[("full", "cross")] == "99.10"
    assert crossed[("from real", "cross")] == "91.00 ± 1.00"
    assert crossed[("random real images", "seed")] == NOT_MEASURED
    # Random images and the whole set are the same for both methods.
    assert ours(found, "VII")[("random real images", "seed")] == cells[("random real images", "seed")]
    assert ours(found, "VII")[("full", "field")] == cells[("full", "field")]
    assert set(ours(found, "III").values()) == {NOT_MEASURED}


def test_nas_beside_the_reports(found: Found) -> None:
    plain, shown = nas_frames(found, "MNIST", "DataDAM")
    assert shown["report"].tolist()[:5] == ["ConvNetW256", "91.92", "34", "99.52", "484"]
    assert shown["ours"][0] != NOT_MEASURED
    assert (shown["ours"][3], shown["difference"][3]) == (NOT_MEASURED, "–")
    assert plain["difference"][1] == pytest.approx(plain["ours"][1] - 91.92)


def test_nas_rows_say_how_long_under_which_protocol_and_what_they_are(found: Found) -> None:
    plain, shown = nas_frames(found, "MNIST", "DataDAM")
    assert shown["protocol"][:2].tolist() == ["seed, 50 epochs"] * 2
    assert shown["protocol"][3] == "seed, 10 epochs (the report: 50)"
    assert shown["what it is"][0] == "of 18 architectures under 22 names, by validation images"
    assert shown["what it is"][1] == "of validation images, trained on 10 images a class after 600 iterations"
    assert plain["seconds"][1] > 0
    assert shown["seconds"][1] != "–"
    assert shown["seconds"][3] == "–"
    assert all(shown["what it is"])


def test_a_network_is_called_by_its_first_name_beside_its_alias(tmp_path: Path) -> None:
    run = part(tmp_path, "mnist_datadam", "real", {})
    for unit in units(run, "nas"):
        record = unit.read()
        best = 0.99 if record["network"] == "ConvNetD3" else 0.5
        write_json(unit.file, {**record, "metrics": {**record["metrics"], "accuracy": best}})
    found = Found(WHOLE, tmp_path, GIVEN)
    _, shown = nas_frames(found, "MNIST", "DataDAM")
    assert (shown["ours"][0], shown["difference"][0]) == ("ConvNetD3 (alias AP)", "another")
    assert seed_nas._same("ConvNetAP", "ConvNetIN") == "the same"
    ours = nas_blocks.seed_table(Run(run), summary(run) or {})
    assert nas_blocks._shown_seed(ours)["best"].tolist() == ["ConvNetW256", "ConvNetD3 (alias AP)"]


def test_the_scores_by_hand(found: Found) -> None:
    from raydistill.evaluate.scores import augmentation_robust_score, label_robust_score

    own = seed_differences.scores(found, Key("MNIST", "DataDAM", "real"))
    assert own["HLR"] == pytest.approx(0.994 - 0.975)
    assert own["IOR"] == pytest.approx(0.025)
    assert own["LRS"] == pytest.approx(label_robust_score(0.019, 0.025))
    assert own["ARS"] == pytest.approx(augmentation_robust_score(0.025, 0.965 - 0.93))
    soft = seed_differences.scores(found, Key("MNIST", "PAD", "real"))
    assert soft["HLR"] == pytest.approx(0.994 - 0.96)
    assert soft["IOR"] == pytest.approx(0.02)  # above random images with the same kind of labels
    assert soft["ARS"] is None
    assert set(seed_differences.scores(found, Key("MHIST", "PAD", "noise")).values()) == {None}


def test_what_differs_is_told_in_measured_figures_or_not_at_all(found: Found, tmp_path: Path) -> None:
    told = " ".join(getattr(block, "text", "") for block in seed_differences.difference_blocks(found))
    assert "reaches 93.50 ± 1.00 % after 51 steps, which is what 50 epochs are" in told
    assert "97.50 ± 1.00 % after 1,001; the report printed 91.81 %" in told
    random = "reach 87.00 ± 1.00 % with ConvNetD3 after 50 epochs (95 %: 80.00 to 100.00). The report's DataDAM sets: "
    assert f"{random}from real (91.81 %) is 4.81 points above that, within the interval; from noise" in told
    assert "(74.44 %) is 12.56 points below that." in told
    assert (
        "from real (91.81 %) is 3.19 points below that, within the interval" not in told
    )  # trained long: 94.90 to 95.10
    assert "95.00 ± 1.00 % with ConvNetD3 after 1000 epochs (95 %: 94.90 to 95.10)" in told
    assert "(68.62 %) is 18.38 points below that" in told
    assert "is 62.52 points below that (one draw" in told
    assert "Table IV from noise (63.15 %)" in told
    assert "98.00 ± 1.00 % with the soft labels learned with it and 96.00 ± 1.00 % with hard ones" in told
    empty = " ".join(
        b.text for b in seed_differences.difference_blocks(Found(WHOLE, tmp_path, GIVEN)) if b.kind == "text"
    )
    assert not re.search(r"reach(es)? \d", empty)
    assert [round(a.percent, 2) for a in CONSTANT["MHIST"]] == [63.15, 36.85]


def test_the_page_has_every_table_figure_and_command(out: Path, found: Found) -> None:
    index = write_page(WHOLE, out, GIVEN)
    assert index == out / "seed_report" / "index.html"
    page, text = index.read_text(), (index.parent / "report.md").read_text()
    for number in (*(table.number for table in TABLES), *(row.table for row in NAS)):
        assert f"Table {number}:" in page
        assert (index.parent / f"table_{number}.csv").exists()
    for figure in FIGURES.values():
        assert figure in page
    assert (index.parent / "figure_mnist_datadam.png").exists()
    assert "raydistill run searches/seed_report.py:mhist_pad_noise --resume" in text
    assert "MHIST is licensed" in text
    assert "http" not in re.sub(r"data:image/png;base64,[^\"]*", "", page)
    assert "600" in text
    assert "900" in text


def test_generated_tiles_have_rows_of_their_own_and_none_of_mhists(tmp_path: Path) -> None:
    """The parts of MHIST run on tiles where there is no copy of it."""
    run = part(tmp_path, "mhist_datadam", "real", {"network": "ConvNetD7"})
    search = json.loads((run / "search.json").read_text())
    search["data"]["source"] = "generated tiles"
    (run / "search.json").write_text(json.dumps(search))
    for arm in ("distilled", "random", "whole"):
        rated(run, arm, "ConvNetD7", "field", [0.9, 0.9])
    found = Found(WHOLE, tmp_path, GIVEN)
    table = next(table for table in TABLES if table.number == "III")
    plain, shown = frames(found, table)
    named = shown["trained on"].str.contains("generated tiles")
    assert sorted(shown[named]["ours %"]) == sorted(["90.00 ± 1.00", NOT_MEASURED])
    assert set(shown[~named]["ours %"]) == {NOT_MEASURED}
    assert all(math.isnan(value) for value in plain[named]["report"])
    assert set(nas_frames(found, "MHIST", "DataDAM")[1]["ours"]) == {NOT_MEASURED}
    assert report(found).facts["cells measured"].split()[0] == "0"
    text = (write_page(WHOLE, tmp_path, GIVEN).parent / "report.md").read_text()
    assert "data.source=generated tiles" in text
    assert "DataDAM on generated tiles, not MHIST, from real. " in text
    assert f"{FIGURES[Key('MHIST', 'DataDAM', 'real')]}: DataDAM on MHIST from real: {NOT_MEASURED}" in text
