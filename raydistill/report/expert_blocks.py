"""Expert trajectories and their matching, as a run's units tell them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from raydistill.artifacts import units
from raydistill.experts.curriculum import CurriculumConfig
from raydistill.experts.trajectory import JUDGED_ON
from raydistill.report import tables
from raydistill.report.blocks import Block, Missing, Picture, Text, command
from raydistill.report.run import Run
from raydistill.report.style import SERIES, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = tuple[np.ndarray, np.ndarray]
ERRORS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 90)
"Ticks of an axis of errors, in per cent."
LEAST = 0.05
"Where none of a thousand images is wrong, for a logarithm."
SHARES_OF = 10_000
"Images of the class whose share seen is drawn: enough for a smooth line."

MATCHING = {
    "syn_lr": "student's rate",
    "label_entropy": "entropy of the soft labels, nats",
    "start_epoch": "start epoch",
}


def expert_blocks(run: Run) -> list[Block]:
    """Accuracy and loss of every expert over its epochs, and what it was shown, for a method that has experts."""
    found = list(units(run.path, "experts"))
    if not found:
        return [Missing("This run has no record of its experts yet.", command("experts", run.path / "search.json"))]
    accuracies = [tables.curve(unit, "accuracy") for unit in found]
    losses = [tables.curve(unit, "loss") for unit in found]
    settings = run.search["distill"]["experts"]
    given = settings.get("curriculum")
    curriculum = None if given is None else CurriculumConfig.parse(given)
    last = [100 * values[-1] for _, values in accuracies if len(values)]
    blocks: list[Block] = [
        Picture("experts", _expert_curves(accuracies, losses, curriculum), "Every expert over its epochs."),
    ]
    if last:
        epoch = "a pass" if settings["epoch_steps"] is None else f"{settings['epoch_steps']} steps"
        blocks.append(
            Text(
                f"{len(found)} experts, an epoch is {epoch}; at their end they classify {np.mean(last):.1f} % of the validation "
                f"images right that they are judged on, {JUDGED_ON:,} at most ({min(last):.1f} to {max(last):.1f})."
            )
        )
    return blocks


def matching_blocks(run: Run) -> list[Block]:
    """Rate, label entropy and start epochs of a matching distillation; nothing for other methods."""
    curves = {label: tables.curve(run.final, name) for name, label in MATCHING.items()}
    curves = {label: curve for label, curve in curves.items() if len(curve[0])}
    if not curves:
        return []
    steps, skipped = tables.curve(run.final, "skipped")
    text = f"{int(skipped[-1])} of {int(steps[-1])} steps were skipped: their loss was above the threshold "
    text += f"{run.distill['threshold']:g}, or no number."
    return [Picture("matching", _matching_curves(curves), "What is learned beside the images."), Text(text)]


@styled
def _expert_curves(accuracies: list[Curve], losses: list[Curve], curriculum: CurriculumConfig | None) -> "Figure":
    from matplotlib.ticker import FixedLocator, MaxNLocator

    figure = new_figure(3.0)
    axes = figure.subplots(1, 2 if curriculum is None else 3)
    for epochs, values in accuracies:
        axes[0].plot(epochs, np.maximum(100 * (1 - values), LEAST), color=SERIES[0], alpha=0.5)
    for epochs, values in losses:
        axes[1].plot(epochs, values, color=SERIES[1], alpha=0.5)
    axes[0].set_yscale("log")  # all of them are above 90 % soon, and what they differ in lies there
    axes[0].yaxis.set_major_locator(FixedLocator(ERRORS))
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].minorticks_off()
    axes[0].set_ylabel("validation error, %")
    axes[1].set_ylabel("training loss, mean of the epoch")
    if curriculum is not None:
        epochs = np.arange(max((int(epochs[-1]) for epochs, _ in accuracies if len(epochs)), default=0))
        ranks = np.array([curriculum.ranks(int(epoch), SHARES_OF) for epoch in epochs]) / SHARES_OF
        axes[2].fill_between(epochs, 100 * ranks[:, 0], 100 * ranks[:, 1], step="mid", alpha=0.4, color=SERIES[2])
        axes[2].set_ylabel("images seen, % from easy to hard")
        axes[2].set_ylim(0, 100)
    for ax in axes:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("epoch")
    return figure


@styled
def _matching_curves(curves: dict[str, Curve]) -> "Figure":
    figure = new_figure(2.6)
    axes: Any = figure.subplots(1, len(curves), squeeze=False)[0]
    for ax, (label, (steps, values)), color in zip(axes, curves.items(), SERIES, strict=False):
        whole = label == MATCHING["start_epoch"]
        ax.plot(steps, values, color=color, linestyle="" if whole else "-", marker="." if whole else "")
        ax.set_xlabel("iteration")
        ax.set_ylabel(label)
    return figure
