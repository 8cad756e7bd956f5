"""Searches as jobs of a real head that listens on the loopback address and asks for its token."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.runtime.test_on_ray import descendants
from tests.tiny import TEXT, call, write_search

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]

# Both read what is not sent to the cluster, so they load here and are something else there.
FAILING = "from pathlib import Path\nPath('runs/here').read_text()\n" + TEXT
ENDLESS = "import time\nfrom pathlib import Path\nif not Path('runs').exists():\n    time.sleep(3600)\n" + TEXT


class Head(NamedTuple):
    """A head that runs: where, who may, and the home folder of its user."""

    address: str
    token: str
    home: Path


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """`ray start --head` on the loopback address."""
    folder = Path(tempfile.mkdtemp(prefix="rj-", dir="/tmp"))  # Ray's sockets need a short path
    (home := folder / "home").mkdir()
    port, dashboard, client, agent = free_ports(4)
    known = Head(f"http://127.0.0.1:{dashboard}", secrets.token_hex(32), home)
    command = [
        *(Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--disable-usage-stats"),
        *(f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"),
        *(f"--dashboard-agent-listen-port={agent}", "--num-cpus=2", f"--temp-dir={folder}/ray"),
    ]
    environment = os.environ | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": known.token,
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_raylet_start_wait_time_s": "300",  # Ray's 30 seconds are too few on a machine that is busy
        "RAY_worker_niceness": "0",  # else other work on the machine takes all from the workers
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("RAY_ADDRESS", None)
    with open(folder / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_for(known, process, folder / "log")
        yield known
    finally:
        everybody = descendants(process.pid)
        for pid in reversed(everybody):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(head: Head, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 600
    request = urllib.request.Request(f"{head.address}/api/version", headers={"Authorization": f"Bearer {head.token}"})
    while process.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(request, timeout=5).read()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the head did not come up: {log.read_text()[-2000:]}")


@pytest.fixture(autouse=True)
def folder(head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, of the test's own; with something in it that stays here."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", head.token)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", head.address)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "here").write_text("not sent", encoding="utf-8")
    return tmp_path


def test_jobs_that_fail_are_stopped_and_succeed(
    head: Head, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "failing.py").write_text(FAILING, encoding="utf-8")
    said = call(capsys, "submit", "failing.py")
    assert said.code == 2, said
    assert "failing.py does not run: FileNotFoundError" in said.out
    assert "failed with exit code 2" in said.err

    (folder / "endless.py").write_text(ENDLESS, encoding="utf-8")
    said = call(capsys, "submit", "endless.py", "--detach")
    assert said.code == 0, said
    name = said.out.strip()
    until = time.monotonic() + 300
    while "RUNNING" not in call(capsys, "jobs", name).out and time.monotonic() < until:
        time.sleep(0.5)
    stopped = call(capsys, "jobs", name, "--stop")
    assert stopped.code == 0, stopped
    assert "STOPPED" in stopped.out
    again = call(capsys, "jobs", name, "--logs")
    assert again.code == 130, again

    write_search(folder)
    said = call(capsys, "submit", "tiny.py:other", "--seed", "3", "--set", 'evaluate.baselines=["random"]')
    assert said.code == 0, said
    assert "succeeded" in said.err
    assert "Report" in said.out
    assert (head.home / "runs" / "other" / "report" / "index.html").is_file()
    assert '"seed": 3' in (head.home / "runs" / "other" / "results.json").read_text()

    listed = call(capsys, "jobs").out
    assert [line.split()[1] for line in listed.splitlines()] == ["FAILED", "STOPPED", "SUCCEEDED"]
    assert head.token not in listed + said.out + said.err + again.out + again.err + stopped.out

    said = call(capsys, "jobs", "raysubmit_unknown")
    assert said.code == 2
    assert said.err.startswith("raydistill: unknown job 'raysubmit_unknown'; ")

    monkeypatch.setenv("RAY_AUTH_TOKEN", "b" * 64)
    said = call(capsys, "jobs")
    assert (said.code, said.out) == (2, "")
    assert "has another token; set RAY_AUTH_TOKEN_PATH" in said.err
    assert "b" * 64 not in said.err


def test_everything_listens_on_the_loopback_address_alone(head: Head) -> None:
    port = int(head.address.rsplit(":", 1)[1])
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if " 0A " in line]
    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{head.address}/api/jobs/", timeout=30)
