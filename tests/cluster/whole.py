"""A search with every stage, long enough to be killed in each: experts, trials, final set, evaluation, NAS."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raydistill import artifacts
from tests.cluster.nodes import Nodes
from tests.tiny import listing, shell, write_search

NAME = "whole"

TEXT = f"""
from raydistill.data.load import DataConfig
from raydistill.distill.pad import PAD
from raydistill.evaluate.protocol import EvaluateConfig, protocol
from raydistill.experts.curriculum import CurriculumConfig
from raydistill.experts.difficulty import DifficultyConfig
from raydistill.experts.trajectory import ExpertConfig
from raydistill.models.fit import Recipe
from raydistill.nas.space import NASConfig
from raydistill.search.definition import Budget, Float, Search

RECIPE = Recipe(batch=64, lr=0.05, momentum=0, weight_decay=0, augment="none")
PROTOCOL = protocol("fast", epochs=60, augment="none")
search = Search(
    name={NAME!r},
    data=DataConfig(source="digits", val_fraction=0.2),
    distill=PAD.Config(
        network="ConvNetD1", ipc=1, iterations=40, augment="none", syn_steps=4, expert_epochs=1, max_start_epoch=8,
        lr_img=10, syn_lr=0.05, threshold=10,
        experts=ExpertConfig(
            count=4, epoch_steps=60, recipe=RECIPE,
            curriculum=CurriculumConfig(add_end_epoch=1, rm_epoch_first=1, rm_epoch_second=1),
            difficulty=DifficultyConfig(networks=2, steps=40, recipe=RECIPE),
        ),
    ),
    space={{"distill.alpha": Float(low=0.0, high=0.5), "distill.lr_img": Float(low=3, high=30, log=True)}},
    budget=Budget(trials=4, parallel=2, grace=10, startup=4, validation=PROTOCOL),
    evaluate=EvaluateConfig(protocol=PROTOCOL, students=5, baselines=("random",)),
    nas=NASConfig(networks=("ConvNetD1", "ConvNetD2"), students=4, protocol=PROTOCOL, confirm=0),
)
"""


def write(folder: Path) -> Path:
    """The search's file, in ``folder``."""
    return write_search(folder, TEXT)


def undisturbed(search: Path, out: Path) -> Path:
    """Its run folder after a run in one process."""
    command, environment = shell("run", search, "--out", out, "--address", "in-process", "--quiet")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return out / NAME


def start(cluster: Nodes, search: Path, out: object, *options: str) -> "subprocess.Popen[str]":
    """A driver that joins the cluster."""
    words = ["run", str(search), "--out", str(out), "--address", cluster.address, *options]
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "raydistill", *words]
    return subprocess.Popen(command, env=cluster.environment, stdout=pipe, stderr=pipe, text=True)


def reach(process: "subprocess.Popen[str]", there: Callable[[], object]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + 600
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "not after ten minutes"
        time.sleep(0.05)


def pieces(run: Path, *kinds: str) -> int:
    """How many experts, trials, students and networks are done, of all kinds or of these."""
    done = [name.split("/")[0] for name in finished(run)]
    return sum(not kinds or kind in kinds for kind in done)


def finished(run: Path) -> dict[str, bytes]:
    """What is done: a second run of any of it would change the seconds that it took."""
    done = {}
    for unit in artifacts.units(run):
        if unit.status in artifacts.Unit.FINAL:
            done[f"{unit.kind}/{unit.name}"] = unit.file.read_bytes()
        for line in unit.history() if unit.kind == "evaluate" else []:
            done[f"{unit.kind}/{unit.name}/{line['step']}"] = json.dumps(line).encode()
    return done


def outcome(run: Path) -> dict[str, Any]:
    """All numbers of a run that do not come from a clock, and the bytes of its set."""
    found: dict[str, Any] = {}
    for unit in artifacts.units(run):
        record = unit.read()
        numbers = {name: value for name, value in record["metrics"].items() if "seconds" not in name}
        found[f"{unit.kind}/{unit.name}"] = (
            record["status"],
            record["params"],
            numbers,
            record.get("runs"),
            record.get("checksum"),
        )
    sets = listing(run / "units" / "distill" / "final" / "set")
    return found | {"set": sets[artifacts.TENSORS]}
