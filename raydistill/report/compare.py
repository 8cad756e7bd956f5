"""The report on several runs: accuracies side by side, what was set differently, curves overlaid."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raydistill.artifacts import COMPLETED
from raydistill.report import figures, pictures, tables, texts
from raydistill.report.blocks import Block, Commands, Missing, Picture, Report, Section, Table, Text, command
from raydistill.report.run import INIT, Run

if TYPE_CHECKING:
    import pandas as pd


def report(paths: Sequence[Path]) -> Report:
    """The comparison of the run folders ``paths``."""
    runs = {label: Run(path) for label, path in labels(paths).items()}
    return Report(
        title=f"{len(runs)} runs compared",
        subtitle=", ".join(runs),
        facts={label: _line(run) for label, run in runs.items()},
        sections=[
            Section("accuracy", "Accuracy", accuracy_blocks(runs)),
            Section("settings", "Settings that differ", setting_blocks(runs)),
            Section("curves", "Curves", curve_blocks(runs)),
            Section("sets", "The sets", set_blocks(runs)),
            Section(
                "single", "Single reports", [Commands(tuple((k, command("report", r.path)) for k, r in runs.items()))]
            ),
        ],
    )


def labels(paths: Sequence[Path]) -> dict[str, Path]:
    """The shortest telling name of each run → its folder: its search's name, or its path where names repeat."""
    names = [str(tables.read_search(path)["name"]) for path in paths]
    return {name if names.count(name) == 1 else str(path): path for name, path in zip(names, paths, strict=True)}


def _line(run: Run) -> str:
    distill = run.distill
    factor = f", factor {run.factor} (multi-formation)" if run.factor > 1 else ""
    return (
        f"{distill['method']} on {run.search['data']['source']}, ipc {distill['ipc']}, from {INIT[distill['init']]}, "
        f"{distill['network']}, {distill['iterations']} iterations, seed {run.search['seed']}{factor}"
    )


def accuracy_blocks(runs: dict[str, Run]) -> list[Block]:
    """One row a set, network and protocol; one column a run."""
    rated = {label: run for label, run in runs.items() if not run.accuracy.empty}
    blocks: list[Block] = [
        Missing(f"{label}: no evaluation has finished yet.", run.resume())
        for label, run in runs.items()
        if label not in rated
    ]
    if rated:
        frame, shown = _side_by_side(rated)
        figure = figures.compare_accuracy({_with_factor(label, run): run.accuracy for label, run in rated.items()})
        caption = (
            "Test accuracy in per cent: mean ± standard deviation [95 % interval of the mean], number of students."
        )
        blocks += [
            Picture(
                "accuracy",
                figure,
                "Test accuracy of every set, one line a run; each panel is one network under one protocol.",
            ),
            Table("accuracy", frame, shown, caption),
            Text(
                "Every run selected its settings on its validation split and read its test set once, for its table. "
                "Numbers of different protocols, datasets or images per class are not comparable."
            ),
        ]
    return blocks


def _with_factor(label: str, run: Run) -> str:
    return f"{label}, factor {run.factor} (multi-formation)" if run.factor > 1 else label


def _side_by_side(runs: dict[str, Run]) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """(one row a run and result, for the file; one column a run, for the page)."""
    import pandas as pd

    long: list[dict[str, Any]] = []
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    for label, run in runs.items():
        for row in run.accuracy.to_dict("records"):
            long.append({"run": label, "factor": run.factor} | {str(key): value for key, value in row.items()})
            key = (row["set"], row["network"], row["protocol"])
            interval = f" [{texts.interval_text(row)}]" if row["students"] > 1 else ""
            text = f"{texts.accuracy_text(row)}{interval}, {row['students']}"
            cells.setdefault(key, {})[label] = text
    rows = [
        {"set": key[0], "network": key[1], "protocol": key[2]}
        | {_with_factor(k, r): found.get(k, "–") for k, r in runs.items()}
        for key, found in cells.items()
    ]
    return pd.DataFrame(long), pd.DataFrame(rows)


def setting_blocks(runs: dict[str, Run]) -> list[Block]:
    """What was asked of the runs differently, and what their searches chose."""
    import pandas as pd

    frame = tables.differing_settings({label: run.path for label, run in runs.items()})
    blocks: list[Block] = [
        Table("settings", frame, texts.shown_plain(frame), "Settings whose values are not the same in all runs.")
    ]
    paths = dict.fromkeys(path for run in runs.values() for path in run.space)
    if paths:
        rows = [{"setting": p, **{label: texts.plain(run.chosen.get(p)) for label, run in runs.items()}} for p in paths]
        chosen = pd.DataFrame(rows)
        blocks.append(Table("chosen", chosen, chosen, "What each search chose; – where it was not searched."))
    return blocks


def curve_blocks(runs: dict[str, Run]) -> list[Block]:
    """Losses of the final distillations and the searches' progress, overlaid."""
    losses = {label: tables.curve(run.final, "loss") for label, run in runs.items()}
    bests = {}
    for label, run in runs.items():
        done = run.trials[(run.trials["status"] == COMPLETED) & run.trials["val_accuracy"].notna()]
        bests[label] = (done["number"].to_numpy(float), np.maximum.accumulate(done["val_accuracy"].to_numpy(float)))
    caption = (
        "Losses of different methods or settings have different scales; their shape can be compared, not their height."
    )
    return [Picture("curves", figures.compare_curves(losses, bests), caption)]


def set_blocks(runs: dict[str, Run]) -> list[Block]:
    """The first image of each class of every set."""
    stored = {label: run.load("set") for label, run in runs.items()}
    blocks: list[Block] = [
        Missing(f"{label}: the set is not stored yet.", runs[label].resume())
        for label, found in stored.items()
        if found is None
    ]
    strips = [
        (_with_factor(label, runs[label]), found.pixels.numpy(), found.labels.numpy(), len(found.classes))
        for label, found in stored.items()
        if found is not None
    ]
    if strips:
        blocks.append(Picture("sets", pictures.set_strips(strips), "The first image of each class, one row a run."))
    return blocks
