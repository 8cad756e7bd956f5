"""Compare two ways of doing the same work, each in a process of its own (so with its own allocator), in turn A B A B.

A worker is started as ``python MODULE --worker NAME``; for each line on its standard input it does the work once and
prints the seconds. Quote the medians of the ratios: absolute times are noise on shared machines.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence


class Worker:
    """One process that does one kind of work on demand."""

    def __init__(self, script: str, name: str, environment: Mapping[str, str]) -> None:
        command = [sys.executable, script, "--worker", name]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )

    def once(self) -> float:
        """Seconds of one piece of work."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def serve(work: Callable[[], object]) -> None:
    """A worker's main loop."""
    for _ in sys.stdin:
        started = time.perf_counter()
        work()
        print(time.perf_counter() - started, flush=True)


def compare(
    script: str,
    plain: str,
    ours: Sequence[str],
    plain_environment: Mapping[str, str],
    environment: Mapping[str, str],
    rounds: int,
) -> None:
    """Print the medians of ``plain`` and of each of ``ours``, and of their ratios round by round."""
    workers = {plain: Worker(script, plain, plain_environment)}
    workers |= {name: Worker(script, name, environment) for name in ours}
    for worker in workers.values():
        worker.once()
    times: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            times[name].append(worker.once())
    for worker in workers.values():
        worker.close()
    print(f"  {plain:<20} {statistics.median(times[plain]):8.3f} s")
    for name in ours:
        ratios = [a / b for a, b in zip(times[plain], times[name], strict=True)]
        low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
        print(
            f"  {name:<20} {statistics.median(times[name]):8.3f} s   {middle:5.2f} x faster ({low:.2f} to {high:.2f})"
        )
