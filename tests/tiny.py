"""A whole search that takes seconds, and the command line called in this process."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from raydistill.cli import app, guarded

TEXT = """
from raydistill.data.load import DataConfig
from raydistill.distill.datadam import DataDAM
from raydistill.evaluate.protocol import EvaluateConfig, protocol
from raydistill.nas.space import NASConfig
from raydistill.search.definition import Budget, Float, Search

search = Search(
    name="tiny",
    data=DataConfig(source="digits", val_fraction=0.2),
    distill=DataDAM.Config(network="ConvNetD1", ipc=1, iterations=4, power=1, lr_img=0.1, batch_real=8),
    space={"distill.lr_img": Float(low=0.01, high=1.0, log=True)},
    budget=Budget(trials=2, parallel=1, grace=2, startup=2, validation=protocol("fast", epochs=2)),
    evaluate=EvaluateConfig(
        protocol=protocol("fast", epochs=2),
        students=2,
        baselines=("random", "whole"),
        whole_epochs=1,
    ),
    nas=NASConfig(networks=("ConvNetD1", "ConvNetD2"), protocol=protocol("fast", epochs=1), confirm=0),
)
other = search.override({"name": "other", "space": {}})
"""


class Said(NamedTuple):
    """What a command gave back."""

    code: int
    out: str
    err: str


def write_search(folder: Path, text: str = TEXT) -> Path:
    """A search file in ``folder``."""
    path = folder / "tiny.py"
    path.write_text(text, encoding="utf-8")
    return path


def call(capsys: pytest.CaptureFixture[str], *args: object) -> Said:
    """Run ``raydistill ARGS`` in this process as the console script does."""
    capsys.readouterr()
    code = guarded(lambda: app([str(arg) for arg in args], prog_name="raydistill", standalone_mode=False))
    captured = capsys.readouterr()
    return Said(code, captured.out, captured.err)


def shell(*args: object) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of ``raydistill ARGS`` in a process of its own."""
    command: Sequence[object] = [sys.executable, "-m", "raydistill", *args]
    return [str(part) for part in command], {**os.environ, "OMP_NUM_THREADS": "1"}


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder`` with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
