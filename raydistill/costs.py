"""What a forecast says: pieces of work, how often they come and how long each takes; and how a person reads it."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Cost(NamedTuple):
    """One line of the forecast."""

    stage: str
    what: str
    times: float
    "How often; of what may be stopped early, how often it is expected."
    each: float
    "Seconds."
    at_once: int
    "Workers that share it."
    pieces: int = 1
    "Into how many pieces it falls that different workers can do."
    kinds: tuple[float, ...] = ()
    "Seconds of the kinds that ``each`` is the mean of, equally many of each."

    @property
    def seconds(self) -> float:
        """Of wall time."""
        return self.times * self.each / self.at_once


class Forecast(NamedTuple):
    """What ``raydistill plan`` says."""

    costs: list[Cost]
    disk: int
    "Bytes of expert trajectories."
    disk_peak: int
    "The most that they take while they are trained."
    memory: int
    "Bytes that a worker had come to need after it was timed."

    @property
    def seconds(self) -> float:
        """Of wall time, all stages."""
        return sum(cost.seconds for cost in self.costs)

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        rows = [cost._asdict() | {"seconds": cost.seconds} for cost in self.costs]
        disk = {"disk_bytes": self.disk, "disk_peak_bytes": self.disk_peak}
        return {"costs": rows, "seconds": self.seconds, **disk, "memory_bytes": self.memory}


def show(found: Forecast) -> None:
    """Print the forecast for a person."""
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", "what", "how often", "seconds each", "at once", "wall time", box=None)
    for cost in found.costs:
        cells = (f"{cost.times:.4g}", f"{cost.each:.3g}", str(cost.at_once), duration(cost.seconds))
        table.add_row(cost.stage, cost.what, *cells)
    table.add_section()
    table.add_row("all", "", "", "", "", duration(found.seconds))
    Console().print(table)
    disk = f"disk for experts {found.disk / 1e9:.2f} GB, while they are trained {found.disk_peak / 1e9:.2f} GB"
    print(f"memory of a worker {found.memory / 1e9:.1f} GB; {disk}")


def show_parts(parts: Mapping[str, Forecast], together: Mapping[str, float]) -> None:
    """Print the forecast of several searches for a person.

    Args:
        parts: name → its forecast, as if it were run alone.
        together: stage → seconds of wall time for all of them.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("part", *together, "all", box=None)
    for name, found in parts.items():
        of = [sum(cost.seconds for cost in found.costs if cost.stage == stage) for stage in together]
        table.add_row(name, *(duration(seconds) if seconds else "–" for seconds in of), duration(found.seconds))
    table.add_section()
    table.add_row("together", *map(duration, together.values()), duration(sum(together.values())))
    Console().print(table)
    print(
        "Experts that parts share are trained once; `raydistill plan FILE.py:PART` says what a part's time is made of."
    )


def duration(seconds: float) -> str:
    """``3 min 20 s`` and the like."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
