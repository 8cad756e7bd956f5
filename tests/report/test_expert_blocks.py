"""The report's pages on experts and matching."""

import json
from pathlib import Path

from raydistill.artifacts import COMPLETED, Unit
from raydistill.distill.pad import PADConfig
from raydistill.experts.curriculum import CurriculumConfig
from raydistill.experts.trajectory import ExpertConfig
from raydistill.report.blocks import Missing, Picture, Text
from raydistill.report.expert_blocks import expert_blocks, matching_blocks
from raydistill.report.run import Run
from raydistill.search.definition import Search


def a_run(path: Path) -> Run:
    distill = PADConfig(experts=ExpertConfig(count=2, epoch_steps=5, curriculum=CurriculumConfig()))
    search = Search(name="run", distill=distill)
    path.mkdir(parents=True)
    (path / "search.json").write_text(json.dumps(search.to_json()))
    return Run(path)


def test_without_experts_the_command_is_named(tmp_path: Path) -> None:
    (block,) = expert_blocks(a_run(tmp_path / "run"))
    assert isinstance(block, Missing)


def test_experts_are_drawn_and_summed_up(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    for index, end in enumerate((0.9, 0.8)):
        unit = Unit(run.path / "units" / "experts" / f"{index:04d}")
        unit.begin("x", {"index": index}, {})
        for epoch in range(3):
            unit.log(epoch, {"accuracy": end if epoch == 2 else 0.1, "loss": 2.0 - epoch})
        unit.finish(COMPLETED, {"accuracy": end}, step=2)
    picture, text = expert_blocks(run)
    assert isinstance(picture, Picture)
    assert len(picture.figure.axes) == 3
    assert [len(ax.lines) for ax in picture.figure.axes[:2]] == [2, 2]
    assert isinstance(text, Text)
    assert "2 experts, an epoch is 5 steps" in text.text
    assert "85.0 %" in text.text
    assert "(80.0 to 90.0)" in text.text


def test_matching_shows_what_is_learned_and_counts_what_was_skipped(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    assert matching_blocks(run) == []
    run.final.begin("x", {}, {})
    for step in range(1, 5):
        numbers = {"loss": 1.0, "syn_lr": 0.01, "label_entropy": 0.3, "start_epoch": 2.0, "skipped": float(step // 2)}
        run.final.log(step, numbers)
    picture, text = matching_blocks(run)
    assert isinstance(picture, Picture)
    assert len(picture.figure.axes) == 3
    assert isinstance(text, Text)
    assert text.text.startswith("2 of 4 steps were skipped")
