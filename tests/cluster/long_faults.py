"""Random kills for as long as you like, by hand: searches on several Ray nodes that all must end as if undisturbed.

    python -m tests.cluster.long_faults [--minutes 60] [--seed 0] [--nodes 2] [--kinds driver machine …]

Again and again the search of ``whole`` (experts, trials, set, evaluation, NAS) is begun on a cluster of this machine, and
every few seconds something is killed (SIGKILL): the driver, a worker's machine (another joins), or a worker's process; or a
machine neither hears nor answers for a while: too long, so that it is taken for dead and comes back as a stranger, or not that
long, so that it is merely slow. A driver that is gone is started again with ``--resume``. Each search's numbers, and the bytes of
its set, are compared with those of one that was left alone; the figures are printed at the end. Exit code 1: one of them
differed, or did something twice.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.cluster.nodes import Nodes, nodes
from tests.cluster.whole import NAME, finished, outcome, start, undisturbed, write
from tests.runtime.test_on_ray import descendants

KINDS = ["driver", "machine", "worker", "slow machine", "cut off machine"]
PAUSE = (2.0, 20.0)
"Seconds between two kills."
SLOW, CUT_OFF = 3.0, 20.0
"Seconds without an answer; after 5 to 10 a machine is taken for dead, see ``nodes``."
PATIENCE = 900
"Seconds that a search may take on from its last kill."


def workers(cluster: Nodes) -> list[int]:
    """Processes in which a piece of work runs."""
    found = []
    for pid in descendants(cluster.process.pid):
        with suppress(OSError):
            if b"ray::RaydistillWorker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def kill_something(cluster: Nodes, driver: "subprocess.Popen[str]", draw: random.Random, kinds: list[str]) -> str:
    """One kill, or a machine that does not answer; says of what, or that there was nothing."""
    what = draw.choice(kinds)
    if what == "driver":
        driver.kill()
        driver.communicate(timeout=60)
    elif what == "machine":
        cluster.tell("kill")
        cluster.tell("add")
    elif what in ("slow machine", "cut off machine"):
        cluster.tell("freeze")
        time.sleep(SLOW if what == "slow machine" else CUT_OFF)
        cluster.tell("thaw")
        if what == "cut off machine":  # Ray's own process ends when it learns that it was given up
            cluster.tell("kill")
            cluster.tell("add")
    else:
        alive = workers(cluster)
        if not alive:
            return "nothing"
        with suppress(ProcessLookupError):
            os.kill(draw.choice(alive), signal.SIGKILL)
    return what


def disturbed(
    cluster: Nodes, search: Path, out: Path, draw: random.Random, until: float, kills: Counter[str], kinds: list[str]
) -> list[str]:
    """One search from its beginning to its end; returns what went wrong."""
    run, wrong = out / NAME, []
    driver, done = start(cluster, search, out), dict[str, bytes]()
    quiet_since = time.monotonic()
    while True:
        pause = draw.uniform(*PAUSE)
        with suppress(subprocess.TimeoutExpired):
            driver.communicate(timeout=pause if time.monotonic() < until else PATIENCE)
        now = finished(run)
        wrong += [f"{name} was done twice" for name in done if now.get(name) != done[name]]
        done = now
        if driver.poll() == 0:
            return wrong
        if driver.poll() is not None and driver.returncode != -signal.SIGKILL:
            wrong.append(f"a driver ended with {driver.returncode}")
        if time.monotonic() > until and time.monotonic() - quiet_since > PATIENCE:
            driver.kill()
            return [*wrong, f"not at its end {PATIENCE} seconds after the last kill"]
        if driver.poll() is None and time.monotonic() < until:
            kills[kill_something(cluster, driver, draw, kinds)] += 1
            quiet_since = time.monotonic()
        if driver.poll() is not None:
            driver = start(cluster, search, out, "--resume")


def main() -> int:
    """Kill, compare, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    given = parser.parse_args()
    draw, kills, wrong, searches = random.Random(given.seed), Counter[str](), [], 0
    with tempfile.TemporaryDirectory(prefix="long_faults-") as place, nodes(given.nodes) as cluster:
        folder = Path(place)
        search = write(folder)
        expected = outcome(undisturbed(search, folder / "still"))
        began = time.monotonic()
        while time.monotonic() - began < 60 * given.minutes:
            out = folder / f"{searches:03}"
            wrong += disturbed(cluster, search, out, draw, began + 60 * given.minutes, kills, given.kinds)
            searches += 1
            if outcome(out / NAME) != expected:
                wrong.append(f"search {searches} ended with other numbers")
        minutes = (time.monotonic() - began) / 60
    killed = ", ".join(f"{count} {what}" for what, count in sorted(kills.items()))
    print(f"{searches} searches in {minutes:.1f} minutes on {given.nodes} nodes; disturbed: {killed or 'nothing'}")
    print("\n".join(wrong) or "all ended as the one that was left alone, and nothing that was done was done again")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
