"""The charts of a report, drawn with matplotlib's objects alone: no pyplot, no state outside a figure."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from raydistill.report.style import ARMS, INK, QUIET, SERIES, Mark, legend_handles, logarithmic, new_figure, styled
from raydistill.report.tables import SETS
from raydistill.report.texts import set_label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Curve = tuple[np.ndarray, np.ndarray]
"(steps [points], values [points])."


@styled
def accuracy_dots(accuracy: "pd.DataFrame", factor: int = 1) -> "Figure":
    """Test accuracy of each set: mean, 95 % interval, each student faint; one panel a network and protocol.

    Args:
        accuracy: ``tables.accuracy_table``.
        factor: of the distilled set (multi-formation).
    """
    panels = list(accuracy.groupby(["network", "protocol"], sort=False))
    heights = [len(rows) for _, rows in panels]
    figure = new_figure(0.42 * sum(heights) + 0.75 * len(panels) + 0.1)
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": [h + 0.6 for h in heights]})[
        :, 0
    ]
    for ax, ((network, protocol), rows) in zip(axes, panels, strict=True):
        for y, row in enumerate(rows.to_dict("records")):
            _arm(ax, y, row)
        ax.set_yticks(range(len(rows)), [set_label(name, factor).replace(", ", "\n") for name in rows["set"]])
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.grid(visible=False, axis="y")
        ax.set_title(f"{network}, protocol “{protocol}”")
    axes[-1].set_xlabel("test accuracy, % (dot: mean; bar: 95 % interval of the mean; faint: single students)")
    return figure


def _arm(ax: "Axes", y: float, row: Mapping[Any, Any], label: bool = True) -> None:
    mark = ARMS.get(str(row["set"]), Mark(QUIET, "o"))
    low, mean, high = (100 * row[key] for key in ("ci95_low", "mean", "ci95_high"))
    runs = [100 * value for value in row["runs"]]
    ax.plot([low, high], [y, y], color=mark.color, linewidth=5, alpha=0.35, solid_capstyle="butt")
    ax.plot(runs, [y] * len(runs), marker=mark.marker, linestyle="", color=mark.color, alpha=0.3, markersize=4)
    ax.plot(mean, y, marker=mark.marker, color=mark.color, markersize=mark.size + 1, markeredgecolor="white")
    if label:
        ax.annotate(f"{mean:.2f}", (mean, y), (0, 7), textcoords="offset points", ha="center", fontsize=8, color=INK)


@styled
def loss_curves(parts: Mapping[str, Curve], validation: Curve | None = None) -> "Figure":
    """Losses of one distillation on a log scale, each step faint and its running mean plain; validation accuracy beside.

    Args:
        parts: name → curve; ``loss`` first.
        validation: accuracies as fractions at the rungs.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(3.3)
    rated = validation is not None and len(validation[0]) > 0
    axes = figure.subplots(1, 2 if rated else 1, squeeze=False, width_ratios=[3, 2] if rated else None)[0]
    for (name, curve), color in zip(parts.items(), SERIES, strict=False):
        _loss(axes[0], curve, color, name)
    logarithmic(axes[0], "y")
    axes[0].set_xlabel("iteration")
    axes[0].set_ylabel("loss (log scale)")
    axes[0].legend()
    if validation is not None and rated:
        axes[1].plot(validation[0], 100 * validation[1], marker="o", color=SERIES[0])
        axes[1].set_xlabel("iteration")
        axes[1].set_ylabel("validation accuracy at rungs, %")
        axes[1].xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    return figure


def _loss(ax: "Axes", curve: Curve, color: str, label: str) -> None:
    steps, values = curve
    kept = values > 0  # a log scale has no place for the others
    steps, values = steps[kept], values[kept]
    window = max(1, len(values) // 40)
    if window > 1:
        ax.plot(steps, values, color=color, linewidth=0.6, alpha=0.3)
    ax.plot(steps, running_mean(values, window), color=color, label=label)


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of each value and the up to ``window − 1`` before it [points]."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    mean: np.ndarray = (total[ends] - total[starts]) / (ends - starts)
    return mean


@styled
def compare_accuracy(tables: Mapping[str, "pd.DataFrame"]) -> "Figure":
    """The arms of several runs, one line a run, one panel a network and protocol.

    Args:
        tables: run label → ``tables.accuracy_table``.
    """
    import pandas as pd

    keys = dict.fromkeys(k for frame in tables.values() for k in zip(frame["network"], frame["protocol"], strict=True))
    figure = new_figure((0.62 * len(tables) + 0.65) * len(keys) + 0.6)
    axes = figure.subplots(len(keys), 1, squeeze=False)[:, 0]
    for ax, (network, protocol) in zip(axes, keys, strict=True):
        for y, frame in enumerate(tables.values()):
            for row in frame[(frame["network"] == network) & (frame["protocol"] == protocol)].to_dict("records"):
                _arm(ax, y + _offset(row["set"]), row, label=row["set"] == "distilled")
        ax.set_yticks(range(len(tables)), [label.replace(", ", "\n") for label in tables])
        for y in range(1, len(tables)):
            ax.axhline(y - 0.5, color=QUIET, linewidth=0.6)
        ax.grid(visible=False, axis="y")
        ax.set_ylim(len(tables) - 0.5, -0.5)
        ax.set_title(f"{network}, protocol “{protocol}”")
    axes[-1].set_xlabel("test accuracy, % (marker: mean; bar: 95 % interval of the mean; faint: single students)")
    present = pd.concat([frame["set"] for frame in tables.values()])
    figure.legend(handles=legend_handles(ARMS, present), loc="outside upper center", ncols=len(ARMS))
    return figure


def _offset(name: str) -> float:
    """Arms of one run lie under each other, so that none hides another."""
    return 0.15 * (SETS.index(name) - 2) + 0.04 if name in SETS else 0.34


@styled
def compare_curves(losses: Mapping[str, Curve], bests: Mapping[str, Curve]) -> "Figure":
    """Several runs overlaid: loss of the final distillation, and the search's best validation accuracy so far.

    Args:
        losses: run label → loss curve.
        bests: run label → (trial numbers, best completed so far as fractions).
    """
    figure = new_figure(3.6)
    left, right = figure.subplots(1, 2)
    for position, (label, curve) in enumerate(losses.items()):
        color = SERIES[position % len(SERIES)]
        _loss(left, curve, color, label)
        if len(bests[label][0]):
            numbers, values = bests[label]
            right.step(numbers, 100 * values, where="post", color=color, marker="o", markersize=4, label=label)
    logarithmic(left, "y")
    left.set_title("Final distillation")
    left.set_xlabel("iteration")
    left.set_ylabel("loss (log scale)")
    right.set_title("Search: best completed trial so far")
    right.set_xlabel("trial")
    right.set_ylabel("validation accuracy, %")
    if any(len(steps) for steps, _ in losses.values()):
        left.legend()
    return figure
