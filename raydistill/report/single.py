"""The report on one run, from its folder alone; what is not there is named together with the command that makes it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raydistill.artifacts import COMPLETED
from raydistill.data.distilled import DistilledSet
from raydistill.errors import without_credentials
from raydistill.report import figures, pictures, tables, texts
from raydistill.report.blocks import Block, Commands, Fold, Missing, Picture, Report, Section, Table, Text, command
from raydistill.report.expert_blocks import expert_blocks, matching_blocks
from raydistill.report.nas_blocks import nas_blocks
from raydistill.report.run import INIT, Run
from raydistill.report.search_blocks import search_blocks

if TYPE_CHECKING:
    import pandas as pd

STAGE_SECONDS = (
    "Experts and search: on the wall. The others: of their pieces together, however many ran at once; "
    "for nas of the trainings on the distilled set."
)

HALF_LEVEL = 0.5 / 255
"Of 8-bit grey: values no farther outside black to white are rounding, not meant."


def report(path: Path) -> Report:
    """The whole report on the run folder ``path``."""
    run = Run(path)
    distill, source = run.distill, run.search["data"]["source"]
    images = "1 image" if distill["ipc"] == 1 else f"{distill['ipc']} images"
    return Report(
        title=run.search["name"],
        subtitle=f"{distill['method']} on {source}, {images} per class, from {INIT[distill['init']]}",
        facts=_facts(run),
        sections=[
            Section("accuracy", "Accuracy", accuracy_blocks(run)),
            Section("set", "The distilled set", set_blocks(run)),
            *([Section("experts", "Experts", expert_blocks(run))] if "experts" in run.search["distill"] else []),
            Section("distillation", "Final distillation", [*distillation_blocks(run), *matching_blocks(run)]),
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
        "machine": results.get("machine"),
        "tracked in": without_credentials((results.get("mlflow") or {}).get("tracking_uri") or ""),
        "git commit": results.get("git_commit"),
        "versions": ", ".join(f"{key} {value}" for key, value in results.get("versions", {}).items()),
    }
    return {key: str(value) for key, value in facts.items() if value not in (None, "")}


def accuracy_blocks(run: Run) -> list[Block]:
    """Chart and table of the accuracies, with the protocol and how the setting was selected."""
    if run.accuracy.empty:
        return [Missing("No evaluation has finished yet, so there is no test accuracy.", run.resume())]
    shown = texts.shown_accuracy(run.accuracy, run.factor)
    caption = "Test accuracy: mean ± standard deviation of the students, 95 % interval of the mean, every student."
    return [
        Text(_verdict(run)),
        Picture("accuracy", figures.accuracy_dots(run.accuracy, run.factor), "Test accuracy of each set."),
        Table("accuracy", run.accuracy, shown, caption, marked=_row_of(run.accuracy, "distilled")),
        Text(_how(run)),
    ]


def _how(run: Run) -> str:
    """Protocol, draws and selection: what a reader must know to compare the numbers with others."""
    evaluate, there = run.search["evaluate"], set(run.accuracy["set"])
    protocol = evaluate["protocol"]
    text = (
        f"Protocol “{protocol['name']}”: students trained from scratch for {protocol['epochs']} epochs (one pass "
        "more, as in the released codes), "
        f"batch {protocol['batch']}, learning rate {protocol['lr']:g}, augmentation “{protocol['augment']}”; "
        "the same for every set"
    )
    learned = run.load("set")
    if learned is not None and learned.student_lr is not None:
        labels = "their hard labels" if learned.logits is None else "their soft labels"
        text += (
            f", but distilled and initial with {labels} and their own learned rate (distilled {learned.student_lr:.3g})"
        )
    if "whole" in there:
        text += f", but whole (all training images) for {texts.counted(evaluate['whole_epochs'], 'epoch')}"
    for name, table in evaluate.get("also", {}).items():
        chosen = (
            f", rate chosen of {', '.join(f'{r:g}' for r in table['rates'])} by validation" if table["rates"] else ""
        )
        about = f"{table['protocol']['epochs']} epochs, {table['labels']} labels{chosen}"
        text += f". Table “{name}” has protocol “{table['protocol']['name']}” ({about})"
    if "random" in there:
        text += ". Each student of random has a draw of its own"
    if not run.space:
        return text + ". Nothing was searched; the test set was read once, for this table."
    share = 100 * run.search["data"]["val_fraction"]
    return (
        text + f". Settings were selected on the validation split ({share:g} % of the training images); "
        "the test set was read once, for this table."
    )


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
    text = f"{bring} {own['network']} to {texts.percent(own['mean'])} % on the test set ({_certainty(own)})."
    others = [row for name, row in rows.items() if name not in ("distilled", "whole")]
    if others:
        best = max(others, key=lambda row: row["mean"])
        gap = 100 * (own["mean"] - best["mean"])
        side = "above" if gap >= 0 else "below"
        text += (
            f" That is {abs(gap):.2f} points {side} {best['set']}, the best other set of the same size "
            f"({texts.percent(best['mean'])} %){_overlap(own, best)}."
        )
    if "whole" in rows:
        text += f" All training images together reach {texts.percent(rows['whole']['mean'])} %."
    if run.factor > 1:
        text += (
            f" The set is factor {run.factor} (multi-formation): each stored image holds {run.factor**2} sub-images."
        )
    return text


def _certainty(row: Mapping[Any, Any]) -> str:
    if row["students"] == 1:
        return "1 student"
    return f"95 % interval {texts.interval_text(row)}, {row['students']} students"


def _overlap(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> str:
    if math.isnan(one["ci95_low"]) or math.isnan(other["ci95_low"]):
        return ""
    overlap = one["ci95_low"] <= other["ci95_high"] and other["ci95_low"] <= one["ci95_high"]
    return "; the two intervals " + ("overlap" if overlap else "do not overlap")


def set_blocks(run: Run) -> list[Block]:
    """The images by class: before, after, difference."""
    after, before = run.load("set"), run.load("initial")
    if after is None:
        return [Missing("The final distillation has not stored its set yet.", run.resume())]
    pixels = after.pixels.numpy()
    start = None if before is None or before.pixels.shape != after.pixels.shape else before.pixels.numpy()
    labels = after.labels.numpy()
    titles = (
        f"Before: {INIT[run.distill['init']]}",
        f"After {after.manifest.get('step', run.distill['iterations'])} iterations",
    )
    figure = pictures.image_grid(start, pixels, labels, after.classes, titles)
    return [Picture("distilled", figure, " ".join(_set_notes(after, start)), zoom=True)]


def _set_notes(images: DistilledSet, start: np.ndarray | None) -> list[str]:
    """What must be known to read the picture: what is left out, clipped, scaled."""
    pixels, count = images.pixels.numpy(), len(images.classes)
    notes = [f"{len(pixels)} images, {count} classes{', one row a class' if len(pixels) > count else ''}."]
    if images.factor > 1:
        holds = f"each stored image holds {images.factor**2} sub-images, enlarged before use"
        notes.append(f"It is factor {images.factor} (multi-formation): {holds}.")
    most = int(np.bincount(images.labels.numpy()).max())
    if most > pictures.MOST_IMAGES:
        notes.append(f"Shown are the first {pictures.MOST_IMAGES} of {most} images of each class.")
    if count > pictures.MOST_CLASSES:
        notes.append(f"Shown are the first {pictures.MOST_CLASSES} classes.")
    outside = float((np.abs(pixels - 0.5) > 0.5 + HALF_LEVEL).mean())
    if outside > 0:
        notes.append(f"{100 * outside:.1f} % of the stored values lie outside black to white and are shown clipped.")
    if start is None:
        return [*notes, "The starting images are not stored with this run, so there is no difference to show."]
    scale = pictures.shown_scale(start, pixels, images.labels.numpy(), count)
    over = ", mean over channels" if pixels.shape[1] > 1 else ""
    return [
        *notes,
        f"Difference{over}: red became brighter, blue darker, white is unchanged; black to white is 1.",
        f"Its colours end at ±{scale.limit:.2g}, which 99.5 % of the values keep within;",
        f"the largest is {scale.largest:.2g}.",
    ]


def distillation_blocks(run: Run) -> list[Block]:
    """Loss of the final distillation and its parts, validation accuracy at the rungs."""
    history = run.final.history()
    parts = list(dict.fromkeys(name for line in history for name in line if name.startswith("loss")))
    record = run.final.read()
    if not parts:
        return [Missing(record.get("message") or "The final distillation has logged nothing yet.", run.resume())]
    parts.sort(key=lambda name: name != "loss")
    curves = {name: tables.curve(run.final, name) for name in parts}
    figure = figures.loss_curves(curves, tables.curve(run.final, "val_accuracy"))
    caption = "Loss of the final distillation; plain: running mean, faint: every logged iteration."
    if source := record.get("taken_from"):
        caption += f" The chosen trial ({source}) had computed exactly this; its result was taken over."
    if record.get("status") != COMPLETED:
        caption += f" Its status is {record.get('status')}."
    if message := record.get("message"):
        caption += f" What came of it: {message}."
    return [Picture("distillation", figure, caption)]


def time_blocks(run: Run) -> list[Block]:
    """Seconds per stage, and the units that are not finished."""
    stages = tables.stages_table(run.path)
    blocks: list[Block] = []
    if stages.empty:
        blocks.append(Missing("results.json is not there or holds no stage yet.", run.resume()))
    else:
        blocks.append(Table("stages", stages, texts.shown_plain(stages), STAGE_SECONDS))
    left = tables.unfinished_table(run.path)
    if left.empty:
        blocks.append(Text("No unit of work is left running or failed."))
    else:
        blocks.append(Table("unfinished", left, texts.shown_plain(left), "Units of work still running or failed."))
        blocks.append(Missing("This does what is not finished, and nothing twice:", run.resume()))
    return blocks


def repeat_blocks(run: Run) -> list[Block]:
    """Every setting, and the command lines."""
    again = command("run", run.path / "search.json", "--out", "again")
    lines = (
        ("the same search from its stored settings, into a new folder", again),
        ("this report again", command("report", run.path)),
        ("the set's worth for another network", command("evaluate", run.path, "--network", "AlexNet")),
        ("the images for other programs", command("export", run.path, "--to", "imagefolder")),
    )
    settings = json.dumps(run.search, indent=2, ensure_ascii=False)
    return [Commands(lines), Fold("All settings of the search (search.json)", settings)]
