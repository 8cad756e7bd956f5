import shutil
from pathlib import Path

import pytest

from raydistill import artifacts
from raydistill.artifacts import Unit, write_json
from raydistill.report import single
from raydistill.report.blocks import Missing, Table
from raydistill.report.run import Run
from tests.report.fake import fake_run


def said(blocks) -> str:
    return "\n".join(getattr(block, "text", "") + getattr(block, "caption", "") for block in blocks)


def test_the_verdict_compares_with_the_best_real_set_of_the_same_size(finished: Path) -> None:
    run = Run(finished)
    means = run.accuracy.set_index("set")["mean"]
    best = means[["random", "herding", "kcenter"]].idxmax()
    text = said(single.accuracy_blocks(run)[:1])
    gap = 100 * (means["distilled"] - means[best])
    assert f"{abs(gap):.2f} points above {best}" in text
    assert f"All training images together reach {100 * means['whole']:.2f} %" in text


@pytest.mark.parametrize(
    ("mean", "half", "said_so"), [(0.70, 0.01, "below"), (0.92, 0.2, "overlap"), (0.97, 0.001, "above")]
)
def test_the_verdict_is_honest(tmp_path: Path, mean: float, half: float, said_so: str) -> None:
    run = fake_run(tmp_path, trials=0, nas=False)
    unit = Unit(run / "units/evaluate/distilled-ConvNetD3")
    metrics = {"accuracy_mean": mean, "ci95_low": mean - half, "ci95_high": mean + half}
    write_json(unit.file, {**unit.read(), "metrics": {**unit.read()["metrics"], **metrics}})
    text = said(single.accuracy_blocks(Run(run))[:1])
    assert said_so in text
    assert ("do not overlap" in text) == (said_so != "overlap")


def test_the_settings_shown_are_those_of_the_final_distillation(finished: Path, tmp_path: Path) -> None:
    run = Run(finished)
    assert run.distill["lr_img"] == run.chosen["distill.lr_img"]
    assert run.distill["lr_img"] != run.search["distill"]["lr_img"]
    changed = tmp_path / "changed"
    shutil.copytree(finished, changed)
    unit = Unit(changed / "units/distill/final")
    write_json(unit.file, {**unit.read(), "params": {"distill.iterations": 9000}})
    assert Run(changed).distill["iterations"] == 9000


def test_the_chosen_trial_is_the_one_that_results_name(finished: Path, tmp_path: Path) -> None:
    run = Run(finished)
    assert run.best is not None
    done = run.trials[run.trials["status"] == "completed"]
    assert run.best.number == done.loc[done["val_accuracy"].idxmax(), "number"]
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    results = artifacts.read_json(other / "results.json")
    results["stages"]["search"]["best"] = {
        "params": artifacts.read_json(other / "units/trial/0007/unit.json")["params"]
    }
    write_json(other / "results.json", results)
    best = Run(other).best
    assert best is not None
    assert best.number == 7


def test_clipping_and_the_scale_are_stated_but_not_for_rounding(tmp_path: Path) -> None:
    from raydistill.data.distilled import DistilledSet

    run = fake_run(tmp_path, trials=0, nas=False)
    text = said(single.set_blocks(Run(run)))
    assert "lie outside black to white and are shown clipped" in text
    assert "Its colours end at ±" in text
    folder = run / "units/distill/final/set"
    images = DistilledSet.load(folder)
    images.pixels = images.pixels.clamp(0, 1) - 1e-7
    images.save(folder)
    assert "clipped" not in said(single.set_blocks(Run(run)))


def test_many_images_are_cut_and_it_says_so(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=0, nas=False, ipc=12)
    assert "the first 10 of 12 images of each class" in said(single.set_blocks(Run(run)))


def test_a_start_of_another_shape_is_not_subtracted(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=0, nas=False)
    other = fake_run(tmp_path, "other", trials=0, nas=False, ipc=3)
    shutil.rmtree(run / "units/distill/final/initial")
    shutil.copytree(other / "units/distill/final/initial", run / "units/distill/final/initial")
    assert "no difference to show" in said(single.set_blocks(Run(run)))


def test_a_result_taken_over_from_its_trial_says_so(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=0, nas=False)
    unit = Unit(run / "units/distill/final")
    write_json(unit.file, {**unit.read(), "taken_from": "trial/0001"})
    assert "trial/0001" in said(single.distillation_blocks(Run(run)))


def test_a_distillation_that_did_not_complete_says_so(tmp_path: Path) -> None:
    run = fake_run(tmp_path, trials=0, nas=False)
    unit = Unit(run / "units/distill/final")
    write_json(unit.file, {**unit.read(), "status": "diverged", "message": "loss 1e9 at step 7"})
    text = said(single.distillation_blocks(Run(run)))
    assert "diverged" in text
    assert "loss 1e9 at step 7" in text


def test_failed_work_is_listed_with_the_way_to_do_it(finished: Path) -> None:
    blocks = single.time_blocks(Run(finished))
    assert any(isinstance(block, Table) and block.name == "unfinished" for block in blocks)
    assert any(isinstance(block, Missing) and "--resume" in block.command for block in blocks)
