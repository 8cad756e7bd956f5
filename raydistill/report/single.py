"""The report on one run, from its folder alone; what is not there is named together with the command that makes it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raydistill.artifacts import COMPLETED, units
from raydistill.errors import RaydistillError
from raydistill.report import figures, pictures, search_figures, tables, texts
from raydistill.report.blocks import Block, Commands, Fold, Missing, Picture, Report, Section, Table, Text, command
from raydistill.report.run import FINAL, INIT, Run
from raydistill.track.records import without_credentials

if TYPE_CHECKING:
    import pandas as pd


def report(path: Path) -> Report:
    """The whole report on the run folder ``path``."""
    run = Run(path)
    distill, source = run.distill, run.search["data"]["source"]
    return Report(
        title=run.search["name"],
        subtitle=f"{distill['method']} on {source}, {distill['ipc']} image{'s' if distill['ipc'] > 1 else ''} per class, from {INIT[distill['init']]}",
        facts=_facts(run),
        sections=[
            Section("accuracy", "Accuracy", accuracy_blocks(run)),
            Section("set", "The distilled set", set_blocks(run)),
            Section("distillation", "Final distillation", distillation_blocks(run)),
            Section("search", "Search", search_blocks(run)),
            Section("nas", "Architectures", nas_blocks(run)),
            Section("time", "Time", time_blocks(run)),
            Section("repeat", "Settings and repeating", repeat_blocks(run)),
        ],
    )


def _facts(run: Run) -> dict[str, str]:
    distill, results = run.distill, run.results
    facts: dict[str, Any] = {
        "name": run.search["name"],
        "method": distill["method"],
        "dataset": run.search["data"]["source"],
        "images per class": distill["ipc"],
        "init": INIT[distill["init"]],
        "network": distill["network"],
        "factor": f"{run.factor} (multi-formation)" if run.factor > 1 else None,
        "iterations": distill["iterations"],
        "seed": run.search["seed"],
        "run id": results.get("run_id"),
        "tracked in": without_credentials((results.get("mlflow") or {}).get("tracking_uri") or ""),
    }
    tags = {key: value for key, value in run.final.read().get("tags", {}).items() if key not in facts}
    versions = {key: value for key, value in results.get("versions", {}).items() if value}
    facts |= {key.replace("_", " "): value for key, value in tags.items()}
    facts["versions"] = ", ".join(f"{key} {value}" for key, value in versions.items())
    return {key: str(value) for key, value in facts.items() if value not in (None, "")}


def accuracy_blocks(run: Run) -> list[Block]:
    """Chart and table of the accuracies, with the protocol and how the setting was selected."""
    if run.accuracy.empty:
        return [Missing("No evaluation has finished yet, so there is no test accuracy.", run.resume())]
    evaluate = run.search["evaluate"]
    protocol = evaluate["protocol"]
    how = (
        f"Protocol “{protocol['name']}”: students trained from scratch for {protocol['epochs']} epochs, batch {protocol['batch']}, "
        f"learning rate {protocol['lr']:g}, augmentation “{protocol['augment']}”; the same for every set"
    )
    if "whole" in set(run.accuracy["set"]):
        how += f", except that whole (all training images) is trained for {evaluate['whole_epochs']} epochs"
    share = 100 * run.search["data"]["val_fraction"]
    selection = (
        f"Settings were selected on the validation split ({share:g} % of the training images); the test set was read once, for this table."
        if run.space
        else "Nothing was searched; the test set was read once, for this table."
    )
    shown = texts.shown_accuracy(run.accuracy, run.factor)
    caption = (
        "Test accuracy: mean ± standard deviation over the students, 95 % interval of the mean, and every student."
    )
    return [
        Text(_verdict(run)),
        Picture("accuracy", figures.accuracy_dots(run.accuracy, run.factor), "Test accuracy of each set."),
        Table("accuracy", run.accuracy, shown, caption, marked=_row_of(run.accuracy, "distilled")),
        Text(f"{how}. {selection}"),
    ]


def _row_of(accuracy: "pd.DataFrame", name: str) -> int | None:
    rows = np.flatnonzero(accuracy["set"] == name)
    return int(rows[0]) if len(rows) else None


def _verdict(run: Run) -> str:
    """The result in two sentences: the distilled set, and the best other set of its size under the same protocol."""
    first = run.accuracy.iloc[0]
    same = run.accuracy[(run.accuracy["network"] == first["network"]) & (run.accuracy["protocol"] == first["protocol"])]
    rows = {str(row["set"]): row for row in same.to_dict("records")}
    own = rows.get("distilled")
    if own is None:
        return "The distilled set itself has not been evaluated yet; what is here are the sets to stand beside it."
    ipc = run.distill["ipc"]
    bring = "1 distilled image per class brings" if ipc == 1 else f"{ipc} distilled images per class bring"
    text = (
        f"{bring} {own['network']} to {texts.percent(own['mean'])} % on the test set "
        f"(95 % interval {texts.interval_text(own)}, {own['students']} students)."
    )
    others = [row for name, row in rows.items() if name not in ("distilled", "whole")]
    if others:
        best = max(others, key=lambda row: row["mean"])
        gap = 100 * (own["mean"] - best["mean"])
        overlap = own["ci95_low"] <= best["ci95_high"] and best["ci95_low"] <= own["ci95_high"]
        text += (
            f" That is {abs(gap):.2f} points {'above' if gap >= 0 else 'below'} {best['set']}, the best real set of the same size "
            f"({texts.percent(best['mean'])} %); the two intervals {'overlap' if overlap else 'do not overlap'}."
        )
    if "whole" in rows:
        text += f" All training images together reach {texts.percent(rows['whole']['mean'])} %."
    if run.factor > 1:
        text += (
            f" The set is factor {run.factor} (multi-formation): each stored image holds {run.factor**2} sub-images."
        )
    return text


def set_blocks(run: Run) -> list[Block]:
    """The images by class: before, after, difference."""
    after, before = run.load("set"), run.load("initial")
    if after is None:
        return [Missing("The final distillation has not stored its set yet.", run.resume())]
    pixels = after.pixels.numpy()
    start = None if before is None or before.pixels.shape != after.pixels.shape else before.pixels.numpy()
    labels = after.labels.numpy()
    titles = (f"Before: {INIT[run.distill['init']]}", f"After {run.distill['iterations']} iterations")
    figure = pictures.image_grid(start, pixels, labels, after.classes, titles)
    notes = [
        f"{len(labels)} images, {len(after.classes)} classes{', one row a class' if len(labels) > len(after.classes) else ''}."
    ]
    if after.factor > 1:
        notes.append(
            f"factor {after.factor} (multi-formation): each stored image holds {after.factor**2} sub-images, enlarged before use."
        )
    most = int(np.bincount(labels).max())
    if most > pictures.MOST_IMAGES:
        notes.append(f"Shown are the first {pictures.MOST_IMAGES} of {most} images of each class.")
    if len(after.classes) > pictures.MOST_CLASSES:
        notes.append(f"Shown are the first {pictures.MOST_CLASSES} classes.")
    outside = float(((pixels < 0) | (pixels > 1)).mean())
    if outside > 0:
        notes.append(f"{100 * outside:.1f} % of the stored values lie outside black to white and are shown clipped.")
    if start is None:
        notes.append("The starting images are not stored with this run, so there is no difference to show.")
    else:
        scale = pictures.difference_scale((pixels - start).mean(axis=1))
        over = ", mean over channels" if pixels.shape[1] > 1 else ""
        notes.append(
            f"Difference{over}: red became brighter, blue darker, white is unchanged; black to white is 1. "
            f"The colours end at ±{scale.limit:.2g}, which 99.5 % of the values keep within; the largest is {scale.largest:.2g}."
        )
    return [Picture("distilled", figure, " ".join(notes), zoom=True)]


def distillation_blocks(run: Run) -> list[Block]:
    """Loss of the final distillation and its parts, validation accuracy at the rungs."""
    history = run.final.history()
    parts = list(dict.fromkeys(name for line in history for name in line if name.startswith("loss")))
    if not parts:
        return [Missing("The final distillation has logged nothing yet.", run.resume())]
    parts.sort(key=lambda name: name != "loss")
    curves = {name: tables.curve(run.final, name) for name in parts}
    figure = figures.loss_curves(curves, tables.curve(run.final, "val_accuracy"))
    caption = "Loss of the final distillation; plain: running mean, faint: single iterations."
    if run.final.status != COMPLETED:
        record = run.final.read()
        caption += f" Its status is {record.get('status')}" + (
            f": {record['message']}." if record.get("message") else "."
        )
    return [Picture("distillation", figure, caption)]


def search_blocks(run: Run) -> list[Block]:
    """What was tried, what mattered, what was chosen."""
    if not run.space:
        return [Text("Nothing was searched: the search's own settings were used as they stand.")]
    if run.trials.empty:
        return [Missing("No trial has begun yet.", run.resume())]
    budget = run.search["budget"]
    students = f"{budget['students']} student" + ("s" if budget["students"] != 1 else "")
    rated = (
        f"Each trial is rated on the validation split by {students} under the protocol “{budget['validation']['name']}” "
        f"({budget['validation']['epochs']} epochs); sampler {budget['sampler']}, stopping {budget['stopping']}, "
        f"{len(run.trials)} of {budget['trials']} trials begun. The test set plays no part here."
    )
    chosen = None if run.best is None else run.best.number
    importances = _importances(run)
    blocks: list[Block] = [Text(rated), _chosen_table(run, importances)]
    history = "Validation accuracy of each trial, in the order of their numbers; trials without a value lie on the dotted line."
    blocks.append(Picture("search", search_figures.search_history(run.trials, chosen), history))
    if budget["objectives"] == "accuracy+seconds":
        caption = "Both objectives; numbered: the trials that no other beats in accuracy and seconds."
        blocks.append(Picture("pareto", search_figures.pareto_front(run.trials), caption))
    if importances:
        caption = (
            "How much of the variation of validation accuracy each setting explains (fANOVA over the completed trials)."
        )
        blocks.append(Picture("importances", search_figures.importance_bars(importances), caption))
    else:
        blocks.append(Text("Too few completed trials that differ to say which setting mattered."))
    caption = "Validation accuracy against each searched setting alone; the others vary too."
    blocks.append(Picture("slices", search_figures.slices(run.trials, run.space), caption))
    named = {int(unit.name): unit for unit in units(run.path, "trial") if unit.name.isdigit()}
    losses = {number: tables.curve(unit, "loss") for number, unit in named.items()}
    rungs = {number: tables.curve(unit, "val_accuracy") for number, unit in named.items()}
    if any(len(steps) for steps, _ in losses.values()):
        caption = (
            "Every trial's loss (running mean) and its validation accuracy at the rungs; a cross ends a diverged trial."
        )
        blocks.append(Picture("trials", search_figures.trial_curves(run.trials, losses, rungs, chosen), caption))
    shown = texts.shown_trials(run.trials)
    blocks.append(Table("trials", run.trials, shown, "All trials; highlighted: the chosen one.", marked))
    return blocks


def _chosen_table(run: Run, importances: Mapping[str, float]) -> Table:
    import pandas as pd

    rows = [
        {
            "setting": path,
            "searched over": distribution_text(distribution),
            "chosen": run.chosen.get(path),
            "importance": importances.get(path),
        }
        for path, distribution in run.space.items()
    ]
    frame = pd.DataFrame(rows)
    shown = texts.shown_plain(frame)
    shown["importance"] = [f"{importances[path]:.2f}" if path in importances else "–" for path in frame["setting"]]
    caption = "The searched settings, what the final distillation uses, and the share of the variation of accuracy each explains."
    return Table("chosen", frame, shown, caption)


def distribution_text(distribution: Mapping[str, Any]) -> str:
    """A distribution of ``search.json`` in words."""
    if distribution["kind"] == "choice":
        text = ", ".join(texts.plain(value) for value in distribution["values"])
    else:
        text = f"{texts.plain(distribution['low'])} … {texts.plain(distribution['high'])}"
        text += " (logarithmic)" if distribution.get("log") else ""
    when = distribution.get("when")
    return text + (f", while {when['path']} is {' or '.join(map(texts.plain, when['values']))}" if when else "")


def _importances(run: Run) -> dict[str, float]:
    """Empty also where an older or foreign search is no longer understood: the rest of the report stands without it."""
    from raydistill.search.study import importances

    try:
        found = importances(run.path)
    except RaydistillError:
        return {}
    return found if max(found.values(), default=0) > 0 else {}


def nas_blocks(run: Run) -> list[Block]:
    """The networks of the grid, trained on the distilled set."""
    nas = tables.nas_table(run.path)
    config = run.search.get("nas")
    if nas.empty and config is None:
        again = command("run", run.path / "search.json", "--set", "nas={}", "--out", run.path.parent, "--resume")
        return [Missing("Ranking architectures is not part of this search.", again)]
    if nas.empty:
        return [Missing("No architecture has been trained on the set yet.", run.resume())]
    protocol = (config or {}).get("protocol", {})
    students = (config or {}).get("students", 1)
    each = f"{students} student{'s' if students != 1 else ''} each"
    trained = f"protocol “{protocol.get('name', '?')}” ({protocol.get('epochs', '?')} epochs), {each}"
    label = texts.set_label("distilled set", run.factor)
    blocks: list[Block] = [
        Picture("nas", figures.nas_bars(nas), f"Accuracy of each architecture trained on the {label}; {trained}."),
        Table(
            "nas", nas, texts.shown_nas(nas), f"Architectures trained on the {label}, best first; {trained}.", marked=0
        ),
    ]
    stage = run.results.get("stages", {}).get("nas") or {}
    ranks = [
        f"{name.capitalize()} {stage[name]:.2f}"
        for name in ("spearman", "kendall")
        if isinstance(stage.get(name), float)
    ]
    if ranks:
        blocks.append(Text(f"Correlation with the ranking on all training images: {', '.join(ranks)}."))
    return blocks


def time_blocks(run: Run) -> list[Block]:
    """Seconds per stage, and the units that are not finished."""
    stages = tables.stages_table(run.path)
    blocks: list[Block] = []
    if stages.empty:
        blocks.append(Missing("results.json is not there or holds no stage yet.", run.resume()))
    else:
        blocks.append(Table("stages", stages, texts.shown_plain(stages), "Wall-clock seconds of each stage."))
    left = tables.unfinished_table(run.path)
    if left.empty:
        blocks.append(Text("No unit of work is left running or failed."))
    else:
        blocks.append(Table("unfinished", left, texts.shown_plain(left), "Units of work still running or failed."))
        blocks.append(Missing("What is not finished is done, and nothing else again, by", run.resume()))
    return blocks


def repeat_blocks(run: Run) -> list[Block]:
    """Every setting, and the command lines."""
    distilled = run.path / FINAL / "set"
    lines = (
        (
            "the same search from its stored settings, into a new folder",
            command("run", run.path / "search.json", "--out", "again"),
        ),
        ("this report again", command("report", run.path)),
        ("the set's worth for another network", command("evaluate", distilled, "--network", "AlexNet")),
        ("the images for other programs", command("export", distilled, "--to", "imagefolder")),
    )
    settings = json.dumps(run.search, indent=2, ensure_ascii=False)
    return [Commands(lines), Fold("All settings of the search (search.json)", settings)]
