"""Experts under SIGKILL: of actors, of a raylet's idle workers, of the driver, at random moments; nothing is lost.

RAYDISTILL_KILLS=20 pytest tests/experts/test_kills.py -s        twenty kills, and what was killed
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raydistill.artifacts import MANIFEST, TENSORS
from raydistill.experts import store
from tests.experts.gated import allow, stored
from tests.test_expert_stage import COMMON, TEXT, entry
from tests.tiny import call, write_search

KILLS = int(os.environ.get("RAYDISTILL_KILLS", "3"))
COUNT, GRANT, PATIENCE = 4, 3, 500.0
SETTINGS = ("--set", f"distill.experts.count={COUNT}", "--set", f"distill.max_start_epoch={KILLS}")
ACTOR, IDLE = b"ray::RaydistillWorker", b"ray::IDLE"
KINDS = ("actor", "driver", "idle worker")
Process = tuple[int, str]
"Process id and start time: ids are used again."


class Job:
    """The experts' job, started again whenever it is gone."""

    def __init__(self, file: Path, out: Path, seed: int) -> None:
        code = "from tests.experts import gated; gated.main()"
        self.command = [sys.executable, "-c", code, "experts", str(file), "--out", str(out), "--quiet", *SETTINGS]
        self.command += ["--address", "local"]
        self.cache = out / store.FOLDER
        self.said = out.parent / "said.txt"
        self.random = random.Random(seed)
        self.kills: list[str] = []
        self.order: list[str] = []
        self.given_up = 0
        self.seen: set[Process] = set()
        self.allowed = 0
        self.start()

    def start(self) -> None:
        allow(self.cache, self.allowed)
        with open(self.said, "w") as said:
            self.driver = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=said)

    def kill_one(self) -> None:
        """Let some epochs be stored, and kill something while they are."""
        before = len(stored(self.cache))
        self.allowed = before + GRANT
        allow(self.cache, self.allowed)
        until = before + self.random.randrange(GRANT)
        self.wait(lambda: bool(self.processes(ACTOR)) and len(stored(self.cache)) >= until)
        time.sleep(self.random.uniform(0, 0.05))
        there = {"driver": [self.driver.pid], "actor": self.processes(ACTOR), "idle worker": self.processes(IDLE)}
        kind = self.kinds()
        kind = kind if there[kind] else "actor" if there["actor"] else "driver"
        self.kills.append(kind)
        with open(self.said.with_name("kills.txt"), "a") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {kind}, {len(stored(self.cache))} epochs stored\n")
        os.kill(self.random.choice(sorted(there[kind])), signal.SIGKILL)
        if kind == "driver":
            self.driver.wait()
            self.start()

    def kinds(self) -> str:
        """Each kind once in three kills, in random order."""
        self.order = self.order or self.random.sample(KINDS, len(KINDS))
        return self.order.pop()

    def wait(self, for_what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not for_what():
            assert time.monotonic() < deadline, f"it does not go on after {self.kills}"
            if self.driver.poll() not in (None, 0):
                self.again()
            time.sleep(0.1)

    def again(self) -> None:
        """A job whose item, or whose starting workers, died too often says so and ends; a person starts it again."""
        said = self.said.read_text()
        assert self.driver.returncode == 2, said
        assert "died 3 times" in said or "3 workers in a row died" in said
        self.given_up += 1
        self.start()

    def end(self) -> None:
        """Let it go on to its end undisturbed."""
        self.allowed = 10**6
        allow(self.cache, self.allowed)
        self.wait(lambda: self.driver.poll() == 0)

    def processes(self, title: bytes) -> list[int]:
        """Those of the job whose title begins so; all of them are remembered."""
        found, parents = [], [self.driver.pid]
        while parents:
            for pid in children(parents.pop()):
                parents.append(pid)
                self.seen.add((pid, started(pid)))
                if title_of(pid).startswith(title):
                    found.append(pid)
        return found

    def close(self) -> None:
        """End what is left; the workers of a killed driver live on for some seconds."""
        self.driver.kill()
        self.driver.wait()
        for pid, began in self.seen:
            if began and started(pid) == began:
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    found = Job(write_search(tmp_path, TEXT), tmp_path / "killed", seed=0)
    yield found
    found.close()


def children(pid: int) -> list[int]:
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, file.read_text().split())
        except OSError:
            continue
    return found


def title_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def started(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""


def files(out: Path) -> dict[str, bytes]:
    """Tensors and manifests of trajectories and scores."""
    found = {}
    for name in (TENSORS, MANIFEST):
        for path in sorted(entry(out).rglob(name)):
            found[str(path.relative_to(entry(out)))] = path.read_bytes()
    return found


@pytest.mark.ray
@pytest.mark.timeout(300 * KILLS + 900)
def test_whatever_is_killed_no_epoch_is_lost_or_trained_twice(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = call(capsys, "experts", tmp_path / "tiny.py", "--out", tmp_path / "whole", *SETTINGS, *COMMON)
    assert said.code == 0, said.err
    while len(job.kills) < KILLS:
        job.kill_one()
    job.end()
    with capsys.disabled():
        print(f"\nkilled: {dict(Counter(job.kills))}; the job gave up {job.given_up} times")
    epochs = Counter(stored(job.cache))
    assert max(epochs.values()) == 1
    assert COUNT * (KILLS + 1) - KILLS <= len(epochs) <= COUNT * (KILLS + 1)
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
