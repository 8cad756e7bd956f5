"""What the files of a run folder say, in a tracker's words: numbers over steps, final numbers, tags; and no secrets.

Nothing here talks to a tracker, and nothing knows the clock: the same files give the same numbers whenever they are read.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from raydistill.artifacts import COMPLETED, STOPPED, TENSORS, Unit
from raydistill.config import flatten
from raydistill.errors import without_credentials

SECRET = re.compile(r"password|passwd|token|secret|credential|key", re.IGNORECASE)
OWN = frozenset({"schema", "kind", "name", "fingerprint", "status", "params", "tags", "metrics"})
"Fields of unit.json with a place of their own; all others become tags."


class Number(NamedTuple):
    """One value of one metric; ``after`` is in milliseconds since the unit began."""

    name: str
    step: int
    value: float
    after: int


Latest = Mapping[str, tuple[int, float]]
"Metric name → (step, value) that the tracker has last."


@dataclass(slots=True)
class Tail:
    """Reads what was appended to a file since the last time; a file that was replaced is read from its start."""

    inode: int = 0
    offset: int = 0

    def read(self, file: Path) -> list[str]:
        """The new whole lines; a last line that is still being written is left for the next time."""
        try:
            with open(file, "rb") as stream:
                status = os.fstat(stream.fileno())
                if status.st_ino != self.inode or status.st_size < self.offset:
                    self.inode, self.offset = status.st_ino, 0
                stream.seek(self.offset)
                text = stream.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self.offset += len(whole)
        return whole.decode("utf-8", errors="replace").splitlines()


def new_numbers(lines: Iterable[str], latest: Latest) -> list[Number]:
    """The numbers in history lines that lie beyond what the tracker has.

    A metric whose step was delivered before is left out, so reading a history twice, or one that was rewound and
    written again, delivers every step once. A value that is not finite becomes NaN: charts show a gap, not 1e308.
    """
    last = {name: step for name, (step, _) in latest.items()}
    numbers = []
    for line in lines:
        try:
            entry = json.loads(line)
            step = int(entry["step"])
        except (json.JSONDecodeError, KeyError, TypeError, ValueError):
            continue  # cut short by a kill
        seconds = entry.get("seconds")
        after = round(1000 * seconds) if _finite(seconds) else step
        for name, value in entry.items():
            if name == "step" or not isinstance(value, int | float) or step <= last.get(name, -1):
                continue
            last[name] = step
            numbers.append(Number(name, step, float(value) if math.isfinite(value) else math.nan, after))
    return numbers


def reached(numbers: Iterable[Number]) -> dict[str, tuple[int, float]]:
    """Metric name → (step, value) of the last of ``numbers`` in order."""
    return {number.name: (number.step, number.value) for number in numbers}


def final_numbers(record: Mapping[str, Any], latest: Latest) -> list[Number]:
    """The final metrics that the history has not already shown; one that differs from it is named ``final_…``.

    The history's ``seconds`` stand: the clock is read once more at the end, a moment later.
    """
    step, seconds = record.get("step"), record.get("seconds")
    last = step if isinstance(step, int) else max((s for s, _ in latest.values()), default=0)
    after = round(1000 * seconds) if _finite(seconds) else last
    numbers = []
    for name, value in record.get("metrics", {}).items():
        for shown in (name, f"final_{name}"):
            if shown not in latest:
                numbers.append(Number(shown, last, float(value), after))
                break
            if latest[shown][1] == value or name == "seconds":
                break
    return numbers


def summary_numbers(units: Iterable[tuple[Unit, Mapping[str, Any]]], latest: Latest) -> list[Number]:
    """Numbers of the search as a whole: the best validation accuracy after each finished trial, and every final accuracy."""
    trials, numbers = [], []
    for unit, record in units:
        metrics = record.get("metrics", {})
        if unit.kind == "trial" and record.get("status") in (COMPLETED, STOPPED) and "val_accuracy" in metrics:
            trials.append((unit.file.stat().st_mtime_ns, unit.name, metrics["val_accuracy"]))
        if unit.kind == "evaluate" and "accuracy_mean" in metrics:
            name, value = f"accuracy/{unit.name}", float(metrics["accuracy_mean"])
            step, shown = latest.get(name, (-1, math.nan))
            if shown != value:
                numbers.append(Number(name, step + 1, value, step + 1))
    known, best = latest.get("best_val_accuracy", (0, 0.0))[0], -math.inf
    for step, (_, _, value) in enumerate(sorted(trials), start=1):
        best = max(best, value)
        if step > known:
            numbers.append(Number("best_val_accuracy", step, best, step))
    return numbers


def tags_of(record: Mapping[str, Any]) -> dict[str, str]:
    """A unit's own tags, and what its end left in ``unit.json`` (step, message, …) as ``raydistill.…``."""
    rest = flatten({key: value for key, value in record.items() if key not in OWN})
    return {
        **public(record.get("tags", {})),
        **{f"raydistill.{key}": text for key, text in public(rest).items()},
        "raydistill.status": str(record["status"]),
    }


def settings_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """A unit's params; names without a dot, which are no config path, become ``unit.…``: the search has a ``name`` too."""
    return {name if "." in name else f"unit.{name}": value for name, value in record.get("params", {}).items()}


def public(values: Mapping[str, Any]) -> dict[str, str]:
    """Names and values as texts, without those whose name speaks of a secret and without credentials in addresses."""
    return {name: without_credentials(str(value)) for name, value in values.items() if not SECRET.search(name)}


def distilled_sets(units: Iterable[tuple[Unit, Mapping[str, Any]]]) -> Iterator[Path]:
    """The folders of the distilled sets that are results (not those of trials)."""
    for unit, record in units:
        folder = unit.directory / "set"
        if unit.kind == "distill" and record.get("status") == COMPLETED and (folder / TENSORS).is_file():
            yield folder


def files_below(folder: Path) -> list[tuple[Path, str]]:
    """(file, name relative to ``folder``) below a folder, in name order; without hidden ones, which are being written.

    Links are left out too: in a folder that others made they may lead to files that are not to be sent anywhere.
    """
    everything = folder.rglob("*")
    found = [(path, path.relative_to(folder)) for path in everything if path.is_file() and not path.is_symlink()]
    return sorted((path, str(name)) for path, name in found if not any(part.startswith(".") for part in name.parts))


def stamp(path: Path) -> tuple[int, int]:
    """(modification time in ns, bytes); zeros for a file that cannot be seen. Changes when the file does."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def _finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
