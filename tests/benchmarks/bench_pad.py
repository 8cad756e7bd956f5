"""One outer step of trajectory matching (ConvNetD3, 100 images of 28×28, soft labels, DSA) against the plain full unroll.

    python tests/benchmarks/bench_pad.py time [STUDENT_STEPS] [ROUNDS]      seconds, each form in a process of its own
    python tests/benchmarks/bench_pad.py memory [STUDENT_STEPS …]           peak memory of each form

The plain form is the textbook's: float32, ``avg_pool2d``, group norm, all student steps in one graph. All compute the same
loss and, but for ``two_pass``, the same gradients from the same draws (checked first).
"""

import resource
import subprocess
import sys

import torch
import torch.nn.functional as F
from bench_datadam import plain_augment, plain_features
from pairs import compare, serve
from torch import Tensor

from raydistill.data import augment
from raydistill.distill.unroll import Form, Matched, Problem, Step, drop_shallow, matching
from raydistill.models import build
from raydistill.models.flat import Layout, call, flatten
from raydistill.runtime.base import ALLOCATOR
from raydistill.seeding import torch_generator

SHAPE, CLASSES, IPC, ALPHA = (1, 28, 28), 10, 10, 0.25
FORMS = (
    "adjoint-float32",
    "adjoint-bfloat16",
    "two_pass-float32",
    "two_pass-bfloat16",
    "full-float32",
    "full-bfloat16",
)


def problem(syn_steps: int, precision: str) -> Problem:
    """A student of generated images between two points of parameter space."""
    net = build("ConvNetD3", SHAPE, CLASSES, 0).requires_grad_(False)
    layout = Layout.of(net)
    start = flatten(net)
    away = 0.01 * torch.randn(len(start), generator=torch_generator(0, "away"))
    n = CLASSES * IPC

    def logits(vector: Tensor, inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return call(net, layout, vector, inputs)

    draws = [augment.draw("digits", n, (28, 28), torch_generator(0, "draw", i), shared=True) for i in range(syn_steps)]
    labels = 5.0 * F.one_hot(torch.arange(CLASSES).repeat_interleave(IPC), CLASSES).float()
    return Problem(
        logits=logits,
        images=torch.randn(n, *SHAPE, generator=torch_generator(0, "images")),
        labels=labels,
        rate=torch.tensor(0.01),
        start=start,
        target=start + away,
        steps=[Step(torch.arange(n), draw) for draw in draws],
        keep=drop_shallow(ALPHA),
    )


class PlainNet(torch.nn.Module):
    """ConvNetD3 as the textbook writes it; its parameters have the same names."""

    def __init__(self) -> None:
        super().__init__()
        net = build("ConvNetD3", SHAPE, CLASSES, 0)
        self.blocks, self.classifier = net.blocks, net.classifier

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, C]."""
        return plain_features(self, x).logits


def plain_matching(given: Problem) -> Matched:
    """L and its gradients through one graph of all steps."""
    net = PlainNet().requires_grad_(False)
    layout = Layout.of(net)
    images, labels, rate = (t.detach().requires_grad_() for t in (given.images, given.labels, given.rate))
    theta = given.start.detach().requires_grad_()
    for step in given.steps:
        logits = call(net, layout, theta, plain_augment(images[step.indices], step.draw))
        loss = F.cross_entropy(logits, labels[step.indices].softmax(1))
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - rate * gradient
    kept = given.keep((theta.detach() - given.target).square())
    apart = (given.start - given.target).square()[kept].sum()
    loss = (theta - given.target).square()[kept].sum() / apart
    found = torch.autograd.grad(loss, [images, labels, rate])
    return Matched(loss.detach(), found[0], found[1], found[2], theta.detach())


def once(name: str, syn_steps: int) -> Matched:
    """One outer step by one form."""
    if name == "plain":
        return plain_matching(problem(syn_steps, "float32"))
    form, _, precision = name.partition("-")
    chosen: Form = form  # type: ignore[assignment]
    return matching(problem(syn_steps, precision), chosen)


def agreement(syn_steps: int) -> None:
    """Cosine and norm ratio of each form's image gradient with the plain one's."""
    plain = once("plain", syn_steps)
    print(f"N = {syn_steps}, plain loss {float(plain.loss):.6f}")
    for name in FORMS:
        found = once(name, syn_steps)
        cosine = float(F.cosine_similarity(found.images.flatten(), plain.images.flatten(), dim=0))
        ratio = float(found.images.norm() / plain.images.norm())
        print(f"  {name:<20} loss {float(found.loss):.6f}   cosine {cosine:.5f}   norm ratio {ratio:.4f}", flush=True)
        if name in ("adjoint-float32", "full-float32"):
            assert cosine > 0.9999, name
            assert abs(ratio - 1) < 1e-3, name


def memory(steps: list[int]) -> None:
    """Peak resident memory of one outer step, a fresh process each, with the default allocator."""
    for syn_steps in steps:
        for name in (*FORMS, "plain"):
            code = [sys.executable, __file__, "--peak", name, str(syn_steps)]
            done = subprocess.run(code, capture_output=True, text=True, check=False)
            shown = done.stdout.strip() if done.returncode == 0 else f"ended with {done.returncode}"
            print(f"N = {syn_steps:<4} {name:<20} {shown}", flush=True)


def peak(name: str, syn_steps: int) -> None:
    """Peak memory of this process before and after one outer step, in MB."""
    problem(syn_steps, "float32")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    once(name, syn_steps)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{after - before:8.0f} MB above the {before:.0f} MB of the loaded process")


def main(words: list[str]) -> None:
    """Dispatch."""
    match words:
        case ["--worker", name]:
            kind, _, syn_steps = name.rpartition("@")
            serve(lambda: once(kind, int(syn_steps)))
        case ["--peak", name, syn_steps]:
            peak(name, int(syn_steps))
        case ["memory", *steps]:
            memory([int(n) for n in steps] or [10, 40, 160])
        case ["time", *numbers]:
            syn_steps, rounds = (*(int(n) for n in numbers), *(20, 3)[len(numbers) :])
            agreement(min(3, syn_steps))
            names = [f"{name}@{syn_steps}" for name in FORMS]
            print(f"N = {syn_steps}, {torch.get_num_threads()} threads, {rounds} rounds")
            for title, tuned in (("default allocator for the plain form", {}), ("tuned for both", ALLOCATOR)):
                print(title)
                compare(__file__, f"plain@{syn_steps}", names, tuned, ALLOCATOR, rounds)
        case _:
            print(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
