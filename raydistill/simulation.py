"""How a search would go on 1 … 1,000 workers: its forecast pieces on a simulated clock, in the order of the real work.

What a worker takes for a piece is the forecast's, timed where the forecast was; what the driver takes for one is measured
there too. Left out: what starting a cluster takes, and what a piece's data take to come to another machine.
"""

import itertools
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from raydistill.artifacts import COMPLETED, Unit
from raydistill.costs import Cost, duration
from raydistill.errors import ConfigError
from raydistill.nas.schedule import Dry, dry_run
from raydistill.runtime.base import Runtime

TRIED = 200
"Empty pieces that the driver's part is measured with."

MOST_PIECES = 2_000_000
"More would take minutes to think through."


class Simulated(NamedTuple):
    """A search on so many workers."""

    workers: int
    seconds: float
    "Of wall time, all stages."
    busy: float
    "Share of the workers' time in which they work, in [0, 1]."
    driver: float
    "Share of the time in which the driver hands pieces out, in [0, 1]."
    limit: str
    "The longest stage, and what keeps it from being shorter."


def sizes(text: str) -> list[int]:
    """``1,8,64`` as numbers of workers.

    Raises:
        ConfigError: it is something else.
    """
    words = text.split(",")
    if not all(word.strip().isdecimal() and 1 <= int(word) <= 100_000 for word in words):
        raise ConfigError(f"--simulate {text!r}: write numbers of workers from 1 to 100000, such as 1,8,64")
    return [int(word) for word in words]


def simulate(costs: Sequence[Cost], parallel: int, workers: int, handing: float) -> Simulated:
    """Think a forecast through: stage after stage, in each the pieces in the order in which they are handed out.

    Args:
        costs: of the forecast.
        parallel: ``budget.parallel``, which a search's trials wait by.
        workers: how many there are.
        handing: seconds that the driver needs for a piece.

    Raises:
        ConfigError: there are too many pieces.
    """
    if sum(cost.pieces for cost in costs) > MOST_PIECES:
        raise ConfigError(f"--simulate: more than {MOST_PIECES} pieces; lower nas.students or evaluate.students")
    parts = [(stage, *_dry(list(part), parallel, workers, handing)) for stage, part in _by_stage(costs)]
    seconds = sum(dry.seconds for _, dry, _ in parts)
    if not seconds:
        return Simulated(workers, 0.0, 1.0, 0.0, "nothing to do")
    stage, longest, reason = max(parts, key=lambda part: part[1].seconds)
    return Simulated(
        workers,
        seconds,
        sum(dry.busy * dry.seconds for _, dry, _ in parts) / seconds,
        sum(dry.driver * dry.seconds for _, dry, _ in parts) / seconds,
        f"{stage}: {'the driver' if longest.driver > 0.5 else reason}",
    )


def handing(runtime: Runtime) -> float:
    """Seconds that a piece costs the driver, of ``TRIED`` empty ones: sent, taken in, and their units written twice.

    The units lie where temporary files do; another disk may take longer to say that they are safe.
    """
    items = [{"index": index} for index in range(TRIED)]
    list(runtime.map(nothing, items, {}))  # processes start and import
    with tempfile.TemporaryDirectory(prefix="raydistill-") as folder:
        units = [Unit(Path(folder) / "units" / "empty" / f"{index:04d}") for index in range(TRIED)]
        started = time.perf_counter()
        for unit in units:
            unit.begin("empty", {}, {})
        for index, _ in runtime.map(nothing, items, {}):
            units[index].finish(COMPLETED, {})
        return (time.perf_counter() - started) / TRIED


def nothing(*, index: int, device: str) -> int:
    """An empty piece of work."""
    return index


def show(simulated: Sequence[Simulated], handing: float) -> None:
    """Print the table for a person; nothing without rows."""
    if not simulated:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("workers", "wall time", "busy", "driver", "what the longest stage waits for", box=None)
    for one in simulated:
        cells = (duration(one.seconds), f"{100 * one.busy:.0f} %", f"{100 * one.driver:.0f} %", one.limit)
        table.add_row(str(one.workers), *cells)
    Console().print(table)
    print(f"simulated: pieces as long as here, {1000 * handing:.2f} ms of the driver for each")


def _by_stage(costs: Iterable[Cost]) -> Iterable[tuple[str, Iterable[Cost]]]:
    return itertools.groupby(costs, key=lambda cost: cost.stage)


def _dry(costs: Sequence[Cost], parallel: int, workers: int, handing: float) -> tuple[Dry, str]:
    """The stage's schedule, and what it waits for."""
    how: dict[str, Callable[[Sequence[Cost]], list[float]]] = {
        "search": _trials,
        "evaluate": _largest_first,
        "nas": _largest_first,
    }
    pieces = how.get(costs[0].stage, _in_order)(costs)
    window = parallel if costs[0].stage == "search" else None
    dry = dry_run(pieces, workers, handing, window)
    if window is not None and window < min(workers, len(pieces)):
        return dry, f"budget.parallel={parallel}"
    if len(pieces) < workers:
        return dry, f"{len(pieces)} pieces for {workers} workers" if len(
            pieces
        ) > 1 else "one piece, which one worker does"
    return dry, "its longest piece" if dry.seconds < 1.1 * max(pieces) else "workers"


def _in_order(costs: Sequence[Cost]) -> list[float]:
    return [seconds for cost in costs for seconds in _pieces(cost)]


def _largest_first(costs: Sequence[Cost]) -> list[float]:
    return sorted(_in_order(costs), reverse=True)


def _trials(costs: Sequence[Cost]) -> list[float]:
    """Seconds of each trial: all begin, and the further a line of the forecast goes the fewer of them come there."""
    trials = [0.0] * max(cost.pieces for cost in costs)
    for cost in costs:
        for number in range(cost.pieces):
            trials[number] += cost.times * cost.each / cost.pieces
    random.Random(0).shuffle(trials)  # which of them go far is not known before
    return trials


def _pieces(cost: Cost) -> list[float]:
    kinds = cost.kinds or (cost.each,)
    scale = cost.times * cost.each / sum(kinds[i % len(kinds)] for i in range(cost.pieces))
    return [scale * kinds[i % len(kinds)] for i in range(cost.pieces)]
