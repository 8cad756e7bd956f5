"""A driver on a cluster whose nodes the test adds and kills, and what its workers do: ``python -m … ADDRESS FOLDER``.

It says each result as a line of JSON.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from raydistill.distill.loop import Outcome
from raydistill.errors import ConfigError, EnvironmentIssue, FullDisk, OutOfMemory
from raydistill.runtime.base import Team
from raydistill.search.objective import Engine
from tests.search import fakes

PATIENCE = 400.0


def until(ready: Callable[[], bool]) -> None:
    """Wait."""
    end = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


def lent() -> dict[str, Any]:
    """What this worker has of its machine, and which machine that is."""
    import ray

    context = ray.get_runtime_context()
    return {"gpus": context.get_assigned_resources().get("GPU", 0.0), "node": context.get_node_id()}


def meet(x: int, folder: str, device: str) -> int:
    """Wait until two processes have come here."""
    (Path(folder) / str(os.getpid())).touch()
    until(lambda: len(list(Path(folder).iterdir())) > 1)
    return x


def look(device: str) -> tuple[str, str]:
    """Where this is."""
    return lent()["node"], device


def greedy(x: int, most: float, device: str) -> int:
    """Run out of memory with less than ``most`` of a GPU."""
    if lent()["gpus"] < most:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation")
    return x * x


def crowded(x: int, folder: str, most: int, device: str) -> int:
    """Find the disk full, on the first machines that this is done on."""
    (Path(folder) / lent()["node"]).touch()
    first = sorted(Path(folder).iterdir(), key=lambda path: path.stat().st_mtime_ns)[:most]
    if lent()["node"] in [path.name for path in first]:
        raise FullDisk("cannot write it: No space left on device")
    return x * x


def stay(x: int, folder: str, device: str) -> int:
    """Wait until there is a file ``go``."""
    (Path(folder) / f"{x}-{os.getpid()}").touch()
    until((Path(folder) / "go").exists)
    return x * x


def train(directory: str, team: Team, device: str) -> None:
    """Note the size of each team that begins; none ends before there is a file ``lost``."""
    notes, lost = Path(directory) / "sizes", Path(directory) / "lost"
    if team.rank == 0:
        with open(notes, "a", encoding="utf-8") as file:
            file.write(f"{team.size}\n")
    until(lost.exists)
    team.report({"epoch": 1.0})
    time.sleep(1)


def distill(config: Any, data: Any, *, directory: Path, **rest: Any) -> Outcome:
    """The fake distillation, which wants a GPU for itself."""
    greedy(0, 1.0, "")
    return fakes.distill(config, data, directory=directory, **rest)


def say(**what: Any) -> None:
    """One line for the test."""
    print(json.dumps(what), flush=True)


def main(address: str, folder: Path) -> None:
    """All of it, one after another."""
    from raydistill.runtime import pool
    from raydistill.runtime.on_ray import connect
    from raydistill.runtime.train_on_ray import train_together
    from raydistill.search import tune
    from tests.search.test_local import Heard

    runtime = connect(address)
    for name in ("meet", "stay"):
        (folder / name).mkdir()
    say(before=runtime.capacity(1, 0))
    items = [{"x": x} for x in range(4)]
    found = runtime.map(meet, items, {"folder": str(folder / "meet")})
    say(met=sorted(index for index, _ in found), after=runtime.capacity(1, 0))

    sys.stdin.readline()
    seen = [value for _, value in runtime.map(look, [{}] * 3, {}, 1, 0.5, "H100")]
    try:
        runtime.capacity(1, 0.5, "T4")
    except ConfigError as error:
        say(seen=seen, places=runtime.capacity(0.5, 0.5, "H100"), refused=str(error))

    told: list[tuple[int, str]] = []
    on_h100 = (0.5, 0.5, "H100")
    done = sorted(runtime.map(greedy, items, {"most": 1.0}, *on_h100, told=lambda *what: told.append(what)))
    try:
        list(runtime.map(greedy, items, {"most": 2.0}, *on_h100))
    except OutOfMemory as error:
        say(done=done, told=told, too_much=str(error))

    heard = Heard()
    search = fakes.make_search(trials=3, cpus=0.5, gpus=0.5, accelerator="H100")
    tune.run_search(search, folder / "search", fakes.make_data(), runtime, heard, Engine(distill, fakes.rate))
    say(again=[event[1:] for event in heard.events if event[0] == "again"])

    for name, most in (("crowded", 1), ("all-crowded", 99)):
        (folder / name).mkdir()
        told.clear()
        try:
            shared = {"folder": str(folder / name), "most": most}
            done = sorted(runtime.map(crowded, items, shared, 1, told=lambda *what: told.append(what)))
            say(done=done, told=told, full=len(runtime.full), places=runtime.capacity(1, 0))
        except FullDisk as error:
            say(full=len(runtime.full), error=str(error))
    try:
        runtime.capacity(1, 0)
    except EnvironmentIssue as error:
        say(none=str(error))
    runtime.full.clear()  # as in the next start

    pool.MAX_RESTARTS = 0
    say(stayed=sorted(runtime.map(stay, items, {"folder": str(folder / "stay")})))

    team = folder / "team"
    team.mkdir()
    shared = {"directory": str(team)}
    train_together(runtime, train, shared, workers=3, cpus=1, gpus=0, directory=team, max_failures=1)
    say(sizes=[int(line) for line in (team / "sizes").read_text(encoding="utf-8").split()])
    runtime.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
