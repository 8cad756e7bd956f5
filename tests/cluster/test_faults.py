"""Machines that die and disks that are full under a whole search, on real Ray nodes: it ends as if nothing had happened."""

import json
import shutil
import signal
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from raydistill import artifacts, storage
from tests.cluster import whole
from tests.cluster.nodes import nodes
from tests.s3 import BUCKET, server

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1800)]

MEGABYTES = 64


@contextmanager
def disk(folder: Path) -> Iterator[bool]:
    """A small disk at ``folder``; says whether there is one, for it takes the right to mount it."""
    folder.mkdir()
    size = f"size={MEGABYTES}m"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True, check=False)
    try:
        yield mounted.returncode == 0
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> None:
    """Leave no byte free."""
    with pytest.raises(OSError, match="No space left"), open(folder / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(2**20))


def test_machines_die_a_disk_fills_up_the_driver_and_the_head_end_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine dies (SIGKILL) in the experts; the disk of another is full in the trials, and the driver is told to go
    (SIGTERM); the head dies in the evaluation; on a new cluster a machine dies in the NAS.

    The nodes share no disk, only a bucket; where the driver goes on there is nothing left of what it had.
    """
    search = whole.write(tmp_path)
    still = whole.undisturbed(search, tmp_path / "still")
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "driver"))
    with ExitStack() as running:
        for name, value in running.enter_context(server()).items():
            monkeypatch.setenv(name, value)
        small = tmp_path / "small"
        can_mount = running.enter_context(disk(small))
        cluster = running.enter_context(nodes(2))
        out = f"s3://{BUCKET}/runs"
        run = storage.place(out) / whole.NAME
        process = whole.start(cluster, search, out)
        whole.reach(process, lambda: whole.pieces(run, "experts"))
        assert cluster.tell("kill") == "1"
        first = whole.finished(run)
        assert cluster.tell("add " + json.dumps({"cache": str(small)})) == "2"

        whole.reach(process, lambda: whole.pieces(run, "trial"))
        if can_mount:
            fill(small)
            whole.reach(process, lambda: moved(run))
        else:
            warnings.warn("no right to mount a small disk: no disk is full in this test", stacklevel=1)
        process.send_signal(signal.SIGTERM)
        said, err = process.communicate(timeout=300)
        assert process.returncode == 130, err
        assert "Traceback" not in err
        assert err.splitlines()[-1].startswith("raydistill: interrupted; go on with: raydistill run ")
        if can_mount:
            assert "No space left on device; free space on " in said + err, said + err
        second = whole.finished(run)
        assert first.items() <= second.items(), "what was done before the machine died was done again"

        shutil.rmtree(tmp_path / "driver")
        process = whole.start(cluster, search, out, "--resume")
        whole.reach(process, lambda: whole.pieces(run, "evaluate"))
        cluster.tell("behead")
        _, err = process.communicate(timeout=300)
        assert process.returncode == 1
        assert "Failed to connect to GCS" in err, "Ray ends a driver whose head is gone, in words of its own"
        third = whole.finished(run)
        assert second.items() <= third.items(), "what was done before the driver went was done again"

        cluster = running.enter_context(nodes(2))
        process = whole.start(cluster, search, out, "--resume")
        whole.reach(process, lambda: whole.pieces(run, "nas"))
        assert cluster.tell("kill") == "1"
        said, err = process.communicate(timeout=900)
        assert process.returncode == 0, err
    assert f"Stored  {out}/{whole.NAME}" in said
    assert third.items() <= whole.finished(run).items(), "what was done before the head died was done again"
    assert whole.outcome(run) == whole.outcome(still)


def moved(run: Path) -> bool:
    """Whether a trial went on on another machine."""
    return any(
        "on another machine" in note for unit in artifacts.units(run, "trial") for note in unit.read().get("notes", [])
    )
