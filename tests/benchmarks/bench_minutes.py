"""Accuracy against minutes of distillation: keeps the set as it stands at given minutes, then rates each.

    python tests/benchmarks/bench_minutes.py --data-root DIR --marks 5 15 45 --seeds 0 1 --init real

Runs the settings of ``searches/datadam_mnist.py`` with as many iterations as fit in the last mark. The clock runs from the
start of the process, so it holds imports, reading the data and the training of the pool; the rating is not counted.
Students are trained by the ``field`` protocol and judged on the test images.
"""

import argparse
import os
import sys
import time

STARTED = time.perf_counter()
if os.environ.get("GLIBC_TUNABLES") is None:
    from raydistill.runtime.base import ALLOCATOR

    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})

from concurrent.futures import ProcessPoolExecutor  # noqa: E402
from multiprocessing import get_context  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402

from raydistill import definitions  # noqa: E402
from raydistill.artifacts import folder_exists  # noqa: E402
from raydistill.data.distilled import DistilledSet  # noqa: E402
from raydistill.data.load import load_test, load_train  # noqa: E402
from raydistill.distill.loop import distill  # noqa: E402
from raydistill.evaluate.scores import interval  # noqa: E402
from raydistill.evaluate.students import rate  # noqa: E402
from raydistill.search.definition import Search  # noqa: E402
from raydistill.seeding import derive  # noqa: E402


def keep(search: Search, root: Path, marks: list[float], out: Path) -> None:
    """Distil until the last mark, storing the set at each."""
    left = list(marks)

    def report(step: int, numbers: object, images: object) -> bool:
        minutes = (time.perf_counter() - STARTED) / 60
        if minutes >= left[0]:
            images().save(out / f"{left.pop(0):g}")  # type: ignore[operator]
            print(f"minute {minutes:.1f}: iteration {step}, {numbers}", flush=True)
        return bool(left)

    data = load_train(search.data, root)
    config = search.distill.model_copy(update={"iterations": 10**6})
    seed = derive(search.seed, "distill")
    distill(
        config, data, seed=seed, directory=out / "run", report=report, report_at=range(1, 10**6), checkpoint_seconds=1e9
    )


def one_student(job: tuple[Path, Search, Path, int]) -> float:
    """Accuracy of one student; one thread each, several at once."""
    path, search, root, student = job
    torch.set_num_threads(1)
    images, test = DistilledSet.load(path), load_test(search.data, root)
    (accuracy,) = rate(
        images, test, search.distill.network, search.evaluate.protocol, 1, derive(search.seed, "rate", student)
    )
    return accuracy


def main() -> None:
    """Distil, rate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--marks", type=float, nargs="+", default=[5, 15, 45])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", default="real")
    parser.add_argument("--students", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/minutes"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    given = parser.parse_args()
    settings = [f"distill.init={given.init}", *given.settings]
    search = definitions.load("searches/datadam_mnist.py", settings, given.seed)
    out = given.out / f"{given.init}-{given.seed}"
    if not folder_exists(out / f"{given.marks[-1]:g}"):
        keep(search, given.data_root, sorted(given.marks), out)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        for mark in sorted(given.marks):
            jobs = [(out / f"{mark:g}", search, given.data_root, i) for i in range(given.students)]
            found = list(pool.map(one_student, jobs))
            low, high = interval(found)
            each = " ".join(f"{100 * a:.2f}" for a in found)
            mean, spread = 100 * np.mean(found), 100 * np.std(found, ddof=1) if len(found) > 1 else 0.0
            print(
                f"{mark:g} min: {mean:.2f} ± {spread:.2f} % (95 % {100 * low:.2f} to {100 * high:.2f}): {each}",
                flush=True,
            )


if __name__ == "__main__":
    main()
