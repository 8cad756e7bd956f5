"""A machine that is told to go (a spot machine, a pod that is moved): what it was doing is written down first.

That what is written down leads to the same bytes is shown in ``tests/distill/test_loop.py``, on machines in ``test_faults.py``.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raydistill import artifacts
from raydistill.distill.loop import STATE_KIND
from raydistill.search.trials import trial_unit
from tests.cluster import whole
from tests.cluster.nodes import Nodes, nodes
from tests.tiny import write_search

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1200)]

GRACE = 8
TEXT = """
from raydistill.data.load import DataConfig
from raydistill.distill.datadam import DataDAM
from raydistill.evaluate.protocol import protocol
from raydistill.search.definition import Budget, Float, Search

search = Search(
    name="leaving",
    data=DataConfig(source="digits", val_fraction=0.2),
    distill=DataDAM.Config(network="ConvNetD2", ipc=1, iterations=3000, lr_img=0.1, batch_real=32, augment="none"),
    space={"distill.lr_img": Float(low=0.01, high=0.1, log=True)},
    budget=Budget(trials=1, parallel=1, grace=50, startup=1, stopping="none", validation=protocol("fast", epochs=2)),
)
"""


def machine(cluster: Nodes) -> "subprocess.Popen[str]":
    """A node as containers start it."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--address", cluster.address, "--num-cpus", "1"]
    environment = cluster.environment | {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(GRACE)}
    return subprocess.Popen([*command, "--block"], env=environment, stdout=subprocess.DEVNULL, text=True)


def test_a_trial_is_written_down_before_its_machine_goes(tmp_path: Path) -> None:
    search = write_search(tmp_path, TEXT)
    run = tmp_path / "runs" / "leaving"
    unit = trial_unit(run, 0)

    def step() -> int:
        return max((int(line["step"]) for line in unit.history()), default=0)

    with nodes(0) as cluster:
        first = machine(cluster)
        driver = whole.start(cluster, search, run.parent)
        try:
            whole.reach(driver, lambda: step() > 0)
            reached = step()
            os.kill(first.pid, signal.SIGTERM)
            whole.reach(driver, lambda: first.poll() is not None)
            assert artifacts.load_folder(unit.directory / "state", STATE_KIND)[0]["step"] > reached
            assert unit.status == artifacts.RUNNING
        finally:
            driver.kill()
            first.kill()
