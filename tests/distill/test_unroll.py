"""The gradients of trajectory matching against golden numbers, each other, and finite differences."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.distill import unroll
from raydistill.distill.unroll import Matched, Problem, Step, matching
from raydistill.models import ConvNet, ConvNetConfig
from raydistill.models.flat import Layout, call, flatten
from tests.formulas import golden

GOLDEN = golden("matching")
NET = ConvNet(ConvNetConfig(depth=2, width=8), (1, 28, 28), 3).double()
LAYOUT = Layout.of(NET)
MASKS = {
    "all": unroll.drop_shallow(0),
    "shallow_dropped_0.25": unroll.drop_shallow(0.25),
    "shallow_dropped_0.5": unroll.drop_shallow(0.5),
    "lowest_dropped_0.25": unroll.drop_nearest(0.25),
    "lowest_dropped_0.5": unroll.drop_nearest(0.5),
}
RUNS = [
    (target, kind, steps, rate)
    for target, kind, steps, rate in product(
        ("formula_target", "trained_target"), ("soft", "hard"), (1, 3, 10), ("0.01", "0.1")
    )
]


def tensor(name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(GOLDEN[name]).to(dtype)


def problem(
    target: str, kind: str, steps: int, rate: str, mask: str = "all", dtype: torch.dtype = torch.float64
) -> Problem:
    net = NET.to(dtype)
    labels = tensor("label_logits", dtype) if kind == "soft" else tensor("hard_labels", torch.int64)
    return Problem(
        logits=lambda theta, x: call(net, LAYOUT, theta, x),
        images=tensor("images", dtype),
        labels=labels,
        rate=torch.tensor(float(rate), dtype=dtype),
        start=tensor("start_parameters", dtype),
        target=tensor(f"{target}_parameters", dtype),
        steps=[Step(torch.arange(6), None)] * steps,
        keep=MASKS[mask],
    )


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def check(found: Matched, key: str, image_tolerance: float, tolerance: float) -> None:
    assert float(found.loss) == pytest.approx(float(GOLDEN[f"{key}/loss"]), rel=tolerance)
    assert relative(found.images.double(), tensor(f"{key}/gradient_images")) < image_tolerance
    assert float(found.rate) == pytest.approx(float(GOLDEN[f"{key}/gradient_lr"]), rel=tolerance)
    if found.labels is not None:
        assert relative(found.labels.double(), tensor(f"{key}/gradient_label_logits")) < image_tolerance


@pytest.mark.parametrize("form", ["full", "adjoint"])
@pytest.mark.parametrize(("target", "kind", "steps", "rate"), RUNS)
def test_exact_forms_equal_the_golden_numbers(target: str, kind: str, steps: int, rate: str, form: unroll.Form) -> None:
    found = matching(problem(target, kind, steps, rate), form)
    check(found, f"{target}/{kind}/steps_{steps}/lr_{rate}/all", 1e-6, 1e-9)
    student = tensor(f"student/{kind}/steps_{steps}/lr_{rate}")
    assert relative(found.student, student) < 1e-10


@pytest.mark.parametrize("mask", [name for name in MASKS if name != "all"])
@pytest.mark.parametrize(("steps", "rate"), [(1, "0.01"), (3, "0.1"), (10, "0.01")])
def test_filters_equal_the_golden_numbers(mask: str, steps: int, rate: str) -> None:
    given = problem("formula_target", "soft", steps, rate, mask)
    found = matching(given)
    check(found, f"formula_target/soft/steps_{steps}/lr_{rate}/{mask}", 1e-6, 1e-9)


@pytest.mark.parametrize("share", ["0.25", "0.5"])
def test_the_dropped_nearest_are_the_golden_ones(share: str) -> None:
    given = problem("formula_target", "soft", 3, "0.01")
    errors = (matching(given).student - given.target).square()
    kept = GOLDEN[f"formula_target/soft/steps_3/lr_0.01/lowest_dropped_{share}/kept"]
    assert np.array_equal(MASKS[f"lowest_dropped_{share}"](errors).numpy(), kept)


@pytest.mark.parametrize(("target", "kind", "steps", "rate"), RUNS)
def test_two_pass_equals_the_golden_numbers(target: str, kind: str, steps: int, rate: str) -> None:
    found = matching(problem(target, kind, steps, rate), "two_pass")
    key = f"{target}/{kind}/steps_{steps}/lr_{rate}/two_pass"
    assert relative(found.images, tensor(f"{key}/gradient_images")) < 1e-6
    assert float(found.rate) == pytest.approx(float(GOLDEN[f"{key}/gradient_lr"]), rel=1e-9)
    assert (found.labels is None) == (kind == "hard")
    if found.labels is not None:
        assert relative(found.labels, tensor(f"{key}/gradient_label_logits")) < 1e-6


@pytest.mark.parametrize(("target", "kind", "steps", "rate"), RUNS)
def test_float32_stays_within_tolerance(target: str, kind: str, steps: int, rate: str) -> None:
    found = matching(problem(target, kind, steps, rate, dtype=torch.float32))
    loose = steps == 10 and rate == "0.1"
    check(found, f"{target}/{kind}/steps_{steps}/lr_{rate}/all", 1e-3 if loose else 5e-5, 1e-4)
    NET.double()


@pytest.mark.parametrize(
    ("form", "rate", "steps", "window", "cosine", "norm"),
    [
        ("two_pass", "0.01", 1, None, 1.0, 1.0),
        ("two_pass", "0.01", 3, None, 0.998, 1.04),
        ("two_pass", "0.01", 10, None, 0.994, 1.16),
        ("window", "0.01", 1, 1, 1.0, 1.0),
        ("window", "0.01", 3, 2, 0.997, 0.68),
        ("window", "0.01", 10, 5, 0.995, 0.54),
        ("two_pass", "0.1", 3, None, 0.370, 1.12),
        ("two_pass", "0.1", 10, None, 0.753, 2.34),
        ("window", "0.1", 3, 2, 0.330, 0.64),
        ("window", "0.1", 10, 5, 0.887, 0.76),
    ],
)
def test_how_far_the_cheaper_forms_are_from_exact(
    form: unroll.Form, rate: str, steps: int, window: int | None, cosine: float, norm: float
) -> None:
    """The README's table."""
    given = problem("trained_target", "soft", steps, rate)
    exact, found = matching(given).images.flatten(), matching(given, form, window).images.flatten()
    assert float(torch.cosine_similarity(found, exact, 0)) == pytest.approx(cosine, abs=5e-4)
    assert float(found.norm() / exact.norm()) == pytest.approx(norm, abs=5e-3)


