"""The charts of a search: what was tried, what mattered, how the trials went."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from raydistill.artifacts import COMPLETED, DIVERGED
from raydistill.report.figures import Curve, running_mean
from raydistill.report.style import INK, OUTCOMES, QUIET, SERIES, WIDTH, legend_handles, logarithmic, new_figure, styled
from raydistill.report.tables import pareto_rows
from raydistill.report.texts import short_names

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def search_history(trials: "pd.DataFrame", chosen: int | None) -> "Figure":
    """Validation accuracy of every trial and the best so far; trials without a value lie on the ground line.

    Args:
        trials: ``tables.trials_table``.
        chosen: number of the chosen trial, if any.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(3.4)
    ax = figure.subplots()
    rated = trials["val_accuracy"].notna()
    done = trials[rated & (trials["status"] == COMPLETED)]
    if len(done):
        best = 100 * np.maximum.accumulate(done["val_accuracy"].to_numpy(dtype=float))
        ends = [*done["number"], max(int(trials["number"].max()), int(done["number"].iloc[-1])) + 0.5]
        ax.step(ends, [*best, best[-1]], where="post", color=INK, linewidth=1.3, label="best completed so far")
    _outcomes(ax, trials, trials["number"].to_numpy(dtype=float), _ground(trials))
    for row in trials[trials["number"] == chosen].to_dict("records"):
        ax.plot(row["number"], 100 * row["val_accuracy"], **_RING, label=f"chosen: trial {chosen}")
    ax.set_xlabel("trial")
    ax.set_ylabel("validation accuracy, %")
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


_RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 13,
    "markerfacecolor": "none",
    "markeredgecolor": INK,
    "linestyle": "",
}


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
        where: dict[str, Any] = {
            "xycoords": ("axes fraction", "data"),
            "textcoords": "offset points",
            "ha": "right",
            "va": "bottom",
        }
        ax.annotate("no value", (1, ground.line), (0, 3), fontsize=7.5, color=QUIET, **where)
    for status, mark in OUTCOMES.items():
        rows = (trials["status"] == status).to_numpy()
        if rows.any():
            y = np.where(np.isfinite(values[rows]), values[rows], ground.line)
            style: dict[str, Any] = {
                "color": mark.color,
                "marker": mark.marker,
                "markersize": mark.size,
                "markeredgecolor": "white",
            }
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
        ax.annotate(
            f"{importances[name]:.2f}",
            (importances[name], y),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
    ax.set_yticks(range(len(names)), list(short_names(names).values()))
    ax.grid(visible=False, axis="y")
    ax.set_xlim(0, 1.08 * max(importances.values()))
    ax.set_xlabel("importance (share)")
    return figure


@styled
def slices(trials: "pd.DataFrame", space: Mapping[str, Mapping[str, Any]]) -> "Figure":
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
        place = _choices if distribution["kind"] == "choice" else _range
        _outcomes(ax, tried, place(ax, tried["number"].tolist(), tried[path].tolist(), distribution), _ground(trials))
        ax.set_xlabel(path.removeprefix("distill."))
    for ax in grid[:, 0]:
        ax.set_ylabel("validation accuracy, %")
    figure.legend(handles=legend_handles(OUTCOMES, trials["status"]), loc="outside upper center", ncols=len(OUTCOMES))
    return figure


def _choices(ax: "Axes", numbers: Sequence[int], values: Sequence[Any], distribution: Mapping[str, Any]) -> np.ndarray:
    """Horizontal places of a choice's values, spread by trial number so that equal ones do not hide each other."""
    names = list(dict.fromkeys([*map(str, distribution["values"]), *map(str, values)]))
    ax.set_xticks(range(len(names)), names)
    ax.set_xlim(-0.6, len(names) - 0.4)
    spread = np.array([0.618 * number % 1 - 0.5 for number in numbers])
    return np.array([names.index(str(value)) for value in values]) + 0.5 * spread


def _range(ax: "Axes", numbers: Sequence[int], values: Sequence[Any], distribution: Mapping[str, Any]) -> np.ndarray:
    """Horizontal places of numbers, on an axis that shows all that was searched."""
    low, high = min([distribution["low"], *values]), max([distribution["high"], *values])
    log = bool(distribution.get("log"))
    if high > low:
        reach = (high / low) ** 0.05 if log else 0.05 * (high - low)
        ax.set_xlim(*((low / reach, high * reach) if log else (low - reach, high + reach)))
        if log:
            logarithmic(ax, "x")
    return np.array([float(value) for value in values])


@styled
def trial_curves(
    trials: "pd.DataFrame", losses: Mapping[int, Curve], rungs: Mapping[int, Curve], chosen: int | None
) -> "Figure":
    """Every trial's loss (log scale, running mean) and its validation accuracy at the rungs, coloured by outcome.

    Args:
        trials: ``tables.trials_table``.
        losses: trial number → loss curve.
        rungs: trial number → validation accuracy, fractions.
        chosen: number of the chosen trial, if any.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(3.5)
    left, right = figure.subplots(1, 2)
    seen: set[str] = set()
    for number, status in zip(trials["number"], trials["status"], strict=True):
        mark = OUTCOMES[status]
        label = "chosen" if number == chosen else status
        style: dict[str, Any] = {
            "color": INK if number == chosen else mark.color,
            "linewidth": 2.4 if number == chosen else 1.1,
        }
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
    logarithmic(left, "y")
    left.set_title("Loss")
    left.set_ylabel("loss (log scale)")
    right.set_title("Validation accuracy at rungs")
    right.set_ylabel("validation accuracy, %")
    if seen:
        right.legend(loc="lower right")
    for ax in (left, right):
        ax.set_xlabel("iteration")
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
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
