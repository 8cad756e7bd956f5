"""How a search goes, as metrics of the Ray cluster; Prometheus collects them and ``cluster/grafana.json`` draws them.

Ray exports a gauge only if it was set since the last time, every ten seconds; so a thread sets them all again and again.
Prometheus works out what is done in an hour: it knows what happened while this process was not there.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

EVERY = 5.0
"Seconds between two settings: half of Ray's interval, so that none is missed."

SERIES = {
    "raydistill_units": ("Units of work that a stage has", ("search", "stage")),
    "raydistill_units_done": ("Units of work that are done, those of earlier starts included", ("search", "stage")),
    "raydistill_trials": ("Trials of a search by state", ("search", "status")),
    "raydistill_best_val_accuracy": ("Highest validation accuracy of a completed trial, from 0 to 1", ("search",)),
}
"Name → (description, tags); Ray puts ``ray_`` before the names."

STATES = ("running", "completed", "stopped", "diverged", "failed")


class Gauges:
    """A display (see ``raydistill.display``) whose reader is the cluster; Ray must be up when it is first told something.

    Args:
        search: the tag of all its series.
    """

    def __init__(self, search: str) -> None:
        self.search = search
        self._lock = threading.Lock()
        self._stage = ""
        self._units: dict[str, int] = {}
        self._done = Counter[str]()
        self._trials: dict[int, str] = {}
        self._best: float | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        """A stage begins."""
        with self._lock:
            self._stage = name
            self._units[name], self._done[name] = total, done
            if self._thread is None:
                self._thread = threading.Thread(target=self._repeat, name="gauges", daemon=True)
                self._thread.start()

    def advance(self, stage: str, n: int = 1, text: str = "", share: float | None = None) -> None:
        """``n`` more units of a stage are done."""
        with self._lock:
            self._done[stage] += n

    def trial(self, number: int, step: int, total: int, numbers: Mapping[str, float], status: str = "running") -> None:
        """A trial has come to ``step``, or has ended; units of other stages are not trials."""
        with self._lock:
            if self._stage != "search":
                return
            self._trials[number] = status
            if status == "completed" and "val_accuracy" in numbers:
                self._best = max(self._best or 0.0, numbers["val_accuracy"])

    def note(self, text: str) -> None:
        """Nothing: notes are for people."""

    def close(self) -> None:
        """End the thread; the cluster forgets the values within seconds."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def values(self) -> list[tuple[str, dict[str, str], float]]:
        """(series, tags, value) of all there is to say."""
        with self._lock:
            found: list[tuple[str, dict[str, str], float]] = []
            for name, numbers in (("raydistill_units", self._units), ("raydistill_units_done", self._done)):
                found += [(name, {"stage": stage}, float(number)) for stage, number in numbers.items()]
            if "search" in self._units:
                states = Counter(self._trials.values())
                found += [("raydistill_trials", {"status": state}, float(states[state])) for state in STATES]
            if self._best is not None:
                found.append(("raydistill_best_val_accuracy", {}, self._best))
        return [(name, {"search": self.search, **tags}, value) for name, tags, value in found]

    def _repeat(self) -> None:
        from ray.util.metrics import Gauge

        gauges: dict[str, Any] = {name: Gauge(name, about, tags) for name, (about, tags) in SERIES.items()}
        while True:
            for name, tags, value in self.values():
                gauges[name].set(value, tags)
            if self._over.wait(EVERY):
                return
