"""DataDAM's maps, losses, gradients and updates against the official numbers, plain loops and finite differences."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill import models
from raydistill.distill.datadam import (
    DataDAM,
    DataDAMConfig,
    Loss,
    Statistics,
    attention_map,
    class_means,
    matching_loss,
    statistics,
)
from raydistill.models.convnet import Features
from tests import formulas
from tests.reference import datadam as reference

STORED = formulas.golden("datadam")
NETWORKS = {"instance_norm": "ConvNetD3", "batch_norm": "ConvNetBN"}
SIZES = ("1x28x28", "3x32x32")
POWERS = (1, 2, 4)
CLASSES, REAL, SYNTHETIC = 3, 24, 12
CASES = [(norm, size, power) for norm in NETWORKS for size in SIZES for power in POWERS]
UPDATES = sorted({tuple(k.split("/")[:4]) for k in STORED if "/lr_" in k})
both_precisions = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def formula_network(norm: str, size: str, dtype: torch.dtype) -> models.Network:
    network = models.build(NETWORKS[norm], formulas.shape_of(size), CLASSES, seed=0).to(dtype)
    formulas.load_weights(network)
    return network.requires_grad_(False).train()


@functools.cache
def image_set(group: int, size: str) -> np.ndarray:
    count = {1: REAL, 2: SYNTHETIC}[group]
    return formulas.images(group, (count, *formulas.shape_of(size)))


@functools.lru_cache(maxsize=2)
def passes(norm: str, size: str, dtype: torch.dtype) -> tuple[Features, Features, torch.Tensor]:
    """Features of the real images, of the synthetic ones, and the synthetic images that carry the gradient."""
    network = formula_network(norm, size, dtype)
    synthetic = torch.from_numpy(image_set(2, size)).to(dtype).requires_grad_()
    return network.features(torch.from_numpy(image_set(1, size)).to(dtype)), network.features(synthetic), synthetic


def relative(found: torch.Tensor | float, expected: np.ndarray) -> float:
    """Largest relative distance of numbers."""
    array = np.asarray(found.detach().double().numpy() if isinstance(found, torch.Tensor) else found)
    return float(np.abs(array / expected - 1).max())


def relative_norm(found: torch.Tensor, expected: np.ndarray) -> float:
    """‖found − expected‖ / ‖expected‖."""
    difference = found.detach().double().numpy() - expected
    return float(np.linalg.norm(difference) / np.linalg.norm(expected))


def test_the_images_are_the_stored_ones() -> None:
    assert np.array_equal(image_set(1, "1x28x28"), STORED["real_images_1x28x28"])
    assert np.array_equal(image_set(2, "1x28x28"), STORED["synthetic_images_1x28x28"])


@both_precisions
@pytest.mark.parametrize(("norm", "size", "power"), CASES)
def test_golden_maps(norm: str, size: str, power: float, dtype: torch.dtype) -> None:
    real, synthetic, _ = passes(norm, size, dtype)
    tolerance = 1e-6 if dtype == torch.float64 else 5e-6
    for layer in range(3):
        prefix = f"{norm}/{size}/p{power}/attention_layer{layer + 1}"
        for features, kind in ((real, "real"), (synthetic, "synthetic")):
            z = attention_map(features.maps[layer], power).detach()
            assert z.dtype == dtype
            first = z[:: len(z) // CLASSES].double().numpy()
            means = class_means(z, CLASSES).double().numpy()
            assert np.abs(first - STORED[f"{prefix}/{kind}_first_of_class"]).max() <= tolerance
            assert np.abs(means - STORED[f"{prefix}/{kind}_class_mean"]).max() <= tolerance


@both_precisions
@pytest.mark.parametrize(("norm", "size", "power"), CASES)
def test_golden_losses_and_gradient(norm: str, size: str, power: float, dtype: torch.dtype) -> None:
    stored = {k.rsplit("/", 1)[1]: v for k, v in STORED.items() if k.startswith(f"{norm}/{size}/p{power}/")}
    real, synthetic, images = passes(norm, size, dtype)
    tolerance, gradient_tolerance = (1e-10, 1e-6) if dtype == torch.float64 else (1e-5, 1e-5)
    known, moving = (statistics(f, CLASSES, power) for f in (real, synthetic))
    assert len(known.attention) == 2

    per_layer = [(r - s).square().sum() for r, s in zip(known.attention, moving.attention, strict=True)]
    assert relative(torch.stack(per_layer), stored["attention_loss_per_layer"][:2]) <= tolerance
    loss = matching_loss(known, moving, task_balance=0.01, loss_scale=100)
    assert relative(loss.sam, stored["attention_loss_per_layer"][:2].sum()) <= tolerance
    assert relative(loss.mmd, stored["output_loss"]) <= tolerance
    assert relative(loss.total, stored["total_loss"]) <= tolerance
    (gradient,) = torch.autograd.grad(loss.total, images, retain_graph=True)
    assert relative_norm(gradient, stored["gradient_synthetic_images"]) <= gradient_tolerance


class FloatImages:
    """Stands in for the real images: formula images, already as networks see them."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images
        self.labels = torch.arange(len(images)) // (len(images) // CLASSES)
        self.classes = tuple("abc")

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: torch.Tensor) -> torch.Tensor:
        return self.images[indices]

    def draw_from_class(self, label: int, n: int, generator: torch.Generator) -> torch.Tensor:
        members = torch.nonzero(self.labels == label).flatten()
        assert n == len(members)
        return members[torch.randperm(n, generator=generator)]


