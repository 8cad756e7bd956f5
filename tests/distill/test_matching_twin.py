"""Matching losses and gradients against the NumPy twin: a linear student, both filters, soft and hard labels."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.distill import unroll
from raydistill.distill.unroll import Form, Problem, Step, matching
from tests.reference import matching as twin

N, SIDE, CLASSES, ALPHA, RATE = 6, 3, 3, 0.4, 0.3
BATCHES = [[0, 1, 2, 3], [4, 5, 0, 1], [5, 3, 2, 0]]
KEEP: dict[str, Callable[[float], unroll.Keep]] = {"depth": unroll.drop_shallow, "loss": unroll.drop_nearest}


def numbers(*shape: int, stream: int) -> np.ndarray:
    return np.random.default_rng(stream).standard_normal(shape)


def linear(theta: Tensor, x: Tensor) -> Tensor:
    weight, bias = theta[: -len(theta) // (SIDE**2 + 1)], theta[-len(theta) // (SIDE**2 + 1) :]
    return F.linear(x.flatten(1), weight.reshape(CLASSES, -1), bias)


def problem(drop: str, soft: bool) -> Problem:
    size = CLASSES * (SIDE**2 + 1)
    labels = torch.from_numpy(numbers(N, CLASSES, stream=3)) if soft else torch.arange(N) % CLASSES
    return Problem(
        logits=linear,
        images=torch.from_numpy(numbers(N, 1, SIDE, SIDE, stream=2)),
        labels=labels,
        rate=torch.tensor(RATE, dtype=torch.float64),
        start=torch.from_numpy(numbers(size, stream=0)),
        target=torch.from_numpy(numbers(size, stream=1)),
        steps=[Step(torch.tensor(batch), None) for batch in BATCHES],
        keep=KEEP[drop](ALPHA),
    )


def twin_loss(given: Problem, drop: str) -> float:
    """The twin's, of the same numbers."""
    labels = given.labels.numpy()
    targets = np.stack([twin.softmax(row) for row in labels]) if given.soft else np.eye(CLASSES)[labels]
    start, target = given.start.numpy(), given.target.numpy()
    student = twin.walk(start, given.images.flatten(1).numpy(), targets, float(given.rate), BATCHES)
    return twin.loss(start, student, target, ALPHA, drop)


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("drop", KEEP)
@pytest.mark.parametrize("form", ["adjoint", "full", "two_pass"])
def test_the_loss_equals_the_twins(form: Form, drop: str, soft: bool) -> None:
    given = problem(drop, soft)
    assert float(matching(given, form).loss) == pytest.approx(twin_loss(given, drop), rel=1e-12)


@pytest.mark.parametrize("soft", [True, False])
@pytest.mark.parametrize("drop", KEEP)
@pytest.mark.parametrize("form", ["adjoint", "full"])
def test_exact_gradients_equal_the_twins_differences(form: Form, drop: str, soft: bool) -> None:
    given, step = problem(drop, soft), 1e-6
    found = matching(given, form)
    for name, gradient in (("images", found.images), ("labels", found.labels), ("rate", found.rate)):
        if gradient is None:
            continue
        value = getattr(given, name)
        differences = torch.zeros(gradient.numel(), dtype=torch.float64)
        for i in range(gradient.numel()):
            moved = torch.zeros_like(differences)
            moved[i] = step
            sides = (value + moved.reshape(value.shape), value - moved.reshape(value.shape))
            up, down = (twin_loss(given._replace(**{name: side}), drop) for side in sides)
            differences[i] = (up - down) / (2 * step)
        assert torch.allclose(gradient.reshape(-1), differences, rtol=1e-6, atol=1e-8), name


def test_the_two_filters_keep_the_twins_parameters() -> None:
    given = problem("depth", True)
    student = matching(given).student
    for drop, keep in KEEP.items():
        mask = keep(ALPHA)((student - given.target).square())
        assert mask.nonzero().flatten().tolist() == twin.kept(student.numpy(), given.target.numpy(), ALPHA, drop)
