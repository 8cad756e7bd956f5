"""The charts of a report, drawn with matplotlib's objects alone: no pyplot, no state outside a figure."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from raydistill.artifacts import COMPLETED, DIVERGED
from raydistill.report.style import ARMS, INK, OUTCOMES, QUIET, SERIES, WIDTH, Mark, new_figure, styled
from raydistill.report.tables import best_row, pareto_rows, set_label, short_names

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

@styled
def accuracy_dots(accuracy: "pd.DataFrame", factor: int = 1) -> "Figure":
    """Test accuracy of each set: the mean with its 95 % interval, each student a faint dot; one panel a network and protocol.

    Args:
        accuracy: ``tables.accuracy_table``.
        factor: of the distilled set (multi-formation).
    """
    panels = list(accuracy.groupby(["network", "protocol"], sort=False))
    heights = [len(rows) for _, rows in panels]
    figure = new_figure(0.42 * sum(heights) + 0.75 * len(panels) + 0.1)
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": [h + 0.6 for h in heights]})[:, 0]
    for ax, ((network, protocol), rows) in zip(axes, panels, strict=True):
        for y, row in enumerate(rows.to_dict("records")):
            _arm(ax, y, row)
        ax.set_yticks(range(len(rows)), [set_label(name, factor).replace(", ", "\n") for name in rows["set"]])
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.grid(visible=False, axis="y")
        ax.set_title(f"{network}, protocol “{protocol}”")
    axes[-1].set_xlabel("test accuracy, % (dot: mean; bar: 95 % interval of the mean; faint: single students)")
    return figure


def _arm(ax: "Axes", y: float, row: Mapping[str, object], label: bool = True) -> None:
    mark = ARMS.get(str(row["set"]), Mark(QUIET, "o"))
    low, mean, high = (100 * float(str(row[key])) for key in ("ci95_low", "mean", "ci95_high"))
    runs = [100 * value for value in row["runs"]]  # type: ignore[attr-defined]
    ax.plot([low, high], [y, y], color=mark.color, linewidth=5, alpha=0.35, solid_capstyle="butt")
    ax.plot(runs, [y] * len(runs), marker=mark.marker, linestyle="", color=mark.color, alpha=0.3, markersize=4)
    ax.plot(mean, y, marker=mark.marker, color=mark.color, markersize=mark.size + 1, markeredgecolor="white")
    if label:
        ax.annotate(f"{mean:.2f}", (mean, y), (0, 7), textcoords="offset points", ha="center", fontsize=8, color=INK)


@styled
def search_history(trials: "pd.DataFrame") -> "Figure":
    """Validation accuracy of every trial and the best so far; diverged, failed and unrated ones lie on the ground line."""
    figure = new_figure(3.4)
    ax = figure.subplots()
    rated = trials["val_accuracy"].notna()
    done = trials[rated & (trials["status"] == COMPLETED)]
    if len(done):
        best = 100 * np.maximum.accumulate(done["val_accuracy"].to_numpy(dtype=float))
        ends = [*done["number"], max(int(trials["number"].max()), int(done["number"].iloc[-1])) + 0.5]
        ax.step(ends, [*best, best[-1]], where="post", color=INK, linewidth=1.3, label="best completed so far")
    _outcomes(ax, trials, trials["number"].to_numpy(dtype=float), _ground(trials))
    chosen = best_row(trials)
    if chosen is not None:
        row = trials.loc[chosen]
        ax.plot(row["number"], 100 * row["val_accuracy"], **_RING, label=f"chosen: trial {row['number']}")
    ax.set_xlabel("trial")
    ax.set_ylabel("validation accuracy, %")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


_RING = {"marker": "o", "markersize": 13, "markerfacecolor": "none", "markeredgecolor": INK, "linestyle": ""}


class _Ground(NamedTuple):
    """Vertical limits in per cent, and the line on which trials without a value lie."""

    bottom: float
    line: float
    top: float


def _ground(trials: "pd.DataFrame") -> _Ground:
    values = 100 * trials["val_accuracy"].dropna().to_numpy(dtype=float)
    low, high = (values.min(), values.max()) if len(values) else (0.0, 100.0)
    margin = 0.1 * max(high - low, 1.0)
    line = low - 1.6 * margin
    return _Ground(low - (2.2 if len(values) < len(trials) else 1) * margin, line, high + margin)


def _outcomes(ax: "Axes", trials: "pd.DataFrame", x: np.ndarray, ground: _Ground) -> None:
    """One point a trial at (x, validation accuracy), marked by outcome; trials without a value lie on the ground line."""
    values = 100 * trials["val_accuracy"].to_numpy(dtype=float)
    if ground.line > ground.bottom:
        ax.axhline(ground.line, color=QUIET, linewidth=0.8, linestyle=":")
        where = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right", "va": "bottom"}
        ax.annotate("no value", (1, ground.line), (0, 3), fontsize=7.5, color=QUIET, **where)
    for status, mark in OUTCOMES.items():
        rows = (trials["status"] == status).to_numpy()
        if rows.any():
            y = np.where(np.isfinite(values[rows]), values[rows], ground.line)
            style = {"color": mark.color, "marker": mark.marker, "markersize": mark.size, "markeredgecolor": "white"}
            ax.plot(x[rows], y, linestyle="", label=f"{status} ({rows.sum()})", **style)
    ax.set_ylim(ground.bottom, ground.top)


@styled
def importance_bars(importances: Mapping[str, float]) -> "Figure":
    """How much of the variation of validation accuracy each setting explains; shares that add up to 1."""
    names = sorted(importances, key=lambda name: importances[name])
    figure = new_figure(0.32 * len(names) + 0.7, width=6.5)
    ax = figure.subplots()
    ax.barh(range(len(names)), [importances[name] for name in names], color=SERIES[0], height=0.6)
    for y, name in enumerate(names):
        ax.annotate(f"{importances[name]:.2f}", (importances[name], y), (4, 0), textcoords="offset points", va="center", fontsize=8.5)
    ax.set_yticks(range(len(names)), list(short_names(names).values()))
    ax.grid(visible=False, axis="y")
    ax.set_xlim(0, 1.08 * max(importances.values()))
    ax.set_xlabel("importance (share)")
    return figure


@styled
def slices(trials: "pd.DataFrame", space: Mapping[str, Mapping[str, object]]) -> "Figure":
    """Validation accuracy against each searched setting on its own, up to four panels a row.

    Args:
        trials: ``tables.trials_table``.
        space: dotted path → distribution as in ``search.json`` (``kind``, ``log``).
    """
    columns = min(4, len(space))
    rows = math.ceil(len(space) / columns)
    figure = new_figure(2.6 * rows + 0.3, width=WIDTH if columns > 2 else 3.3 * columns)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for ax in list(grid.flat)[len(space) :]:
        ax.remove()
    for ax, (path, distribution) in zip(grid.flat, space.items(), strict=False):
        tried = trials[trials[path].notna()]
        if distribution.get("kind") == "choice":
            choices = [str(value) for value in distribution["values"]]  # type: ignore[attr-defined]
            # Spread by trial number, so that equal choices do not hide each other.
            spread = (tried["number"].to_numpy(dtype=float) * 0.618) % 1 - 0.5
            x = np.array([choices.index(str(value)) for value in tried[path]]) + 0.5 * spread
            ax.set_xticks(range(len(choices)), choices)
            ax.set_xlim(-0.6, len(choices) - 0.4)
        else:
            x = tried[path].to_numpy(dtype=float)
            ax.set_xscale("log" if distribution.get("log") else "linear")
        _outcomes(ax, tried, x, _ground(trials))
        ax.set_xlabel(path.removeprefix("distill."))
    for ax in grid[:, 0]:
        ax.set_ylabel("validation accuracy, %")
    figure.legend(handles=_handles(OUTCOMES, trials["status"]), loc="outside upper center", ncols=len(OUTCOMES))
    return figure


def _handles(marks: Mapping[str, Mark], present: "pd.Series[str]") -> "list[Line2D]":
    """Legend entries for the marks that occur."""
    from matplotlib.lines import Line2D

    there = set(present)
    style = {"linestyle": "", "markeredgecolor": "white"}
    return [
        Line2D([], [], color=mark.color, marker=mark.marker, markersize=mark.size, label=name, **style)
        for name, mark in marks.items()
        if name in there
    ]


Curve = tuple[np.ndarray, np.ndarray]
"(steps [points], values [points])."


@styled
def loss_curves(parts: Mapping[str, Curve], validation: Curve | None = None) -> "Figure":
    """Losses of one distillation on a log scale, each step faint and its running mean plain; validation accuracy beside.

    Args:
        parts: name → curve; ``loss`` first.
        validation: accuracies as fractions at the rungs.
    """
    figure = new_figure(3.3)
    rated = validation is not None and len(validation[0]) > 0
    axes = figure.subplots(1, 2 if rated else 1, squeeze=False, width_ratios=[3, 2] if rated else None)[0]
    for (name, curve), color in zip(parts.items(), SERIES, strict=False):
        _loss(axes[0], curve, color, name)
    axes[0].set_yscale("log")
    axes[0].set_xlabel("iteration")
    axes[0].set_ylabel("loss (log scale)")
    axes[0].legend()
    if validation is not None and rated:
        axes[1].plot(validation[0], 100 * validation[1], marker="o", color=SERIES[0])
        axes[1].set_xlabel("iteration")
        axes[1].set_ylabel("validation accuracy at rungs, %")
    return figure


def _loss(ax: "Axes", curve: Curve, color: str, label: str | None, alpha: float = 1.0) -> None:
    steps, values = curve
    kept = values > 0  # a log scale has no place for the others
    steps, values = steps[kept], values[kept]
    window = max(1, len(values) // 40)
    if window > 1 and label is not None:
        ax.plot(steps, values, color=color, linewidth=0.6, alpha=0.3)
    ax.plot(steps, running_mean(values, window), color=color, label=label, alpha=alpha)


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of each value and the up to ``window − 1`` before it [points]."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (total[ends] - total[starts]) / (ends - starts)


@styled
def trial_curves(trials: "pd.DataFrame", losses: Mapping[int, Curve], rungs: Mapping[int, Curve]) -> "Figure":
    """Every trial's loss (log scale, running mean) and its validation accuracy at the rungs, coloured by outcome.

    Args:
        trials: ``tables.trials_table``.
        losses: trial number → loss curve.
        rungs: trial number → validation accuracy, fractions.
    """
    figure = new_figure(3.5)
    left, right = figure.subplots(1, 2)
    best = best_row(trials)
    chosen = None if best is None else int(trials.loc[best, "number"])
    seen: set[str] = set()
    for number, status in zip(trials["number"], trials["status"], strict=True):
        mark = OUTCOMES[status]
        label = "chosen" if number == chosen else status
        style = {"color": INK if number == chosen else mark.color, "linewidth": 2.4 if number == chosen else 1.1}
        style |= {"zorder": 5 if number == chosen else 2, "alpha": 1.0 if number == chosen else 0.75}
        steps, values = losses.get(number, (np.empty(0), np.empty(0)))
        kept = values > 0
        left.plot(steps[kept], running_mean(values[kept], max(1, len(values) // 40)), **style)
        if status == DIVERGED and kept.any():
            left.plot(steps[kept][-1], values[kept][-1], marker=mark.marker, color=mark.color, markersize=8, zorder=6)
        steps, values = rungs.get(number, (np.empty(0), np.empty(0)))
        if len(steps):
            name = None if label in seen else label
            right.plot(steps, 100 * values, marker=mark.marker, markersize=0.7 * mark.size, label=name, **style)
            seen.add(label)
    left.set_yscale("log")
    left.set_title("Loss")
    left.set_ylabel("loss (log scale)")
    right.set_title("Validation accuracy at rungs")
    right.set_ylabel("validation accuracy, %")
    right.legend(loc="lower right")
    for ax in (left, right):
        ax.set_xlabel("iteration")
    return figure


@styled
def pareto_front(trials: "pd.DataFrame") -> "Figure":
    """Validation accuracy against seconds; the line joins the trials that none beats in both."""
    figure = new_figure(3.6, width=7.0)
    ax = figure.subplots()
    front = trials.loc[pareto_rows(trials)]
    ax.step(front["seconds"], 100 * front["val_accuracy"], where="post", color=INK, linewidth=1.2, label="Pareto front")
    rated = trials[trials["val_accuracy"].notna() & trials["seconds"].notna()]
    _outcomes(ax, rated, rated["seconds"].to_numpy(dtype=float), _ground(rated))
    for row in front.to_dict("records"):
        point = (row["seconds"], 100 * row["val_accuracy"])
        ax.annotate(str(row["number"]), point, (5, 5), textcoords="offset points", fontsize=8)
    ax.set_xlabel("seconds of the trial")
    ax.set_ylabel("validation accuracy, %")
    ax.legend(loc="lower right")
    return figure


@styled
def nas_bars(nas: "pd.DataFrame") -> "Figure":
    """Test accuracy of each network trained on the distilled set, best on top, with its seconds."""
    figure = new_figure(0.27 * len(nas) + 0.7)
    ax = figure.subplots()
    y = np.arange(len(nas))
    ax.barh(y, 100 * nas["accuracy"], color=SERIES[0], height=0.66, alpha=0.85)
    for row, (accuracy, runs, seconds) in enumerate(zip(nas["accuracy"], nas["runs"], nas["seconds"], strict=True)):
        if len(runs) > 1:
            ax.plot([100 * value for value in runs], [row] * len(runs), "|", color=INK, markersize=7)
        text = f"{100 * accuracy:.1f} %" + ("" if math.isnan(seconds) else f"   {seconds:.1f} s")
        ax.annotate(text, (100 * max(accuracy, *runs), row), (5, 0), textcoords="offset points", va="center", fontsize=8)
    ax.set_yticks(y, list(nas["network"]))
    ax.set_ylim(len(nas) - 0.4, -0.6)
    ax.set_xlim(0, min(118, 115 * float(nas["accuracy"].max()) + 6))
    ax.grid(visible=False, axis="y")
    ax.set_xlabel("accuracy, %")
    return figure


@styled
def compare_accuracy(tables: Mapping[str, "pd.DataFrame"]) -> "Figure":
    """The arms of several runs, one line a run, one panel a network and protocol.

    Args:
        tables: run label → ``tables.accuracy_table``.
    """
    import pandas as pd

    keys = dict.fromkeys(k for frame in tables.values() for k in zip(frame["network"], frame["protocol"], strict=True))
    figure = new_figure((0.36 * len(tables) + 0.65) * len(keys) + 0.6)
    axes = figure.subplots(len(keys), 1, squeeze=False)[:, 0]
    for ax, (network, protocol) in zip(axes, keys, strict=True):
        for y, frame in enumerate(tables.values()):
            for row in frame[(frame["network"] == network) & (frame["protocol"] == protocol)].to_dict("records"):
                _arm(ax, y, row, label=row["set"] == "distilled")
        ax.set_yticks(range(len(tables)), list(tables))
        ax.set_ylim(len(tables) - 0.4, -0.6)
        ax.set_title(f"{network}, protocol “{protocol}”")
    axes[-1].set_xlabel("test accuracy, % (marker: mean; bar: 95 % interval of the mean; faint: single students)")
    present = pd.concat([frame["set"] for frame in tables.values()])
    figure.legend(handles=_handles(ARMS, present), loc="outside upper center", ncols=len(ARMS))
    return figure


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
    left.set_yscale("log")
    left.set_title("Final distillation")
    left.set_xlabel("iteration")
    left.set_ylabel("loss (log scale)")
    right.set_title("Search: best completed trial so far")
    right.set_xlabel("trial")
    right.set_ylabel("validation accuracy, %")
    left.legend()
    return figure
