"""Work on a Ray cluster of this machine."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from raydistill.errors import ConfigError, EnvironmentIssue
from raydistill.runtime.local import Local
from raydistill.runtime.on_ray import OnRay, connect
from tests.runtime import work
from tests.runtime.cluster import MARK

pytestmark = [pytest.mark.timeout(600), pytest.mark.ray]


def test_results_equal_those_of_one_process(on_ray: OnRay) -> None:
    items = [{"x": x} for x in range(7)]
    shared = {"table": np.arange(1000)}
    assert sorted(on_ray.map(work.scale, items, shared)) == list(Local().map(work.scale, items, shared))


def test_workers_share_read_only_memory_and_have_their_threads_and_environment(on_ray: OnRay) -> None:
    items = [{"name": MARK}] * 4
    found = [seen for _, seen in on_ray.map(work.look, items, {"table": np.zeros(10**6)}, cpus=1)]
    assert {seen["writeable"] for seen in found} == {False}
    assert {seen["threads"] for seen in found} == {1}
    assert {seen["environment"] for seen in found} == {"set before the start"}
    assert os.getpid() not in {seen["pid"] for seen in found}


def test_no_items_are_no_work(on_ray: OnRay) -> None:
    assert list(on_ray.map(work.refuse, [], {})) == []


def test_mendable_errors_arrive_as_they_were_raised(on_ray: OnRay) -> None:
    with pytest.raises(ConfigError, match=r"^x=1: too small; use 3$"):
        list(on_ray.map(work.refuse, [{"x": 1}], {}))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(on_ray.map(work.refuse, [{"x": 2}], {}))


def test_an_item_whose_process_dies_is_done_again(on_ray: OnRay, tmp_path: Path) -> None:
    items = [{"x": x} for x in range(4)]
    found = on_ray.map(work.fragile, items, {"deaths": 1, "folder": str(tmp_path)})
    assert sorted(found) == [(0, 0), (1, 1), (2, 4), (3, 9)]
    tries = sorted(path.name for path in tmp_path.iterdir())
    assert tries == ["0-0", "1-0", "1-1", "2-0", "3-0"]


def test_an_item_whose_process_always_dies_is_given_up(
    on_ray: OnRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raydistill.runtime.pool.MAX_RESTARTS", 0)
    with pytest.raises(EnvironmentIssue, match="process of item 0 died 1 times"):
        list(on_ray.map(work.fragile, [{"x": 1}], {"deaths": 99, "folder": str(tmp_path)}))


def test_no_item_waits_for_a_worker_that_finds_no_room(on_ray: OnRay, tmp_path: Path) -> None:
    """As when a machine is gone: the worker that is left does all, and the new one comes up when there is room again."""
    import ray

    results = on_ray.map(work.die_when_told, [{"x": x} for x in range(4)], {"folder": str(tmp_path)})
    found = [next(results)]
    bystander = ray.remote(work.Bystander).options(num_cpus=1).remote()  # next in the line for a core
    try:
        (tmp_path / "go").touch()
        found += results
    finally:
        ray.kill(bystander)
    assert sorted(found) == [(0, 0), (1, 1), (2, 4), (3, 9)]
    assert len(list(on_ray.map(work.nap, [{"seconds": 0.0}] * 2, {}))) == 2


def test_what_is_left_undone_is_given_back(on_ray: OnRay) -> None:
    results = on_ray.map(work.nap, [{"seconds": 0.0}, {"seconds": 600.0}], {})
    assert next(results) == (0, 0.0)
    results.close()  # type: ignore[attr-defined]
    assert len(list(on_ray.map(work.nap, [{"seconds": 0.0}] * 2, {}))) == 2


def test_what_a_signal_handler_raises_comes_through_at_once(on_ray: OnRay) -> None:
    class Stop(BaseException):
        pass

    def stop(number: int, frame: object) -> None:
        raise Stop

    on_ray.ready()
    before = signal.signal(signal.SIGTERM, stop)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    begun = time.monotonic()
    try:
        with pytest.raises(Stop):
            list(on_ray.map(work.nap, [{"seconds": 600.0}], {}))
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, before)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    ("cpus", "gpus", "message"),
    [
        (1, 1, r"^gpus=1: no machine of this cluster has more than 0; lower gpus or use an --address that has them$"),
        (3, 0, r"^cpus=3: no machine of this cluster has more than 2; "),
    ],
)
def test_what_the_cluster_does_not_have_is_refused_at_once(
    on_ray: OnRay, cpus: float, gpus: float, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        list(on_ray.map(work.nap, [{"seconds": 0.0}], {}, cpus=cpus, gpus=gpus))
    assert on_ray.capacity(0.5, 0) == 4


def test_every_open_port_is_on_the_loopback_address(on_ray: OnRay) -> None:
    on_ray.ready()
    sockets = {
        os.readlink(link).removeprefix("socket:[").removesuffix("]")
        for pid in descendants(os.getpid())
        for link in Path(f"/proc/{pid}/fd").glob("*")
        if link.is_symlink() and os.readlink(link).startswith("socket:")
    }
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                listening.append(fields[1].split(":")[0])
    # 127.0.0.1, ::ffff:127.0.0.1 and ::1 as the kernel prints them.
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert len(listening) > 5
    assert set(listening) <= loopback


def descendants(pid: int) -> list[int]:
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    found = [pid]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found


def test_a_stranger_without_the_token_is_not_admitted(on_ray: OnRay) -> None:
    import ray

    on_ray.ready()
    address = ray.get_runtime_context().gcs_address
    code = f"from ray._raylet import GcsClient; GcsClient({address!r}).internal_kv_keys(b'', None, 5); print('in')"
    environment = {k: v for k, v in os.environ.items() if k != "RAY_AUTH_TOKEN"}
    inside = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True)
    assert inside.stdout == "in\n", inside.stderr
    environment |= {"RAY_AUTH_MODE": "disabled", "HOME": "/nonexistent"}
    outside = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert outside.stdout == ""
    assert "InvalidAuthToken" in outside.stderr


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "ray://127.0.0.1:10001", "head", "head:port", ":6379"])
def test_an_address_of_no_known_form_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"must be local, auto or HOST:PORT"):
        connect(address)


NOT_THERE = """
import sys, time
from raydistill.runtime.on_ray import connect
for address in ("127.0.0.1:1", "auto"):
    begun = time.monotonic()
    try:
        connect(address).ready()
    except Exception as error:
        print(type(error).__name__, address, time.monotonic() - begun < 20, str(error).count(chr(10)), str(error))
