"""Which machine work goes to, and how much of it: nodes that join and die, accelerators, shares that are too small.

The GPUs are only declared to Ray; nothing computes on them.
"""

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from raydistill.runtime.local import Local
from raydistill.search import local
from raydistill.search.trials import trial_unit
from tests.cluster.nodes import ROOT, nodes
from tests.search.fakes import FAKE, make_data, make_search
from tests.search.test_local import essence

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]


def test_work_finds_the_machines_that_join_that_live_and_that_are_large_enough(tmp_path: Path) -> None:
    with nodes(1) as cluster:
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "tests.cluster.placing", cluster.address, str(tmp_path)]
        with subprocess.Popen(
            command, cwd=ROOT, env=cluster.environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        ) as driver:
            assert driver.stdin is not None

            def said() -> dict[str, Any]:
                assert driver.stdout is not None
                for line in driver.stdout:
                    with suppress(json.JSONDecodeError):  # Ray prints what it likes
                        found: dict[str, Any] = json.loads(line)
                        return found
                raise AssertionError(driver.communicate()[1][-3000:])

            def machine(cpus: int, accelerator: str) -> str:
                return "add " + json.dumps(
                    {"num_cpus": cpus, "num_gpus": 1, "resources": {f"accelerator_type:{accelerator}": 1}}
                )

            # One process would wait for a second for ever.
            assert said() == {"before": 1}
            wait(lambda: len(list((tmp_path / "meet").iterdir())) == 1)
            cluster.tell(machine(1, "A100"))
            assert said() == {"met": [0, 1, 2, 3], "after": 2}

            cluster.tell(machine(2, "H100"))
            driver.stdin.write("\n")
            driver.stdin.flush()
            found = said()
            assert found["places"] == 2
            assert len({node for node, _ in found["seen"]}) == 1
            assert {device for _, device in found["seen"]} == {"cuda"}
            assert found["refused"] == "accelerator='T4': no machine of this cluster has one; there is A100, H100"

            found = said()
            assert found["done"] == [[0, 0], [1, 1], [2, 4], [3, 9]]
            before, after = "cpus=0.5 gpus=0.5 accelerator=H100", "cpus=0.5 gpus=1 accelerator=H100"
            assert {text for _, text in found["told"]} == {f"out of memory with {before}; done again with {after}"}
            assert {index for index, _ in found["told"]} <= {0, 1}, "who came after had the larger share at once"
            assert (
                f"ran out of memory with {after} (CUDA out of memory. Tried to allocate 2.00 GiB.); use smaller"
                in (found["too_much"])
            )

            again = said()["again"]
            assert {number for number, _ in again} == {0, 1}
            assert [text for _, text in again] == [f"out of memory with {before}; goes on with {after}"] * 2
            assert [trial_unit(tmp_path / "search", n).read().get("notes") for n in (1, 2)] == [[again[0][1]], None]
            local.run_search(make_search(trials=3), tmp_path / "local", make_data(), Local(), engine=FAKE)
            assert essence(tmp_path / "search") == essence(tmp_path / "local")

            # The machine whose disk is full gets no more; where all are, it ends.
            found = said()
            assert found["done"] == [[0, 0], [1, 1], [2, 4], [3, 9]]
            why = "cannot write it: No space left on device"
            assert {text for _, text in found["told"]} == {f"{why}; done again on another machine"}
            assert (found["full"], found["places"] < 4) == (1, True)
            assert said() == {"full": 3, "error": why}
            assert said()["none"].endswith(" are full; free space there and go on with --resume")

            # A death that counts would end the work: no restart is allowed.
            wait(lambda: len(list((tmp_path / "stay").iterdir())) == 4)
            cluster.tell("kill")
            (tmp_path / "stay" / "go").touch()
            assert said() == {"stayed": [[0, 0], [1, 1], [2, 4], [3, 9]]}

            # The team goes on with the two that are left of three, for the machine does not come back.
            wait((tmp_path / "team" / "sizes").exists)
            cluster.tell("kill")
            (tmp_path / "team" / "lost").touch()
            assert said() == {"sizes": [3, 2]}
            assert driver.wait(timeout=120) == 0


def wait(ready: Any) -> None:
    """Until something is so."""
    until = time.monotonic() + 400
    while not ready():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.1)
