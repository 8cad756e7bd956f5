"""Functions for ``map``: workers import them, so they live in a module of their own."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raydistill.errors import ConfigError
from raydistill.nas.confirm import train_full
from raydistill.runtime.base import Team


def scale(x: float, table: np.ndarray, device: str) -> tuple[float, str]:
    """x times the table's sum."""
    return x * float(table.sum()), device


def look(table: np.ndarray, name: str, device: str) -> dict[str, Any]:
    """What a worker finds around it."""
    return {
        "pid": os.getpid(),
        "writeable": table.flags.writeable,
        "threads": torch.get_num_threads(),
        "environment": os.environ.get(name),
    }


def refuse(x: int, device: str) -> int:
    """Raise for x = 1 a mendable error, for x = 2 another."""
    if x == 1:
        raise ConfigError("x=1: too small; use 3")
    if x == 2:
        raise ZeroDivisionError("a bug")
    return x


def fragile(x: int, deaths: int, folder: str, device: str) -> int:
    """Kill the own process, so many times for x = 1."""
    tries = len(list(Path(folder).glob(f"{x}-*")))
    (Path(folder) / f"{x}-{tries}").touch()
    if x == 1 and tries < deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return x * x


def die_when_told(x: int, folder: str, device: str) -> int:
    """Kill the own process for x = 1, once, when there is a file ``go``."""
    mark = Path(folder) / "died"
    while x == 1 and not mark.exists():
        if (Path(folder) / "go").exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
    return x * x


class Bystander:
    """Takes a core."""


def nap(seconds: float, device: str) -> float:
    """Sleep."""
    time.sleep(seconds)
    return seconds


def refuse_together(x: int, device: str, team: Team) -> None:
    """As ``refuse``, in a team."""
    refuse(x, device)


def train_and_die(at: int, directory: str, team: Team, **given: Any) -> None:
    """Train a network, and kill the own process once, after epoch ``at``."""

    def report(numbers: Mapping[str, float]) -> None:
        mark = Path(directory) / "died"
        if numbers["epoch"] == at and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        team.report(numbers)

    train_full(directory=directory, team=team._replace(report=report), **given)


def title(device: str) -> str:
    """What the own process is called."""
    return Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode()


def fail(error: Exception, device: str) -> None:
    """Raise it."""
    raise error
