"""The part of a report on the search: what was tried, what mattered, what was chosen."""

from collections.abc import Mapping
from typing import Any

from raydistill.errors import RaydistillError
from raydistill.report import search_figures, tables, texts
from raydistill.report.blocks import Block, Missing, Picture, Table, Text
from raydistill.report.run import Run
from raydistill.search.trials import trial_unit


def search_blocks(run: Run) -> list[Block]:
    """Everything about the trials; nothing here has seen the test set."""
    if not run.space:
        return [Text("Nothing was searched: the search's own settings were used as they stand.")]
    if run.trials.empty:
        return [Missing("No trial has begun yet.", run.resume())]
    chosen = None if run.best is None else run.best.number
    importances = _importances(run)
    blocks: list[Block] = [Text(_rating(run)), _chosen_table(run, importances)]
    caption = "Validation accuracy of each trial, in the order of their numbers; those without a value lie on the dotted line."
    blocks.append(Picture("search", search_figures.search_history(run.trials, chosen), caption))
    if run.search["budget"]["objectives"] == "accuracy+seconds":
        caption = "Both objectives; numbered: the trials that no other beats in accuracy and seconds."
        blocks.append(Picture("pareto", search_figures.pareto_front(run.trials), caption))
    if importances:
        caption = "How much of the variation of validation accuracy each setting explains (fANOVA, up to 1,000 completed trials)."
        blocks.append(Picture("importances", search_figures.importance_bars(importances), caption))
    else:
        blocks.append(Text("Too few completed trials that differ to say which setting mattered."))
    caption = "Validation accuracy against each searched setting alone; the others vary too."
    blocks.append(Picture("slices", search_figures.slices(run.trials, run.space), caption))
    blocks += _curves(run, chosen)
    marked = None if chosen is None else run.trials["number"].tolist().index(chosen)
    shown = texts.shown_trials(run.trials)
    blocks.append(Table("trials", run.trials, shown, "All trials; highlighted: the chosen one.", marked))
    return blocks


def _rating(run: Run) -> str:
    budget = run.search["budget"]
    students = f"{budget['students']} student" + ("s" if budget["students"] != 1 else "")
    text = (
        f"Each trial is rated on the validation split by {students} under the protocol “{budget['validation']['name']}” "
        f"({budget['validation']['epochs']} epochs); sampler {budget['sampler']}, stopping {budget['stopping']}, "
        f"{len(run.trials)} of {budget['trials']} trials begun. The test set plays no part here."
    )
    if final := run.search.get("final"):
        changed = ", ".join(f"{path} = {texts.plain(value)}" for path, value in final.items())
        text += f" The final distillation has the chosen trial's settings but {changed}."
    return text


def _curves(run: Run, chosen: int | None) -> list[Block]:
    trials = {number: trial_unit(run.path, number) for number in run.trials["number"].tolist()}
    losses = {number: tables.curve(unit, "loss") for number, unit in trials.items()}
    rungs = {number: tables.curve(unit, "val_accuracy") for number, unit in trials.items()}
    if not any(len(steps) for steps, _ in losses.values()):
        return []
    caption = "Every trial's loss (running mean) and validation accuracy at the rungs; a cross ends a diverged trial."
    return [Picture("trials", search_figures.trial_curves(run.trials, losses, rungs, chosen), caption)]


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
    caption = "The searched settings, the chosen values, and the share of the variation of accuracy that each explains."
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
    """Empty also where a search of another version is not understood: the rest of the report stands without it."""
    from raydistill.search.study import importances

    try:
        found = importances(run.path)
    except RaydistillError:
        return {}
    return found if max(found.values(), default=0) > 0 else {}
