"""The tables of a report, read from the units of a run folder: one row a result, accuracies as fractions.

Frames hold plain values, as they go into CSV files; ``shown`` turns them into the texts that people read.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raydistill import artifacts
from raydistill.artifacts import COMPLETED, FAILED, RUNNING, Unit, units
from raydistill.config import flatten
from raydistill.search.trials import read_trials

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

SETS = ("distilled", "random", "herding", "kcenter", "whole")
"The arms of the comparison, in the order in which they are shown."

ACCURACY = ["set", "network", "protocol", "students", "mean", "std", "ci95_low", "ci95_high", "runs"]
TRIALS = ["number", "status", "val_accuracy", "iterations", "seconds"]
NAS = ["rank", "network", "accuracy", "runs", "seconds"]


def read_search(run: Path) -> dict[str, Any]:
    """The resolved search of a run folder as plain JSON values.

    Raises:
        ArtifactError: not a run folder.
    """
    search: dict[str, Any] = artifacts.read_json(run / "search.json")
    return search


def read_results(run: Path) -> dict[str, Any]:
    """``results.json`` of a run folder, or ``{}`` while there is none."""
    results: dict[str, Any] = artifacts.read_json(run / "results.json") if (run / "results.json").exists() else {}
    return results


def accuracy_table(run: Path) -> "pd.DataFrame":
    """What each set is worth: one row a set, network and protocol.

    Returns:
        Columns ``ACCURACY`` (fractions; ``runs`` is a tuple with one accuracy a student), then ``balanced_accuracy`` and
        ``auc`` where measured, then ``seconds``.
    """
    import pandas as pd

    rows = []
    for unit in units(run, "evaluate"):
        record = unit.read()
        if record.get("status") != COMPLETED:
            continue
        metrics = record["metrics"]
        row = {
            **{key: record[key] for key in ("set", "network", "protocol", "students")},
            "mean": metrics["accuracy_mean"],
            # One student alone has neither spread nor interval.
            "std": _number(metrics.get("accuracy_std")),
            "ci95_low": _number(metrics.get("ci95_low")),
            "ci95_high": _number(metrics.get("ci95_high")),
            "runs": tuple(record["runs"]),
        }
        for extra in ("balanced_accuracy", "auc"):
            row[extra] = _number(metrics.get(extra, record.get(extra)))
        rows.append({**row, "seconds": _seconds(record)})
    own = read_search(run)["distill"].get("network")
    rows.sort(key=lambda r: (r["network"] != own, r["network"], r["protocol"], _place_of(r["set"])))
    frame = pd.DataFrame(rows, columns=[*ACCURACY, "balanced_accuracy", "auc", "seconds"])
    unmeasured = [c for c in ("balanced_accuracy", "auc") if frame[c].isna().all()]
    return frame.drop(columns=unmeasured)


def trials_table(run: Path) -> "pd.DataFrame":
    """Every trial of the search: columns ``TRIALS``, one a searched setting (its full dotted path), ``message``.

    ``val_accuracy`` is a fraction of the validation split; NaN for trials that ended, or stand, without one.
    """
    import pandas as pd

    paths = list(read_search(run).get("space", {}))
    rows = [
        {
            "number": record.number,
            "status": record.status,
            "val_accuracy": _number(record.val_accuracy),
            "iterations": record.iterations or max(record.values, default=0),
            "seconds": _number(record.seconds),
            **{path: record.params.get(path) for path in paths},
            "message": record.message,
        }
        for record in read_trials(run)
    ]
    return pd.DataFrame(rows, columns=[*TRIALS, *paths, "message"])


def nas_table(run: Path) -> "pd.DataFrame":
    """The networks trained on the distilled set, best first: columns ``NAS``."""
    import pandas as pd

    rows = []
    for unit in units(run, "nas"):
        record = unit.read()
        if record.get("status") == COMPLETED:
            accuracy = record["metrics"]["accuracy"]
            runs = tuple(record.get("runs") or (accuracy,))
            name = record.get("network", unit.name)
            rows.append({"network": name, "accuracy": accuracy, "runs": runs, "seconds": _seconds(record)})
    rows.sort(key=lambda r: (-r["accuracy"], r["network"]))
    return pd.DataFrame([{"rank": i + 1, **row} for i, row in enumerate(rows)], columns=NAS)


def stages_table(run: Path) -> "pd.DataFrame":
    """Seconds of each stage, as far as ``results.json`` has them: columns ``stage``, ``done``, ``seconds``."""
    import pandas as pd

    rows = []
    for stage, found in read_results(run).get("stages", {}).items():
        if isinstance(found, list):
            seconds = [entry["seconds"] for entry in found if entry.get("seconds") is not None]
            rows.append({"stage": stage, "done": f"{len(found)} results", "seconds": sum(seconds)})
        elif isinstance(found, Mapping):
            parts = ("trajectories", "trials", "completed", "stopped", "diverged", "failed", "iterations", "outcome", "names")
            done = ", ".join(
                str(found[part]) if part == "outcome" else f"{found[part]} {part}" for part in parts if found.get(part)
            )
            rows.append({"stage": stage, "done": done, "seconds": found.get("seconds")})
    return pd.DataFrame(rows, columns=["stage", "done", "seconds"])


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
    """Settings (dotted paths) whose values are not the same in all runs; one column a run, absent ones empty.

    Args:
        runs: label → run folder.
    """
    import pandas as pd

    settings = {label: flatten(read_search(run)) for label, run in runs.items()}
    paths = dict.fromkeys(path for flat in settings.values() for path in flat)
    rows = [{"setting": path, **{label: flat.get(path, "") for label, flat in settings.items()}} for path in paths]
    rows = [row for row in rows if len({json.dumps(row[label]) for label in runs}) > 1]
    return pd.DataFrame(rows, columns=["setting", *runs])


def best_row(trials: "pd.DataFrame") -> int | None:
    """Row of the completed trial with the highest validation accuracy (the earlier of equals); ``None`` without one."""
    done = trials[(trials["status"] == COMPLETED) & trials["val_accuracy"].notna()]
    return None if done.empty else int(done.index[int(np.argmax(done["val_accuracy"].to_numpy()))])


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


def set_label(name: str, factor: int) -> str:
    """How a set is called where people read it; a multi-formation set is never shown without its factor."""
    return f"{name}, factor {factor} (multi-formation)" if name == "distilled" and factor > 1 else name


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as a percentage without its sign; ``–`` for none."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}"


def plain(value: Any) -> str:
    """A setting as people read it: six significant digits, ``–`` for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def seconds_text(value: float | None) -> str:
    """Seconds with as many digits as mean something."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def accuracy_text(row: Mapping[Any, Any]) -> str:
    """Mean ± standard deviation of a row of ``accuracy_table`` in per cent."""
    return percent(row["mean"]) + ("" if math.isnan(row["std"]) else f" ± {percent(row['std'])}")


def interval_text(row: Mapping[Any, Any]) -> str:
    """The 95 % interval of a row of ``accuracy_table`` in per cent; ``–`` where one student gives none."""
    known = not math.isnan(row["ci95_low"])
    return f"{percent(row['ci95_low'])} … {percent(row['ci95_high'])}" if known else "–"


def shown_accuracy(frame: "pd.DataFrame", factor: int = 1) -> "pd.DataFrame":
    """``accuracy_table`` as texts in per cent."""
    import pandas as pd

    rows = []
    for row in frame.to_dict("records"):
        text = {
            "set": set_label(str(row["set"]), factor),
            "network": row["network"],
            "protocol": row["protocol"],
            "accuracy %": accuracy_text(row),
            "95 % interval": interval_text(row),
            "students": plain(row["students"]),
            "each student %": "  ".join(percent(value) for value in row["runs"]),
        }
        for extra, heading in (("balanced_accuracy", "balanced %"), ("auc", "AUC %")):
            if extra in row:
                text[heading] = percent(row[extra])
        rows.append({**text, "seconds": seconds_text(row["seconds"])})
    return pd.DataFrame(rows)


def shown_trials(frame: "pd.DataFrame") -> "pd.DataFrame":
    """``trials_table`` as texts; settings lose their common ``distill.``, an empty column of messages goes."""
    shown = frame.astype(object)
    for column in frame.columns:
        shown[column] = [plain(value) for value in frame[column]]
    shown["val_accuracy"] = [percent(value) for value in frame["val_accuracy"]]
    shown["seconds"] = [seconds_text(value) for value in frame["seconds"]]
    if not any(frame["message"]):
        shown = shown.drop(columns="message")
    return shown.rename(columns=short_names(frame.columns) | {"number": "trial", "val_accuracy": "validation %"})


def shown_nas(frame: "pd.DataFrame") -> "pd.DataFrame":
    """``nas_table`` as texts in per cent."""
    shown = frame.astype(object)
    shown["rank"] = [plain(value) for value in frame["rank"]]
    shown["accuracy"] = [percent(value) for value in frame["accuracy"]]
    shown["runs"] = ["  ".join(percent(value) for value in runs) for runs in frame["runs"]]
    shown["seconds"] = [seconds_text(value) for value in frame["seconds"]]
    return shown.rename(columns={"accuracy": "accuracy %", "runs": "each student %"})


def shown_plain(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Any frame as texts; a column ``seconds`` as such."""
    shown = frame.astype(object)
    for column in frame.columns:
        text = seconds_text if column == "seconds" else plain
        shown[column] = [text(value) for value in frame[column].astype(object)]
    return shown


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """Dotted paths → names without ``distill.``, for headings."""
    return {path: path.removeprefix("distill.") for path in paths}


def print_accuracy(run: Path, console: "Console") -> None:
    """The accuracy table on the terminal."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    search = read_search(run)
    shown = shown_accuracy(accuracy_table(run), search["distill"].get("factor", 1))
    if shown.empty:
        console.print(f"{run}: no finished evaluation yet", markup=False)
        return
    title = f"{search['name']}: test accuracy, the setting chosen on the validation split"
    table = Table(title=escape(title), box=box.SIMPLE_HEAD, title_justify="left")
    for heading in shown.columns:
        table.add_column(heading, justify="left" if heading in ("set", "network", "protocol") else "right")
    for row in shown.itertuples(index=False):
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)


def _seconds(record: Mapping[str, Any]) -> float:
    return _number(record.get("metrics", {}).get("seconds", record.get("seconds")))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _place_of(name: str) -> tuple[int, str]:
    return (SETS.index(name) if name in SETS else len(SETS), name)
