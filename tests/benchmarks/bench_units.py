"""What the driver pays for a unit of work: 100,000 empty ones through the NAS stage's bookkeeping, by hand.

    python -m tests.benchmarks.bench_units --folder DIR [--units 100000] [--address local]

Prints, for each tenth of the units, how many a second were handed out, taken in and written down, and how many bytes the
driver's memory grew by for each; then what a second start takes that finds all of them done, and what the report reads.
Growth shows as tenths that slow down. On a disk most of the time is its own, until it says that a unit is safe; on
``/dev/shm`` the figures are the program's. Without ``--address`` there is no Ray; with it Ray's part is in the figures.
"""

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from raydistill import nas_stage
from raydistill.artifacts import write_json
from raydistill.data.distilled import DistilledSet
from raydistill.models.flops import training_flops
from raydistill.nas import rank, summary
from raydistill.nas.rank import Item
from raydistill.nas.space import NASConfig
from raydistill.runtime.base import Runtime
from raydistill.runtime.local import Local
from raydistill.track import Tracking
from tests.search.fakes import make_data, make_search

NETWORKS = ("ConvNetD1", "ConvNetD2")
TENTHS = 10


def empty(**given: Any) -> dict[str, Any]:
    """A training that takes no time."""
    return {"accuracy": 0.5, "finite": True, "seconds": 0.0, "train_seconds": 0.0, "images": 1, "steps": 1, "flops": 1}


class Clock:
    """A display that notes when each tenth was done, and how large the process was then."""

    def __init__(self, units: int) -> None:
        self.every, self.count = max(1, units // TENTHS), 0
        self.marks = [(time.perf_counter(), resident())]

    def advance(self, stage: str, n: int = 1, text: str = "", share: float | None = None) -> None:
        """One unit more is done."""
        self.count += n
        if self.count % self.every == 0:
            self.marks.append((time.perf_counter(), resident()))


class Noted:
    """A runtime that tells the clock when all units are begun and the first is sent."""

    def __init__(self, runtime: Runtime, clock: Clock) -> None:
        self.runtime, self.clock = runtime, clock

    def capacity(self, *share: Any) -> int:
        """As the runtime's."""
        return self.runtime.capacity(*share)

    def map(self, *given: Any, **how: Any) -> Any:
        """As the runtime's."""
        if self.clock.count == 0:
            self.clock.marks.append((time.perf_counter(), resident()))
        return self.runtime.map(*given, **how)


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def rate(stage: nas_stage.Stage, items: list[Item], name: str) -> None:
    """Do all items and print the tenths."""
    clock = Clock(len(items))
    started = time.perf_counter()
    noted: Any = Noted(stage.runtime, clock)
    nas_stage._rate(stage._replace(display=clock, runtime=noted), items)  # type: ignore[arg-type]
    whole = time.perf_counter() - started
    print(f"{name}: {len(items)} units in {whole:.1f} s, {len(items) / whole:.0f} units a second")
    first = 0 if len(clock.marks) == TENTHS + 2 else 1  # with nothing to do none is begun
    for number, ((begun, before), (ended, after)) in enumerate(zip(clock.marks, clock.marks[1:], strict=False), first):
        done, what = (clock.every, f"tenth {number:2}") if number else (len(items), "begun   ")
        print(f"  {what}: {done / (ended - begun):8.0f} units a second, {(after - before) / done:8.0f} bytes a unit")


def main() -> None:
    """Measure, print, and remove what was written."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--address")
    given = parser.parse_args()
    runtime: Runtime = Local()
    if given.address:
        from raydistill.runtime.on_ray import connect

        runtime = connect(given.address)
    run = Path(tempfile.mkdtemp(prefix="bench_units-", dir=given.folder))
    try:
        measure(run, runtime, given.units)
    finally:
        runtime.close()
        shutil.rmtree(run)


def measure(run: Path, runtime: Runtime, units: int) -> None:
    """All figures of one run folder."""
    config = NASConfig(networks=NETWORKS, students=units // len(NETWORKS), confirm=0)
    search, data = make_search().model_copy(update={"nas": config}), make_data()
    pixels, labels = torch.zeros(2, 1, 8, 8), torch.tensor([0, 1])
    manifest: Mapping[str, Any] = {"checksums": {"tensors.safetensors": "0"}}
    images = DistilledSet(pixels, labels, data.encoding, ("a", "b"), manifest=manifest)
    write_json(run / "search.json", search.to_json())
    rank.train_item = empty
    for network in NETWORKS:
        training_flops(network, data.train.shape, data.train.num_classes)  # imports, once
    stage = nas_stage.Stage(search, config, run, data, images, runtime, None)  # type: ignore[arg-type]
    items = [Item("distilled", network, student) for network in NETWORKS for student in range(config.students)]
    rate(stage, items, "first start")
    rate(stage, items, "second start, all done")
    started = time.perf_counter()
    found = summary.rated(run, "distilled")
    seconds = time.perf_counter() - started
    print(
        f"read for the report: {len(items) / seconds:.0f} units a second, {sum(len(one.runs) for one in found)} found"
    )
    started = time.perf_counter()
    pending = Tracking(run, run_key="bench", experiment="bench")._delivery().pending
    print(
        f"looked at by the tracker: {len(items) / (time.perf_counter() - started):.0f} units a second, {pending} open"
    )


if __name__ == "__main__":
    main()
