"""A distillation as a unit of work: it may be done in another process, killed, and done again from where it was."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from raydistill import artifacts, storage
from raydistill.artifacts import Unit
from raydistill.data.load import TrainData
from raydistill.distill.loop import distill
from raydistill.distill.method import MethodConfig

ENDED = "ended.json"
"How it ended, beside the set, until its driver has noted that."

REPORTS = 200
"Points of its curves."


def distil_item(
    *, data: TrainData, config: MethodConfig, seed: int, directory: str, cache: str, device: str, wait: bool = False
) -> dict[str, Any]:
    """The final distillation as a piece of work: logs to its unit, stores the set, and says how it ended.

    With ``wait`` its experts are trained at the same time.
    """
    unit = Unit(storage.place(directory))
    storage.fetch(unit.directory)
    mark = artifacts.fingerprint_of(config.fingerprint(), seed)
    if (unit.directory / ENDED).exists() and artifacts.folder_exists(unit.directory / "set"):
        known = artifacts.read_json(unit.directory / ENDED)
        if known.get("fingerprint") == mark:  # its driver was killed before it heard of that
            return dict(known["ended"])
    history = unit.history()
    clock = _Clock(history)
    last: dict[str, float] = {}

    def report(step: int, numbers: Mapping[str, float], images: object) -> bool:
        if clock.first:
            unit.rewind(step - 1)
            clock.start([line for line in history if line["step"] < step])
        last.update(numbers)
        unit.log(step, {**numbers, "seconds": clock.seconds()})
        return True

    every = max(1, config.iterations // REPORTS)
    outcome = distill(
        config,
        data,
        seed=seed,
        directory=unit.directory,
        device=device,
        report=report,
        report_at=range(every, config.iterations + 1, every),
        cache=storage.place(cache),
        wait=wait,
    )
    seconds = clock.seconds()
    metrics = {**last, "iterations": float(outcome.step), "seconds": seconds}
    ended = {
        "status": outcome.status,
        "step": outcome.step,
        "message": outcome.message,
        "metrics": metrics,
        "seconds": seconds,
    }
    artifacts.write_json(unit.directory / ENDED, {"fingerprint": mark, "ended": ended})
    return ended


class _Clock:
    """Seconds of a distillation over all its starts."""

    def __init__(self, history: Sequence[Mapping[str, float]]) -> None:
        self.first = True
        self.began = time.monotonic()
        self.before = history[-1]["seconds"] if history else 0.0

    def start(self, kept: Sequence[Mapping[str, float]]) -> None:
        self.first = False
        self.before = kept[-1]["seconds"] if kept else 0.0

    def seconds(self) -> float:
        return round(self.before + time.monotonic() - self.began, 3)
