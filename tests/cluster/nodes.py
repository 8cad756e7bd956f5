"""A cluster of several nodes on this machine, in a process of its own: a head without cores, and workers of one core each.

Started as a program it reads a command a line (``add``, ``kill``, ``freeze``, ``thaw``, ``behead``) and answers each with one
line.
"""

import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.runtime.test_on_ray import descendants

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_raylet_start_wait_time_s": "300",  # Ray's 30 seconds are too few on a machine that is busy
    "RAY_worker_niceness": "0",  # else other work on the machine takes all from the workers
    "RAY_enable_metrics_collection": "0",
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",  # Ray's minute is for machines that are still to come
    "OMP_NUM_THREADS": "1",
}


class Nodes(NamedTuple):
    """A cluster that runs."""

    address: str
    environment: dict[str, str]
    "For who joins it."
    process: "subprocess.Popen[str]"

    def tell(self, command: str) -> str:
        """Change the workers; returns how many there are.

        ``add`` one (``add {"num_gpus": 1}``: another kind; ``{"cache": FOLDER}``: with its mirrors there); ``kill`` the
        oldest; ``freeze`` it (it runs, but neither hears nor answers, as behind a network that fails), and ``thaw`` it again;
        ``behead``: kill the head, and with it the cluster.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return _answer(self.process)


@contextmanager
def nodes(workers: int) -> Iterator[Nodes]:
    """Start a head and ``workers`` nodes, and end all that is left of them."""
    folder = Path(tempfile.mkdtemp(prefix="rn-", dir="/tmp"))  # Ray's sockets need a short path
    environment = os.environ | SETTINGS | {"RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_TMPDIR": str(folder)}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "tests.cluster.nodes", str(workers)]
    with open(folder / "log", "w", encoding="utf-8") as log:
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=log, text=True)
    everybody = [process.pid]
    try:
        address = _answer(process)
        yield Nodes(address, environment, process)
    except AssertionError:
        print((folder / "log").read_text(encoding="utf-8")[-3000:], file=sys.stderr)
        raise
    finally:
        everybody = descendants(process.pid)
        _send(everybody, signal.SIGKILL)
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def _answer(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    for line in process.stdout:
        with suppress(json.JSONDecodeError):  # Ray prints what it likes
            return str(json.loads(line)["answer"])
    raise AssertionError(f"the cluster's process ended with {process.wait()}")


def _send(pids: list[int], what: signal.Signals) -> None:
    for pid in reversed(pids):
        with suppress(ProcessLookupError):
            os.kill(pid, what)


def _serve(workers: int) -> None:
    from ray.cluster_utils import Cluster

    folder, numbers = os.environ["RAY_TMPDIR"], itertools.count()

    def add(**kind: Any) -> Any:
        """A node with a home for mirrors of its own, as machines have that share nothing."""
        cache = kind.pop("cache", f"{folder}/cache-{next(numbers)}")
        return cluster.add_node(**{"num_cpus": 1, **kind}, env_vars={"RAYDISTILL_CACHE": cache})

    def raylet(node: Any) -> int:
        return int(node.all_processes["raylet"][0].process.pid)

    def say(answer: object) -> None:
        print(json.dumps({"answer": str(answer)}), flush=True)

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    there = [add() for _ in range(workers)]
    say(cluster.address)
    for line in sys.stdin:
        if line.startswith("add"):
            there.append(add(**json.loads(line.removeprefix("add").strip() or "{}")))
            say(len(there))
        elif line.strip() == "kill" and there:
            _send(descendants(raylet(there.pop(0))), signal.SIGKILL)
            say(len(there))
        elif line.strip() in ("freeze", "thaw") and there:
            _send(descendants(raylet(there[0])), signal.SIGSTOP if line.strip() == "freeze" else signal.SIGCONT)
            say(len(there))
        elif line.strip() == "behead":
            _send(
                [int(one.process.pid) for kind in cluster.head_node.all_processes.values() for one in kind],
                signal.SIGKILL,
            )
            say(0)
        else:
            say(f"no such command: {line.strip()}")


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
