"""Five students (ConvNetD3, 100 images of 28×28, batch 256, DSA) against five one after another through a DataLoader.

    python tests/benchmarks/bench_students.py [ROUNDS]

Ours runs as the evaluate stage does: one thread a student, as many students at once as there are cores.
"""

import os
import sys

import torch
import torch.nn.functional as F
from bench_datadam import plain_augment, plain_features
from pairs import Worker, compare, serve
from torch.utils.data import DataLoader, TensorDataset

from raydistill.data import augment
from raydistill.evaluate.protocol import protocol
from raydistill.evaluate.students import train_student
from raydistill.models import build
from raydistill.models.fit import EncodedImages
from raydistill.runtime.base import ALLOCATOR
from raydistill.seeding import torch_generator

STUDENTS = 5
SHAPE, CLASSES = (1, 28, 28), 10
EPOCHS = int(os.environ.get("BENCH_EPOCHS", "10"))


def images() -> tuple[torch.Tensor, torch.Tensor]:
    """A generated set."""
    return torch.randn(100, *SHAPE, generator=torch_generator(0, "images")), torch.arange(CLASSES).repeat_interleave(10)


def plain_student(seed: int) -> None:
    """The textbook's loop: float32, DataLoader, ``avg_pool2d``."""
    net = build("ConvNetD3", SHAPE, CLASSES, seed)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    generator = torch_generator(seed, "plain")
    loader = DataLoader(TensorDataset(*images()), batch_size=256, shuffle=True, generator=generator)
    for _ in range(EPOCHS + 1):
        for x, y in loader:
            drawn = augment.draw("digits", len(x), (28, 28), generator, shared=True)
            loss = F.cross_entropy(plain_features(net, plain_augment(x, drawn)).logits, y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def our_student(seed: int, precision: str) -> None:
    """One student as the evaluation trains it."""
    train_student(
        EncodedImages(*images()),
        SHAPE,
        CLASSES,
        "ConvNetD3",
        protocol("field", epochs=EPOCHS, precision=precision),
        seed,
    )


def worker(name: str) -> None:
    """Serve the training of all students, or of this core's share."""
    if name == "plain":
        serve(lambda: [plain_student(i) for i in range(STUDENTS)])
        return
    precision, _, place = name.partition("-")
    cores = len(os.sched_getaffinity(0))
    if place:
        torch.set_num_threads(1)
        serve(lambda: [our_student(i, precision) for i in range(int(place), STUDENTS, cores)])
        return
    shares = [Worker(__file__, f"{precision}-{core}", {}) for core in range(cores)]

    def all_at_once() -> None:
        for share in shares:
            share.process.stdin.write("go\n")
            share.process.stdin.flush()
        for share in shares:
            share.process.stdout.readline()

    serve(all_at_once)


def main(rounds: int) -> None:
    """Time both allocators."""
    print(f"{STUDENTS} students, {EPOCHS} epochs, {rounds} rounds")
    for title, environment in (("default allocator for the plain form", {}), ("tuned allocator for both", ALLOCATOR)):
        print(title)
        compare(__file__, "plain", ["float32", "bfloat16"], environment, ALLOCATOR, rounds)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
