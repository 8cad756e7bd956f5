"""A distillation that costs nothing: its set is one number, and its accuracy a known function of the settings.

What it does is written to ``work.log`` in the run folder, a line each, so that tests can count what was done.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raydistill import artifacts
from raydistill.data.distilled import DistilledSet
from raydistill.data.images import ImageSet, Normaliser
from raydistill.data.load import TrainData
from raydistill.distill.datadam import DataDAM
from raydistill.distill.loop import Outcome
from raydistill.search.definition import Budget, Choice, Distribution, Float, Int, Search, When
from raydistill.search.objective import Engine

PAUSE = "FAKE_PAUSE"
"Environment: seconds a step."

SPACE: dict[str, Distribution] = {
    "distill.lr_img": Float(low=0.01, high=10.0, log=True),
    "distill.momentum": Float(low=0.0, high=0.9),
    "distill.init": Choice(values=("real", "noise")),
    "distill.ipc": Int(low=1, high=20, when=When(path="distill.init", values=("noise",))),
}


def make_search(iterations: int = 30, name: str = "fake", **budget: Any) -> Search:
    """A search over four settings, one of them conditional."""
    plain = {"trials": 8, "parallel": 2, "startup": 3, "grace": 4, "reduction": 2, "cpus": 1, **budget}
    settings = DataDAM.Config(method="DataDAM", iterations=iterations, lr_img=1.0)
    return Search(name=name, seed=7, distill=settings, space=SPACE, budget=Budget(**plain))


def make_data() -> TrainData:
    """Two black images."""
    images = ImageSet(np.zeros((2, 1, 8, 8), np.uint8), np.array([0, 1]), ("a", "b"))
    return TrainData(images, images, Normaliser(mean=(0.0,), std=(1.0,)))


def height(config: Any) -> float:
    """The accuracy that these settings reach in the end."""
    lr = math.exp(-((math.log10(config.lr_img) - 0.3) ** 2))
    extra: float = 0.002 * config.ipc if config.init == "noise" else 0.03
    return float(0.4 + 0.4 * lr - 0.2 * (config.momentum - 0.5) ** 2 + extra)


def distill(
    config: Any, data: TrainData, *, seed: int, directory: Path, device: str, report: Any, report_at: Any, cache: Path
) -> Outcome:
    """Counts up; notes each start and step; checkpoints every third step, after the report as the real loop does."""
    state = directory / "state.json"
    first = artifacts.read_json(state)["step"] if state.exists() else 0
    write(directory, "start", first)

    def images(step: int) -> DistilledSet:
        value = height(config) * (1 - 0.5 ** (1 + 8 * step / max(1, config.iterations)))
        return DistilledSet(torch.full((1, 1, 1, 1), value), torch.zeros(1, dtype=torch.int64), data.encoding, ("a",))

    for step in range(first + 1, config.iterations + 1):
        time.sleep(float(os.environ.get(PAUSE, "0")))
        write(directory, "step", step)
        last = step == config.iterations
        if (step in report_at or last) and not report(step, {"loss": 1.0 / step}, lambda s=step: images(s)):
            return Outcome(artifacts.STOPPED, step, images(step))
        if step % 3 == 0:
            artifacts.write_json(state, {"step": step})
    images(config.iterations).save(directory / "set")
    state.unlink(missing_ok=True)
    return Outcome(artifacts.COMPLETED, config.iterations, images(config.iterations))


def rate(images: DistilledSet, on: ImageSet, students: int, **how: Any) -> list[float]:
    """The number that the set is."""
    return [float(images.pixels.double().mean())] * students


def temperamental(config: Any, data: TrainData, *, directory: Path, **rest: Any) -> Outcome:
    """Trial 1 raises, trial 2 diverges, trial 3 kills its process once, trial 4 always."""
    number = int(directory.name)
    if number == 1:
        raise ValueError("no\ngood")
    if number == 2:
        return Outcome(artifacts.DIVERGED, 5, None, "loss inf at step 5")  # type: ignore[arg-type]
    write(directory, "visit", number)
    visits = sum(line["what"] == "visit" and line["number"] == number for line in read_work(directory.parents[2]))
    if (number == 3 and visits <= 1) or number == 4:
        os.kill(os.getpid(), 9)
    return distill(config, data, directory=directory, **rest)


def lasting(config: Any, data: TrainData, *, directory: Path, **rest: Any) -> Outcome:
    """Trial 1 takes five seconds, so that trials 0 and 2 end before it; those behind, long enough for a process to start."""
    time.sleep({0: 0, 1: 5, 2: 0}.get(int(directory.name), 8))
    return distill(config, data, directory=directory, **rest)


def write(directory: Path, what: str, step: int) -> None:
    """One line in ``work.log``; appended in one call, so lines of two processes do not mix."""
    line = json.dumps({"number": int(directory.name), "what": what, "step": step, "pid": os.getpid()}) + "\n"
    with open(directory.parents[2] / "work.log", "a", encoding="utf-8") as file:
        file.write(line)


def read_work(run: Path) -> list[Mapping[str, Any]]:
    """All that was done in a run folder."""
    file = run / "work.log"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


FAKE = Engine(distill, rate)
LASTING = Engine(lasting, rate)
TEMPERAMENTAL = Engine(temperamental, rate)