def distillation(norm: str, size: str, power: float, lr_img: float, dtype: torch.dtype, **settings: Any) -> DataDAM:
    """The method itself on the golden problem: all real images of a class, no augmentation, one fixed network."""
    config = DataDAMConfig(
        network=NETWORKS[norm],
        ipc=SYNTHETIC // CLASSES,
        power=power,
        loss_scale=100,
        task_balance=0.01,
        lr_img=lr_img,
        momentum=0.5,
        augment="none",
        batch_real=REAL // CLASSES,
        **settings,
    )
    images = torch.from_numpy(image_set(2, size)).to(dtype)
    labels = torch.arange(SYNTHETIC) // (SYNTHETIC // CLASSES)
    real: Any = FloatImages(torch.from_numpy(image_set(1, size)).to(dtype))
    return DataDAM(config, real, images, labels, lambda seed: formula_network(norm, size, dtype), seed=0)


@pytest.mark.parametrize(
    ("norm", "size", "power", "rate", "dtype"),
    [
        (*update, dtype)
        for update in UPDATES
        for dtype in (torch.float64, torch.float32)
        if dtype == torch.float64 or update[1] == "1x28x28"
    ],
)
def test_golden_updates(norm: str, size: str, power: str, rate: str, dtype: torch.dtype) -> None:
    # A pool of one network and one draw: the real side is computed once, and the numbers must not notice.
    method = distillation(norm, size, float(power[1:]), float(rate[3:]), dtype, network_pool=1, pool_draws=1)
    start = image_set(2, size).astype(np.float64)
    losses = torch.tensor([method.step(iteration)["loss"] for iteration in range(3)], dtype=torch.float64)
    prefix = f"{norm}/{size}/{power}/{rate}"
    exact = dtype == torch.float64
    assert relative(losses, STORED[f"{prefix}/total_loss_per_step"]) <= (1e-10 if exact else 5e-5)
    if f"{prefix}/images_after_3_steps" in STORED:
        moved = STORED[f"{prefix}/images_after_3_steps"] - start
        assert relative_norm(method.images - torch.from_numpy(start), moved) <= (1e-6 if exact else 5e-3)


map_shapes = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=4)


