"""What the engine costs beside the work: launch to the first trial, the gap before each later one, reporting within a trial.

    python tests/benchmarks/bench_overhead.py [SEARCH.py] [--set KEY=VALUE …]

Starts ``raydistill search`` on an empty folder, as a person would, and watches the folder: a trial has begun when its worker
writes ``unit.json``. Then runs trial 0 on Tune again with the clock around distillation and rating: what is left of its
time is notes on the disk, reports to Tune and the unit's beginning and end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from raydistill import definitions
from raydistill.artifacts import read_json
from raydistill.data.load import load_train
from raydistill.distill import loop
from raydistill.errors import ArtifactError
from raydistill.evaluate import students
from raydistill.runtime.base import worker_environment
from raydistill.search.objective import Engine
from raydistill.search.trials import SETTLED

LOOK_SECONDS = 0.01


def watch(command: list[str], run: Path) -> tuple[list[float], list[float]]:
    """Seconds from launch to each trial's beginning, and to each trial's end, both by its number."""
    begun: dict[Path, float] = {}
    ended: dict[Path, float] = {}
    launched = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        for file in run.glob("units/trial/*/unit.json"):
            now = time.perf_counter() - launched
            begun.setdefault(file, now)
            if file not in ended and _settled(file):
                ended[file] = now
        time.sleep(LOOK_SECONDS)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return [begun[file] for file in sorted(begun)], [ended[file] for file in sorted(ended)]


def _settled(file: Path) -> bool:
    try:
        return read_json(file)["status"] in SETTLED
    except ArtifactError:
        return False


def timed_engine(note: Path) -> Engine:
    """The real work, which adds the seconds of distilling (reports aside) and rating to the file ``note``."""

    def distill(*args: Any, report: Any, **kwargs: Any) -> loop.Outcome:
        inside = 0.0

        def timed(*given: Any) -> bool:
            nonlocal inside
            begun = time.perf_counter()
            try:
                return bool(report(*given))
            finally:
                inside += time.perf_counter() - begun

        add("begun", time.time())
        begun = time.perf_counter()
        outcome = loop.distill(*args, report=timed, **kwargs)
        add("distill", time.perf_counter() - begun - inside)
        return outcome

    def rate(*args: Any, **kwargs: Any) -> list[float]:
        begun = time.perf_counter()
        try:
            return students.rate(*args, **kwargs)
        finally:
            add("rate", time.perf_counter() - begun)

    def add(name: str, value: float) -> None:
        with open(note, "a") as file:
            file.write(json.dumps([name, value]) + "\n")

    return Engine(distill, rate)


def share(definition: str, settings: list[str], root: Path | None, folder: Path) -> tuple[float, float]:
    """One trial on Tune: its seconds in all, and those that were no work."""
    from raydistill.runtime.on_ray import connect
    from raydistill.search.tune import run_search

    one = definitions.load(definition, [*settings, "budget.trials=1", "budget.parallel=1"], 0)
    data, note, run = load_train(one.data, root), folder / "work.jsonl", folder / "one"
    run.mkdir()
    runtime = connect("local", environment=worker_environment())
    try:
        run_search(one, run, data, runtime, engine=timed_engine(note))
    finally:
        runtime.close()
    ended = (run / "units" / "trial" / "0000" / "unit.json").stat().st_mtime
    noted = [json.loads(line) for line in note.read_text().splitlines()]
    whole = ended - next(value for name, value in noted if name == "begun")
    return whole, whole - sum(value for name, value in noted if name != "begun")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("search", nargs="?", default="searches/quickstart.py")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--data-root", type=Path)
    given = parser.parse_args()
    search = definitions.load(given.search, given.settings, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "raydistill", "search", given.search, "--out", str(folder), "--quiet"]
        command += [word for setting in given.settings for word in ("--set", setting)]
        command += [] if given.data_root is None else ["--data-root", str(given.data_root)]
        begun, ended = watch(command, folder / search.name)
        slots = search.budget.parallel
        # Trial n is suggested from trials 0 … n − slots, so its turn comes when the last of those has ended.
        gaps = [start - max(ended[: n + 1]) for n, start in enumerate(begun[slots:])]
        print(f"launch to the first trial {begun[0]:.1f} s, to the last of the first {slots} {begun[slots - 1]:.1f} s")
        print(f"gaps before the {len(gaps)} later trials: " + " ".join(f"{gap:.2f}" for gap in gaps) + " s")
        whole, rest = share(given.search, given.settings, given.data_root, folder)
        print(f"one trial {whole:.2f} s, of which reporting and notes {rest:.2f} s = {100 * rest / whole:.1f} %")


if __name__ == "__main__":
    main()
