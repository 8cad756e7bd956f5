from pathlib import Path

import pytest

from raydistill import artifacts
from raydistill.artifacts import write_json
from raydistill.report.blocks import Picture, Table, Text
from raydistill.report.run import Run
from raydistill.report.search_blocks import distribution_text, search_blocks
from tests.report.fake import fake_run


def names(blocks) -> list[str]:
    return [block.name for block in blocks if isinstance(block, Picture | Table)]


def test_everything_about_the_search_is_there(finished: Path) -> None:
    blocks = search_blocks(Run(finished))
    assert names(blocks) == ["chosen", "search", "importances", "slices", "trials", "trials"]
    assert isinstance(blocks[0], Text)
    assert "12 of 12 trials begun" in blocks[0].text


def test_the_chosen_settings_stand_beside_what_was_searched(finished: Path) -> None:
    run = Run(finished)
    chosen = next(block for block in search_blocks(run) if isinstance(block, Table)).frame.set_index("setting")
    assert chosen.loc["distill.lr_img", "searched over"] == "0.01 … 10 (logarithmic)"
    assert chosen.loc["distill.lr_img", "chosen"] == run.chosen["distill.lr_img"]
    assert chosen["importance"].sum() == pytest.approx(1)


def test_two_objectives_have_a_front(tmp_path: Path) -> None:
    run = fake_run(tmp_path, objectives="accuracy+seconds", nas=False)
    assert "pareto" in names(search_blocks(Run(run)))


def test_few_trials_say_nothing_about_importance(tmp_path: Path) -> None:
    blocks = search_blocks(Run(fake_run(tmp_path, trials=3, nas=False)))
    assert "importances" not in names(blocks)
    assert any(isinstance(block, Text) and "Too few" in block.text for block in blocks)


def test_a_search_of_another_version_is_still_reported(tmp_path: Path) -> None:
    run = fake_run(tmp_path, nas=False)
    search = artifacts.read_json(run / "search.json")
    search["distill"]["setting_of_tomorrow"] = 1
    write_json(run / "search.json", search)
    assert "trials" in names(search_blocks(Run(run)))


def test_changes_of_the_final_distillation_are_named(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=3, nas=False)
    search = artifacts.read_json(run / "search.json")
    search["final"] = {"distill.iterations": 4000}
    write_json(run / "search.json", search)
    first = search_blocks(Run(run))[0]
    assert isinstance(first, Text)
    assert "distill.iterations = 4000" in first.text


@pytest.mark.parametrize(
    ("distribution", "text"),
    [
        ({"kind": "float", "low": 0.01, "high": 10.0, "log": True}, "0.01 … 10 (logarithmic)"),
        ({"kind": "int", "low": 1, "high": 8, "log": False}, "1 … 8"),
        ({"kind": "choice", "values": ["real", None, 2]}, "real, –, 2"),
        (
            {"kind": "int", "low": 1, "high": 8, "when": {"path": "distill.init", "values": ["real", "noise"]}},
            "1 … 8, while distill.init is real or noise",
        ),
    ],
)
def test_distributions_in_words(distribution: dict, text: str) -> None:
    assert distribution_text(distribution) == text
