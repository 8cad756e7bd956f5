"""Tracking against a real MLflow server that stalls, and from a process that is killed."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from raydistill.artifacts import COMPLETED
from raydistill.track import Tracking
from tests.track.conftest import Seen, begin, log, trial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def server(tmp_path: Path, empty_store: Path) -> Iterator[tuple[str, int]]:
    """(address, process group) of an MLflow server on the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "server.db").write_bytes(empty_store.read_bytes())
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", f"{tmp_path}/files"),
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(tmp_path / "server.log", "w", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address, tmp_path / "server.log")
        yield address, process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)


def wait_for(address: str, output: Path) -> None:
    until = time.monotonic() + 180
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).read()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not come up: {output.read_text()[-2000:]}")


def test_a_server_that_stalls_in_the_middle(server: tuple[str, int], tmp_path: Path) -> None:
    address, group = server
    run = tmp_path / "quick"
    unit = begin(run, 1)
    log(unit, range(1, 11))
    tracker = Tracking(run, run_key="k", experiment="quick", tracking_uri=address, params={"seed": 1})
    first = tracker.sync()
    assert first.delivered, first.message

    os.killpg(group, signal.SIGSTOP)
    log(unit, range(11, 21))
    unit.finish(COMPLETED, {"val_accuracy": 0.2}, step=20)
    trial(run, 2)
    tracker.start()
    time.sleep(3)  # requests now wait in the server's socket; it will answer them when nobody listens any more
    began = time.monotonic()
    delivery = tracker.close(timeout=2.0)
    assert time.monotonic() - began < 2.5
    assert (delivery.delivered, delivery.pending) == (False, 2)

    os.killpg(group, signal.SIGCONT)
    (run / "search.json").write_text("{}")
    later = Tracking(run, run_key="k", experiment="quick", tracking_uri=address, params={"seed": 1}).close(timeout=60)
    assert later.delivered, later.message
    look = Seen(address)
    assert look.statuses() == {"": "FINISHED", "trial/0001": "FINISHED", "trial/0002": "FINISHED"}
    assert look.steps("trial/0001") == list(range(1, 21))
    assert look.steps("trial/0002") == list(range(1, 11))
    assert look.files(look.parent) == {"search.json"}


PROGRAM = """
import sys, time
from pathlib import Path
from raydistill.track import Tracking
from tests.track.conftest import begin, log
run = Path(sys.argv[1])
unit = begin(run, 1)
tracker = Tracking(run, run_key="k", experiment="quick")
tracker.start()
for step in range(1, 100000):
    log(unit, range(step, step + 1))
    time.sleep(0.02)
"""


def test_a_process_killed_while_it_delivers(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL at whatever moment; then a start in a fresh process, which writes nothing to stdout or stderr."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(run)], cwd=root)
    try:
        until = time.monotonic() + 120
        uri = f"sqlite:///{run}/mlflow.db"
        while time.monotonic() < until:
            time.sleep(0.37)
            look = Seen(uri)
            if len(look.runs) == 2 and len(look.steps("trial/0001")) > 50:
                break
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    unit = begin(run, 1)
    last = unit.history()[-1]["step"]
    unit.rewind(int(last) - 5)
    log(unit, range(int(last) - 4, int(last) + 6))
    unit.finish(COMPLETED, {}, step=int(last) + 5)
    ending = textwrap.dedent(f"""
        from pathlib import Path
        from raydistill.track import Tracking
        raise SystemExit(0 if Tracking(Path({str(run)!r}), run_key="k", experiment="quick").close().delivered else 1)
    """)
    done = subprocess.run(
        [sys.executable, "-c", ending], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    look = Seen(uri)
    assert look.statuses() == {"": "FINISHED", "trial/0001": "FINISHED"}
    assert look.steps("trial/0001") == list(range(1, int(last) + 6))
