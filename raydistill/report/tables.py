"""The tables of a report, read from the units of a run folder: one row a result, accuracies as fractions.

Frames hold plain values, as they go into CSV files; ``texts`` turns them into what people read.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raydistill import artifacts
from raydistill.artifacts import COMPLETED, FAILED, RUNNING, Unit, units
from raydistill.config import flatten
from raydistill.evaluate import arms
from raydistill.evaluate.scores import by_class, possible
from raydistill.nas.summary import rated
from raydistill.report.texts import shown_accuracy
from raydistill.search.trials import read_trials

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

SETS = ("distilled", "initial", "random", "herding", "kcenter", "whole")
"The arms of the comparison, in the order in which they are shown."

ACCURACY = ["set", "network", "protocol", "epochs", "students", "mean", "std", "ci95_low", "ci95_high", "runs"]
TRIALS = ["number", "status", "val_accuracy", "iterations", "seconds"]
NAS = ["rank", "network", "accuracy", "runs", "seconds"]


def read_search(run: Path) -> dict[str, Any]:
    """The resolved search of a run folder as plain JSON values.

    Raises:
        ArtifactError: not a run folder.
    """
    return artifacts.read_json(run / "search.json")


def read_results(run: Path) -> dict[str, Any]:
    """``results.json`` of a run folder, or ``{}`` while there is none."""
    return artifacts.read_json(run / "results.json") if (run / "results.json").exists() else {}


def accuracy_table(run: Path) -> "pd.DataFrame":
    """What each set is worth: one row a set, network and protocol.

    Returns:
        Columns ``ACCURACY`` (fractions; ``runs`` is a tuple with one accuracy a student), then of two classes
        ``balanced_accuracy``, ``auc``, ``recall NAME`` of each class and ``majority_rate``, then ``seconds``.
    """
    import pandas as pd

    rows, extras = [], dict[str, None]()
    for unit in arms.rated(run):
        record = unit.read()
        if record.get("status") != COMPLETED:
            continue
        metrics = record["metrics"]
        row = {key: record[key] for key in ("set", "network", "protocol", "epochs", "students")}
        row["mean"] = metrics["accuracy_mean"]
        # One student alone has neither spread nor interval.
        row["std"] = _number(metrics["accuracy_std"] if row["students"] > 1 else None)
        row["ci95_low"], row["ci95_high"] = possible(*(_number(metrics.get(f"ci95_{end}")) for end in ("low", "high")))
        row["runs"] = tuple(record["runs"])
        of_two = by_class(metrics, record.get("classes", ()))
        extras |= dict.fromkeys(of_two)
        rows.append({**row, **of_two, "seconds": _seconds(record)})
    own, main = arms.distilled_with(run).get("network"), read_search(run)["evaluate"]["protocol"]["name"]
    rows.sort(
        key=lambda r: (r["network"] != own, r["network"], r["protocol"] != main, r["protocol"], _place_of(r["set"]))
    )
    return pd.DataFrame(rows, columns=[*ACCURACY, *extras, "seconds"])


def trials_table(run: Path) -> "pd.DataFrame":
    """Every trial of the search: columns ``TRIALS``, one a searched setting (its full dotted path), ``message``.

    ``val_accuracy`` is a fraction of the validation split; NaN for trials that ended, or stand, without one.
    """
    import pandas as pd

    records = read_trials(run)
    columns: dict[str, Any] = {
        "number": [record.number for record in records],
        "status": [record.status for record in records],
        "val_accuracy": [_number(record.val_accuracy) for record in records],
        "iterations": [record.iterations or max(record.values, default=0) for record in records],
        "seconds": [_number(record.seconds) for record in records],
    }
    for path in read_search(run).get("space", {}):
        # As objects: a whole number stays one beside trials that do not have the setting.
        columns[path] = pd.Series([record.params.get(path) for record in records], dtype=object)
    return pd.DataFrame(columns | {"message": [record.message for record in records]})


def nas_table(run: Path) -> "pd.DataFrame":
    """The networks trained on the distilled set, best first: columns ``NAS``, and of two classes what ``by_class`` names."""
    import pandas as pd

    rows = [
        {"network": name, "accuracy": one.accuracy, "runs": one.runs, "seconds": one.seconds, **one.beside}
        for one in rated(run, "distilled")
        for name in sorted(one.names)
    ]
    extras = dict.fromkeys(name for row in rows for name in row if name not in NAS)
    return pd.DataFrame([{"rank": i + 1, **row} for i, row in enumerate(rows)], columns=[*NAS, *extras])


def stages_table(run: Path) -> "pd.DataFrame":
    """What each stage in ``results.json`` did and how long it took: columns ``stage``, ``done``, ``seconds``.

    Seconds are those on the wall where the stage was timed as a whole, else its units' together.
    """
    import pandas as pd

    results = read_results(run)
    rows = []
    for stage, found in results.get("stages", {}).items():
        entries = found if isinstance(found, list) else [found]
        known = [entry["seconds"] for entry in entries if entry.get("seconds") is not None]
        seconds = results.get("wall_seconds", {}).get(stage, sum(known) if known else math.nan)
        rows.append({"stage": stage, "done": _done(found), "seconds": seconds})
    return pd.DataFrame(rows, columns=["stage", "done", "seconds"])


def _done(stage: Mapping[str, Any] | list[Any]) -> str:
    if isinstance(stage, list):
        return f"{len(stage)} results"
    counted = (
        "trajectories",
        "trials",
        "completed",
        "stopped",
        "diverged",
        "failed",
        "iterations",
        "names",
        "distinct",
    )
    parts = [f"{stage[name]} {name}" for name in counted if stage.get(name)]
    return ", ".join([*parts, *([stage["outcome"]] if stage.get("outcome") else [])])


def unfinished_table(run: Path) -> "pd.DataFrame":
    """Units that are still running or have failed: columns ``unit``, ``status``, ``step``, ``message``."""
    import pandas as pd

    rows = []
    for unit in units(run):
        record = unit.read()
        if record.get("status") in (RUNNING, FAILED):
            message = record.get("message") or ""
            step = record.get("step")
            rows.append(
                {"unit": f"{unit.kind}/{unit.name}", "status": record["status"], "step": step, "message": message}
            )
    return pd.DataFrame(rows, columns=["unit", "status", "step", "message"])


def differing_settings(runs: Mapping[str, Path]) -> "pd.DataFrame":
    """Settings (dotted paths, the name apart) whose values are not the same in all runs; one column a run.

    Args:
        runs: label → run folder.
    """
    import pandas as pd

    settings = {label: flatten(read_search(run)) for label, run in runs.items()}
    paths = dict.fromkeys(path for flat in settings.values() for path in flat)
    rows = [{"setting": path, **{label: flat.get(path, "") for label, flat in settings.items()}} for path in paths]
    rows = [row for row in rows if row["setting"] != "name" and len({json.dumps(row[label]) for label in runs}) > 1]
    return pd.DataFrame(rows, columns=["setting", *runs])


def pareto_rows(trials: "pd.DataFrame") -> list[int]:
    """Rows of completed trials that no other beats in accuracy (up) and seconds (down), fastest first."""
    done = trials[(trials["status"] == COMPLETED) & trials["val_accuracy"].notna() & trials["seconds"].notna()]
    order = done.sort_values(["seconds", "val_accuracy"], ascending=[True, False])
    before = order["val_accuracy"].cummax().shift(fill_value=-math.inf)
    return [int(row) for row in order.index[order["val_accuracy"] > before]]


def curve(unit: Unit, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps, values) of one logged number [points]; values that are not finite are left out."""
    lines = [(line["step"], line[name]) for line in unit.history() if line.get(name) is not None]
    points = np.array([pair for pair in lines if math.isfinite(pair[1])], dtype=float).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def print_accuracy(run: Path, console: "Console") -> None:
    """The accuracy table on the terminal."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    search = read_search(run)
    shown = shown_accuracy(accuracy_table(run), arms.distilled_with(run).get("factor", 1))
    if shown.empty:
        console.print(f"{run}: no finished evaluation yet", markup=False)
        return
    # What a terminal of 80 columns has room for; the report shows the rest.
    shown = shown.drop(columns=["seconds", "each student %", "students"])
    first = list(shown.columns).index("95 % interval") + 1
    parts = {f"{search['name']}: test accuracy, the setting chosen on the validation split": shown.iloc[:, :first]}
    if first < len(shown.columns):
        of_two = ["set", "network", "protocol", *shown.columns[first:]]
        parts["beside it, as one class is the larger: what is found of each"] = shown[of_two]
    for title, part in parts.items():
        table = Table(title=escape(title), box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0))
        for heading in part.columns:
            table.add_column(heading, justify="left" if heading in ("set", "network", "protocol") else "right")
        for row in part.itertuples(index=False):
            table.add_row(*(escape(str(cell)) for cell in row))
        console.print(table)


def _seconds(record: Mapping[str, Any]) -> float:
    return _number(record.get("metrics", {}).get("seconds", record.get("seconds")))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _place_of(name: str) -> tuple[int, str]:
    return (SETS.index(name) if name in SETS else len(SETS), name)
