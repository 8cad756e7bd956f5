"""Machines that die under a whole search, on several real Ray nodes: it ends as if nothing had happened."""

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from raydistill import artifacts, storage
from tests.cluster.nodes import Nodes, nodes
from tests.s3 import BUCKET, server
from tests.tiny import TEXT, listing, shell, write_search

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]

LONGER = TEXT.replace("epochs=1)", "epochs=60)").replace("epochs=2)", "epochs=60)").replace("students=2", "students=5")


def arguments(search: Path, out: object, address: str) -> list[object]:
    """`run` of the search without a space: distil, evaluate, NAS."""
    nas = ["--set", "nas.students=4"]
    return ["run", f"{search}:other", "--out", out, "--address", address, *nas]


def pieces(run: Path) -> int:
    """How many students and networks are done."""
    lines = sum(len(unit.history()) for unit in artifacts.units(run, "evaluate"))
    return lines + sum(unit.status == artifacts.COMPLETED for unit in artifacts.units(run, "nas"))


def finished(run: Path) -> dict[str, bytes]:
    """What is done: a second run of any of it would change the seconds that it took."""
    done = {}
    for unit in artifacts.units(run):
        if unit.status == artifacts.COMPLETED:
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
        found[f"{unit.kind}/{unit.name}"] = (record["status"], numbers, record.get("runs"))
    sets = listing(run / "units" / "distill" / "final" / "set")
    return found | {"set": sets[artifacts.TENSORS]}


def reach(process: "subprocess.Popen[str]", run: Path, count: int) -> None:
    """Wait until so many pieces are done."""
    until = time.monotonic() + 600
    while pieces(run) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, f"{pieces(run)} pieces after ten minutes"
        time.sleep(0.05)


def test_a_node_and_then_the_driver_end_and_the_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker machine dies (SIGKILL) in the evaluation, the driver is told to go (SIGTERM) in the NAS.

    The nodes share no disk, only a bucket; where the driver goes on there is nothing left of what it had.
    """
    search = write_search(tmp_path, LONGER)
    command, environment = shell(*arguments(search, tmp_path / "still", "in-process"), "--quiet")
    undisturbed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert undisturbed.returncode == 0, undisturbed.stderr
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "driver"))
    with ExitStack() as running:
        for name, value in running.enter_context(server()).items():
            monkeypatch.setenv(name, value)
        cluster = running.enter_context(nodes(2))
        out = f"s3://{BUCKET}/runs"
        run = storage.place(out) / "other"
        process = start(cluster, search, out)
        reach(process, run, 3)
        assert cluster.tell("kill") == "1"
        before = finished(run)
        total = pieces(tmp_path / "still" / "other")
        reach(process, run, total - 5)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 130, err
        assert "Traceback" not in err
        assert err.splitlines()[-1].startswith("raydistill: interrupted; go on with: raydistill run ")
        between = finished(run)
        assert before.items() <= between.items(), "what was done before the machine died was done again"
        shutil.rmtree(tmp_path / "driver")
        process = start(cluster, search, out, "--resume")
        said, err = process.communicate(timeout=900)
        assert process.returncode == 0, err
    assert f"Stored  {out}/other" in said
    assert between.items() <= finished(run).items(), "what was done before the driver went was done again"
    assert outcome(run) == outcome(tmp_path / "still" / "other")


def start(cluster: Nodes, search: Path, out: object, *options: str) -> "subprocess.Popen[str]":
    """A driver that joins the cluster."""
    words = [str(word) for word in arguments(search, out, cluster.address)]
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "raydistill", *words, *options]
    return subprocess.Popen(command, env=cluster.environment, stdout=pipe, stderr=pipe, text=True)
