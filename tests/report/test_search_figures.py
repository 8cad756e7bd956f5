import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from raydistill.artifacts import DIVERGED, RUNNING, units
from raydistill.report import search_figures, style, tables


@pytest.fixture(scope="module")
def trials(finished: Path) -> pd.DataFrame:
    return tables.trials_table(finished)


def labelled(ax, beginning: str):
    return next(line for line in ax.lines if str(line.get_label()).startswith(beginning))


def test_history_shows_every_trial_and_the_best_so_far(trials: pd.DataFrame) -> None:
    ax = search_figures.search_history(trials, chosen=1).axes[0]
    shown = sum(len(labelled(ax, status).get_xdata()) for status in trials["status"].unique())
    assert shown == len(trials)
    best = np.asarray(labelled(ax, "best").get_ydata())
    assert (np.diff(best) >= 0).all()
    done = trials[trials["status"] == "completed"]
    assert best[-1] == pytest.approx(100 * done["val_accuracy"].max())
    assert labelled(ax, "chosen").get_xdata() == [1]


def test_trials_without_a_value_lie_below_all_others(trials: pd.DataFrame) -> None:
    ax = search_figures.search_history(trials, chosen=None).axes[0]
    ground = labelled(ax, DIVERGED).get_ydata()[0]
    assert ground < 100 * trials["val_accuracy"].min()
    assert ax.get_ylim()[0] < ground


def test_slices_place_each_trial_at_its_setting(finished: Path, trials: pd.DataFrame) -> None:
    space = tables.read_search(finished)["space"]
    figure = search_figures.slices(trials, space)
    assert [ax.get_xlabel() for ax in figure.axes] == ["lr_img", "momentum", "init"]
    rate, momentum, init = figure.axes
    assert rate.get_xscale() == "log"
    assert momentum.get_xscale() == "linear"
    assert rate.get_xlim()[0] < 0.01 < 10 < rate.get_xlim()[1]  # all that was searched, not only what was tried
    diverged = trials[trials["status"] == DIVERGED]
    assert labelled(rate, DIVERGED).get_xdata().tolist() == diverged["distill.lr_img"].tolist()
    place = labelled(init, DIVERGED).get_xdata()[0]
    names = [label.get_text() for label in init.get_xticklabels()]
    assert names[round(place)] == diverged["distill.init"].iloc[0]


def test_settings_that_the_search_no_longer_offers_are_shown_too(trials: pd.DataFrame) -> None:
    space = {
        "distill.init": {"kind": "choice", "values": ["real"]},
        "distill.momentum": {"kind": "float", "low": 0.5, "high": 0.5},
    }
    choice, number = search_figures.slices(trials, space).axes
    assert {label.get_text() for label in choice.get_xticklabels()} == set(trials["distill.init"])
    assert number.get_xlim()[0] < trials["distill.momentum"].min()


def test_importances_are_ordered_and_shortly_named() -> None:
    ax = search_figures.importance_bars({"distill.a": 0.2, "distill.b": 0.7, "distill.c": 0.1}).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["c", "a", "b"]  # from below: the largest on top
    assert [bar.get_width() for bar in ax.patches] == [0.1, 0.2, 0.7]


def test_every_trial_has_its_curve_and_a_diverged_one_its_cross(finished: Path, trials: pd.DataFrame) -> None:
    losses = {int(unit.name): tables.curve(unit, "loss") for unit in units(finished, "trial")}
    rungs = {int(unit.name): tables.curve(unit, "val_accuracy") for unit in units(finished, "trial")}
    left, right = search_figures.trial_curves(trials, losses, rungs, chosen=1).axes
    assert left.get_yscale() == "log"
    assert len(left.lines) == len(trials) + 1
    assert labelled(right, "chosen").get_xdata().tolist() == rungs[1][0].tolist()
    assert len(right.lines) == sum(len(steps) > 0 for steps, _ in rungs.values())


def test_the_front_is_numbered(trials: pd.DataFrame) -> None:
    ax = search_figures.pareto_front(trials).axes[0]
    rows = tables.pareto_rows(trials)
    assert [text.get_text() for text in ax.texts] == [str(n) for n in trials.loc[rows, "number"]]


def test_a_search_that_has_just_begun_draws(trials: pd.DataFrame) -> None:
    begun = trials.head(1).assign(status=RUNNING, val_accuracy=math.nan, seconds=math.nan)
    space = {"distill.lr_img": {"kind": "float", "low": 0.01, "high": 10.0, "log": True}}
    for figure in (
        search_figures.search_history(begun, None),
        search_figures.slices(begun, space),
        search_figures.pareto_front(begun),
        search_figures.trial_curves(begun, {}, {}, None),
    ):
        assert style.to_png(figure).startswith(b"\x89PNG")
