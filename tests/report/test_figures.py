import matplotlib
import numpy as np
import pandas as pd
import pytest

from raydistill.report import figures, style, tables
from tests.report.fake import fake_run


def test_every_arm_has_its_mean_interval_and_students(finished) -> None:
    accuracy = tables.accuracy_table(finished)
    ax = figures.accuracy_dots(accuracy).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == accuracy["set"].tolist()
    drawn = [line.get_xdata() for line in ax.lines]
    for row in accuracy.to_dict("records"):
        assert any(np.allclose(x, 100 * row["mean"]) for x in drawn if len(x) == 1)
        assert any(len(x) == len(row["runs"]) and np.allclose(x, 100 * np.array(row["runs"])) for x in drawn)
        if row["students"] > 1:
            assert any(len(x) == 2 and np.allclose(x, [100 * row["ci95_low"], 100 * row["ci95_high"]]) for x in drawn)


def test_one_panel_a_network_and_the_factor_is_said(tmp_path) -> None:
    accuracy = tables.accuracy_table(fake_run(tmp_path, networks=("ConvNetD3", "AlexNet"), trials=0, nas=False))
    axes = figures.accuracy_dots(accuracy, factor=2).axes
    assert [ax.get_title(loc="left") for ax in axes] == ["ConvNetD3, protocol “field”", "AlexNet, protocol “field”"]
    assert "factor 2 (multi-formation)" in axes[0].get_yticklabels()[0].get_text()


@pytest.mark.parametrize("window", [1, 3, 50])
def test_running_mean_is_the_mean_of_what_came_before(window: int) -> None:
    values = np.random.default_rng(0).uniform(0, 1, 20)
    expected = [values[max(0, i - window + 1) : i + 1].mean() for i in range(20)]
    assert np.allclose(figures.running_mean(values, window), expected)


def test_losses_are_drawn_on_a_log_axis_without_what_it_cannot_show() -> None:
    steps = np.arange(1, 6.0)
    figure = figures.loss_curves({"loss": (steps, np.array([4, 0, -1, 2, 1.0]))}, (np.array([5.0]), np.array([0.9])))
    left, right = figure.axes
    assert left.get_yscale() == "log"
    assert left.lines[0].get_xdata().tolist() == [1, 4, 5]
    assert right.lines[0].get_ydata().tolist() == [90]
    assert len(figures.loss_curves({"loss": (steps, steps)}).axes) == 1


def test_runs_are_compared_panel_by_panel(finished) -> None:
    accuracy = tables.accuracy_table(finished)
    other = accuracy.assign(network="AlexNet")
    axes = figures.compare_accuracy({"a": accuracy, "b": other}).axes
    assert [ax.get_title(loc="left") for ax in axes] == ["ConvNetD3, protocol “field”", "AlexNet, protocol “field”"]
    for ax in axes:
        assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_curves_of_runs_lie_over_each_other() -> None:
    curve = (np.arange(1, 9.0), np.arange(9, 1, -1.0))
    none = (np.empty(0), np.empty(0))
    left, right = figures.compare_curves({"a": curve, "b": curve}, {"a": curve, "b": none}).axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["a", "b"]
    assert len(right.lines) == 1


def test_equal_figures_give_equal_bytes_and_no_state_is_left(finished) -> None:
    accuracy = tables.accuracy_table(finished)
    before = dict(matplotlib.rcParams)
    first = style.to_png(figures.accuracy_dots(accuracy))
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "figure.facecolor": "black"}):
        second = style.to_png(figures.accuracy_dots(accuracy))
    assert first == second
    assert b"Software" not in first
    assert dict(matplotlib.rcParams) == before


def test_empty_and_single_tables_draw() -> None:
    one = pd.DataFrame(
        [{"set": "distilled", "network": "MLP", "protocol": "fast", "students": 1, "mean": 0.5, "std": np.nan}
         | {"ci95_low": np.nan, "ci95_high": np.nan, "runs": (0.5,)}]
    )  # fmt: skip
    assert style.to_png(figures.accuracy_dots(one)).startswith(b"\x89PNG")