def test_a_window_of_all_steps_is_exact_and_a_shorter_one_starts_later() -> None:
    given = problem("trained_target", "soft", 10, "0.01")
    exact = matching(given)
    assert torch.equal(matching(given, "window", 10).images, exact.images)
    short = matching(given, "window", 1)
    assert torch.equal(short.student, exact.student)
    last_only = given._replace(start=matching(given._replace(steps=given.steps[:9])).student, steps=given.steps[:1])
    denominators = [float((p.start - p.target).square().sum()) for p in (given, last_only)]
    expected = matching(last_only).images * denominators[1] / denominators[0]
    assert relative(short.images, expected) < 1e-9


@pytest.mark.parametrize("form", ["full", "adjoint"])
def test_finite_differences(form: unroll.Form) -> None:
    given = problem("trained_target", "soft", 3, "0.1")
    found = matching(given, form)
    for name, gradient in (("images", found.images), ("labels", found.labels), ("rate", found.rate)):
        direction = torch.randn(gradient.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        value = getattr(given, name)
        moved = [float(matching(given._replace(**{name: value + s * 1e-6 * direction}), form).loss) for s in (1, -1)]
        assert (moved[0] - moved[1]) / 2e-6 == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


@pytest.mark.parametrize(("name", "most"), [("CHUNK", 4), ("PIXELS", 4 * 28 * 28)])
def test_pieces_of_a_batch_add_up_with_augmentation(name: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from raydistill.data import augment

    generator = torch.Generator().manual_seed(0)
    numbers = augment.draw("digits", 6, (28, 28), generator)
    step = Step(torch.tensor([3, 0, 5, 1, 4, 2]), numbers)
    given = problem("trained_target", "soft", 3, "0.1")._replace(steps=[step, step])
    whole = matching(given, "full")
    monkeypatch.setattr(unroll, name, most)
    assert [len(indices) for indices, _ in unroll._parts(given, step)] == [4, 2]
    parts = matching(given, "adjoint")
    assert relative(parts.images, whole.images) < 1e-10
    assert parts.labels is not None
    assert whole.labels is not None
    assert relative(parts.labels, whole.labels) < 1e-10


def test_flatten_copies() -> None:
    before = flatten(NET)
    with torch.no_grad():
        next(NET.parameters()).add_(1)
        changed = flatten(NET)
        next(NET.parameters()).sub_(1)
    assert not torch.equal(before, changed)
