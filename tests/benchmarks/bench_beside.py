"""One DataDAM iteration on two threads beside another busy process, as workers wait for each other and as libgomp would.

    python tests/benchmarks/bench_beside.py [ROUNDS]

The processes are as nice as Ray makes its workers.
"""

import os
import subprocess
import sys

import torch
from bench_datadam import method
from pairs import compare, serve

from raydistill.runtime.base import ALLOCATOR, WAITING

NICENESS = 15
"Ray's default."


def worker() -> None:
    """Serve iterations."""
    os.nice(NICENESS)
    torch.set_num_threads(2)
    distillation, iteration = method("bfloat16"), iter(range(10**6))
    serve(lambda: distillation.step(next(iteration)))


def main(rounds: int) -> None:
    """Time both with the machine idle otherwise, and with one core taken."""
    given = (__file__, "spinning", ["waiting"], ALLOCATOR, ALLOCATOR | WAITING, rounds)
    print(f"alone, {rounds} rounds")
    compare(*given)
    print("beside a process that takes one core")
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        compare(*given)
        busy.kill()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker()
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
