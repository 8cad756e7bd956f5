import math
from pathlib import Path

import pandas as pd
import pytest

from raydistill.report import tables, texts


@pytest.mark.parametrize(("value", "text"), [(0.93421, "93.42"), (1.0, "100.00"), (math.nan, "–"), (None, "–")])
def test_percent(value: float | None, text: str) -> None:
    assert texts.percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.1 + 0.2, "0.3"), (1e-7, "1e-07"), (5, "5"), (True, "True"), (None, "–"), ("real", "real")]
)
def test_plain(value: object, text: str) -> None:
    assert texts.plain(value) == text


def test_only_a_multi_formation_distilled_set_is_labelled() -> None:
    assert texts.set_label("distilled", 1) == "distilled"
    assert texts.set_label("distilled", 2) == "distilled, factor 2 (multi-formation)"
    assert texts.set_label("random", 2) == "random"


def test_shown_accuracy_is_in_per_cent_with_every_student(finished: Path) -> None:
    frame = tables.accuracy_table(finished)
    shown = texts.shown_accuracy(frame, factor=2)
    assert shown.loc[0, "set"] == "distilled, factor 2 (multi-formation)"
    assert shown.loc[0, "accuracy %"] == f"{100 * frame.loc[0, 'mean']:.2f} ± {100 * frame.loc[0, 'std']:.2f}"
    assert shown.loc[0, "each student %"].split() == [f"{100 * run:.2f}" for run in frame.loc[0, "runs"]]
    assert shown.loc[4, "95 % interval"] == "–"
    assert "±" not in shown.loc[4, "accuracy %"]


def test_shown_trials_have_short_headings_and_drop_an_empty_column(finished: Path) -> None:
    frame = tables.trials_table(finished)
    shown = texts.shown_trials(frame)
    assert shown.columns.tolist() == [
        "trial", "status", "validation %", "iterations", "seconds", "lr_img", "momentum", "init", "message",
    ]  # fmt: skip
    assert shown.loc[5, "validation %"] == "–"
    completed = frame[frame["status"] == "completed"].reset_index(drop=True)
    assert "message" not in texts.shown_trials(completed)


def test_shown_frames_hold_texts_alone(finished: Path) -> None:
    for frame in (
        texts.shown_nas(tables.nas_table(finished)),
        texts.shown_plain(tables.stages_table(finished)),
        texts.shown_plain(pd.DataFrame({"a": [1, None], "seconds": [0.25, 1234.5]})),
    ):
        assert all(isinstance(cell, str) for cell in frame.to_numpy().ravel())