"""


def test_a_cluster_that_is_not_there_is_one_line_and_soon() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    ended = subprocess.run(
        [sys.executable, "-c", NOT_THERE], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    refused, none = ended.stdout.splitlines()
    assert refused.startswith("EnvironmentIssue 127.0.0.1:1 True 0 no Ray cluster answers at --address 127.0.0.1:1: ")
    assert none.startswith("EnvironmentIssue auto True 0 no Ray cluster answers at --address auto: ")
    assert "use --address local" in refused


WHOLE_LIFE = """
import os, signal, sys, time
from contextlib import ExitStack
from pathlib import Path
from raydistill.runtime.on_ray import connect
import ray
before = dict(os.environ), sys.dont_write_bytecode, sys.pycache_prefix
begun = time.monotonic()
runtime = connect("local", cpus=1, imports=())
returned = time.monotonic() - begun
print("torch" in sys.modules)
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
runtime.ready()
print(returned < 0.5 * (time.monotonic() - begun))
os.kill(os.getpid(), signal.SIGTERM)
session = Path(ray._private.worker._global_node.get_session_dir_path()).parent
print(session.exists())
runtime.close()
runtime.close()
print(session.exists())
print((dict(os.environ), sys.dont_write_bytecode, sys.pycache_prefix) == before)
with ExitStack() as end:
    end.callback((second := connect("local", cpus=1, imports=())).close)
    second.ready()
    print(len(ray.nodes()))
"""


def test_a_private_cluster_comes_in_the_background_and_leaves_nothing() -> None:
    """Were ``connect`` to wait, PyTorch and the data could not load meanwhile."""
    home = Path.home() / ".ray" / "auth_token"
    before = home.exists()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    ended = subprocess.run(
        [sys.executable, "-c", WHOLE_LIFE], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    assert ended.stdout.split() == ["False", "True", "handled", "True", "False", "True", "1"]
    assert ended.stderr == ""
    assert home.exists() == before