@given(
    classes=st.integers(1, 3),
    per_class=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    shapes=map_shapes,
    width=st.integers(1, 6),
    power=st.sampled_from([1.0, 1.5, 2.0, 3.0, 4.0]),
    balance=st.floats(0, 10),
    loss_scale=st.floats(1e-3, 1e4),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_plain_loops_agree(
    classes: int,
    per_class: tuple[int, int],
    shapes: list[tuple[int, int, int]],
    width: int,
    power: float,
    balance: float,
    loss_scale: float,
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)

    def side(count: int) -> tuple[list[np.ndarray], np.ndarray]:
        return [generator.standard_normal((count, *s)) for s in shapes], generator.standard_normal((count, width))

    real, synthetic = (side(classes * n) for n in per_class)
    real_labels, labels = (np.repeat(np.arange(classes), n) for n in per_class)
    expected = reference.losses(real, synthetic, real_labels, labels, power, balance, loss_scale)

    def features(maps: list[np.ndarray], embedding: np.ndarray) -> Statistics:
        tensors = [torch.from_numpy(m) for m in maps]
        return statistics(Features(tensors, torch.from_numpy(embedding), torch.empty(0)), classes, power)

    found = matching_loss(features(*real), features(*synthetic), balance, loss_scale)
    assert [float(x) for x in found] == pytest.approx(expected, rel=1e-10, abs=1e-13 * loss_scale)


@pytest.mark.parametrize("channels", [8, 128, 6])
def test_bfloat16_maps_are_summed_in_parts_of_float32(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(5, channels, 7, 9, generator=generator).bfloat16().requires_grad_()
    exact = maps.detach().double().requires_grad_()
    weigh = torch.randn(5, 63, generator=generator).double()
    z, expected = attention_map(maps, 1, nonnegative=True), attention_map(exact, 1, nonnegative=True)
    assert z.dtype == torch.float32
    assert torch.allclose(z.double(), expected, rtol=0.004)
    (ours,) = torch.autograd.grad((z * weigh.float()).sum(), maps)
    (plain,) = torch.autograd.grad((expected * weigh).sum(), exact)
    assert float((ours.double() - plain).norm() / plain.norm()) < 0.005


@given(power=st.sampled_from([1.0, 2.0, 3.5, 4.0]), factor=st.floats(0.1, 10), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_attention_maps_are_unit_rows_whatever_the_scale(power: float, factor: float, seed: int) -> None:
    maps = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z = attention_map(maps, power)
    assert z.shape == (3, 30)
    assert (z >= 0).all()
    assert torch.allclose(z.norm(dim=1), torch.ones(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(attention_map(-factor * maps, power), z, atol=1e-12)


@pytest.mark.parametrize("power", POWERS)
def test_a_dead_map_gives_finite_zeros(power: float) -> None:
    maps = torch.zeros(1, 2, 3, 3, requires_grad=True)
    z = attention_map(maps, power)
    torch.autograd.backward(z.sum())
    assert torch.equal(z, torch.zeros(1, 9))
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()


@pytest.mark.parametrize("norm", NETWORKS)
@pytest.mark.parametrize("power", [1, 3, 4])
def test_the_gradient_is_that_of_finite_differences(norm: str, power: float) -> None:
    config = models.ConvNetConfig(depth=2, width=4, norm={"instance_norm": "instance"}.get(norm, "batch"))
    # Smooth activation: at a ReLU's kink a difference quotient is no derivative.
    network = models.ConvNet(config.override({"activation": "swish"}), (1, 8, 8), 2).double().requires_grad_(False)
    formulas.load_weights(network)
    real = statistics(network.features(torch.from_numpy(formulas.images(1, (6, 1, 8, 8))).double()), 2, power)

    def total(images: torch.Tensor) -> torch.Tensor:
        return matching_loss(real, statistics(network.features(images), 2, power), 0.01, 100.0).total

    images = torch.from_numpy(formulas.images(2, (4, 1, 8, 8))).double().requires_grad_()
    (gradient,) = torch.autograd.grad(total(images), images)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        direction = torch.randn(images.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            quotient = (total(images + 1e-6 * direction) - total(images - 1e-6 * direction)) / 2e-6
        assert float((gradient * direction).sum()) == pytest.approx(float(quotient), rel=1e-6)


def test_a_set_matched_with_itself_has_no_loss() -> None:
    real, _, _ = passes("instance_norm", "1x28x28", torch.float64)
    known = statistics(real, CLASSES, 4)
    assert matching_loss(known, known, 0.01, 100.0) == Loss(*[torch.zeros((), dtype=torch.float64)] * 3)


def test_the_order_within_a_class_does_not_matter_but_the_class_does() -> None:
    network = formula_network("instance_norm", "1x28x28", torch.float64)
    images = torch.from_numpy(image_set(2, "1x28x28")).double()
    known = statistics(network.features(torch.from_numpy(image_set(1, "1x28x28")).double()), CLASSES, 4)

    def total(order: list[int]) -> float:
        return float(matching_loss(known, statistics(network.features(images[order]), CLASSES, 4), 0.01, 1.0).total)

    straight = total(list(range(12)))
    assert total([3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8]) == pytest.approx(straight, rel=1e-10)
    assert total([4, 5, 6, 7, 0, 1, 2, 3, 8, 9, 10, 11]) != pytest.approx(straight, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_of_half_precision_maps_are_float32(dtype: torch.dtype) -> None:
    maps = [torch.rand(2, 3, 4, 4).to(dtype) for _ in range(2)]
    found = statistics(Features(maps, torch.rand(2, 5).to(dtype), torch.empty(0)), 1, 2)
    assert {found.embedding.dtype, *(a.dtype for a in found.attention)} == {torch.float32}
