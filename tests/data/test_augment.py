"""DSA against the official numbers, against plain loops, and its own promises."""

import collections
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.data import augment
from raydistill.errors import UnknownNameError
from tests import formulas
from tests.reference import dsa

STORED = formulas.golden("dsa")
OPERATIONS = {
    "brightness": augment.brightness,
    "saturation": augment.saturation,
    "contrast": augment.contrast,
    "color_chain": augment.color,
    "crop": augment.crop,
    "cutout": augment.cutout,
    "flip": augment.flip,
    "flip_boundary": augment.flip,
    "scale": augment.scale,
    "rotate": augment.rotate,
}
FLOAT32 = {
    **dict.fromkeys(("flip", "flip_boundary", "crop", "cutout"), 0.0),
    **dict.fromkeys(("brightness", "saturation", "contrast", "color_chain"), 2e-6),
    **dict.fromkeys(("scale", "rotate"), 4e-5),
}
CASES = sorted({key.rsplit("/", 1)[0] for key in STORED if key.endswith("/draws")})
derandomized = settings(max_examples=40, deadline=None, derandomize=True)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_operation_has_golden_numbers() -> None:
    assert {case.split("/")[0] for case in CASES} == set(OPERATIONS)
    assert len(CASES) == len(OPERATIONS) * 4


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_golden(case: str, dtype: torch.dtype) -> None:
    operation, image, mode = case.split("/")
    x = torch.from_numpy(STORED[f"input/{image}"]).to(dtype)
    draws = torch.from_numpy(STORED[f"{case}/draws"]).to(dtype)
    if mode == "shared":
        draws = draws[:, :1]
    out = OPERATIONS[operation](x, draws)
    assert out.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else FLOAT32[operation]
    expected = torch.from_numpy(STORED[f"{case}/output"])
    # Stored at full precision of float64; what is exact in float32 is exact there too.
    expected = expected.to(dtype) if tolerance == 0 else expected.double()
    assert (out.to(expected.dtype) - expected).abs().max() <= tolerance


@pytest.mark.parametrize("family", augment.FAMILIES)
def test_apply_is_the_operation_of_the_family(family: str) -> None:
    key = {"color": "color_chain"}.get(family, family) + "/color_12/per_image"
    x = torch.from_numpy(STORED["input/color_12"]).double()
    drawn = augment.Draw(family, torch.from_numpy(STORED[f"{key}/draws"]))
    assert np.abs(augment.apply(x, drawn).numpy() - STORED[f"{key}/output"]).max() <= 1e-12


@given(
    family=st.sampled_from(augment.FAMILIES),
    size=st.tuples(st.integers(2, 11), st.integers(2, 11)),
    channels=st.sampled_from([1, 3]),
    n=st.integers(1, 3),
    shared=st.booleans(),
    seed=st.integers(0, 2**32),
)
@derandomized
def test_plain_loops_agree(family: str, size: tuple[int, int], channels: int, n: int, shared: bool, seed: int) -> None:
    draws = drawn_family(family, n, size, seed, shared)
    x = torch.randn(n, channels, *size, generator=generator(seed), dtype=torch.float64)
    out = augment.apply(x, draws).numpy()
    numbers = draws.numbers.double().numpy()
    for i in range(n):
        expected = getattr(dsa, family)(x[i].numpy(), *numbers[:, 0 if shared else i])
        assert np.abs(out[i] - expected).max() <= 1e-12, (family, i)


def drawn_family(family: str, n: int, size: tuple[int, int], seed: int, shared: bool) -> augment.Draw:
    """The first draw of ``family`` that a generator gives."""
    source = generator(seed)
    while True:
        drawn = augment.draw("natural", n, size, source, shared)
        assert drawn is not None
        if drawn.family == family:
            return drawn


@given(
    family=st.sampled_from(augment.FAMILIES),
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    n=st.integers(1, 5),
    shared=st.booleans(),
    seed=st.integers(0, 2**32),
)
@derandomized
def test_draws_lie_in_their_ranges(family: str, size: tuple[int, int], n: int, shared: bool, seed: int) -> None:
    numbers = drawn_family(family, n, size, seed, shared).numbers
    rows = {"color": 3, "flip": 1, "rotate": 1}.get(family, 2)
    assert numbers.shape == (rows, 1 if shared else n)
    for row, side in zip(numbers, size if family in ("crop", "cutout") else size[:1] * rows, strict=True):
        if family == "crop":
            low, high = -math.floor(0.125 * side + 0.5), math.floor(0.125 * side + 0.5)
        elif family == "cutout":
            low, high = 0, side - math.floor(0.5 * side + 0.5) % 2
        else:
            assert (row < 1).all()
            low, high = 0, 1
        assert (low <= row).all()
        assert (row <= high).all()
        if family in ("crop", "cutout"):
            assert torch.equal(row, row.round())


@pytest.mark.parametrize(("family", "low", "high"), [("crop", -4, 4), ("cutout", 0, 28)])
def test_whole_numbers_reach_both_ends(family: str, low: int, high: int) -> None:
    numbers = drawn_family(family, 2000, (28, 28), 0, shared=False).numbers
    assert numbers.min(dim=1).values.tolist() == [low, low]
    assert numbers.max(dim=1).values.tolist() == [high, high]


@pytest.mark.parametrize("strategy", [s for s in augment.STRATEGIES if s != "none"])
def test_families_are_drawn_evenly(strategy: str) -> None:
    source = generator(1)
    drawn = [augment.draw(strategy, 1, (8, 8), source) for _ in range(3000)]
    counts = collections.Counter(d.family for d in drawn if d is not None)
    assert set(counts) == set(augment.families(strategy))
    expected = 3000 / len(counts)
    # Five standard deviations of a binomial count.
    assert all(abs(c - expected) < 5 * math.sqrt(expected) for c in counts.values()), counts


def test_digits_never_flip() -> None:
    assert "flip" not in augment.families("digits")
    assert set(augment.families("digits")) == {"color", "crop", "cutout", "scale", "rotate"}


def test_half_of_the_images_are_mirrored() -> None:
    drawn = drawn_family("flip", 4000, (4, 4), 3, shared=False)
    x = torch.arange(16.0).view(1, 1, 4, 4).expand(4000, -1, -1, -1)
    mirrored = (augment.apply(x, drawn) != x).flatten(1).any(1).double().mean()
    assert mirrored == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("shared", [False, True])
def test_equal_generators_give_equal_draws(shared: bool) -> None:
    for seed in range(10):
        a, b = (augment.draw("natural", 4, (28, 28), generator(seed), shared) for _ in range(2))
        assert a is not None
        assert b is not None
        assert a.family == b.family
        assert torch.equal(a.numbers, b.numbers)


def test_drawing_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    augment.draw("natural", 4, (28, 28), generator())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("family", augment.FAMILIES)
def test_siamese_treats_all_images_and_both_batches_alike(family: str) -> None:
    drawn = drawn_family(family, 3, (12, 12), 5, shared=True)
    image = torch.randn(1, 3, 12, 12, generator=generator(2))
    three, five = (augment.apply(image.expand(n, -1, -1, -1), drawn) for n in (3, 5))
    assert torch.allclose(three, three[:1].expand_as(three), atol=1e-6)
    assert torch.allclose(five[:3], three, atol=1e-6)


@pytest.mark.parametrize("family", augment.FAMILIES)
def test_without_sharing_each_image_has_its_own(family: str) -> None:
    drawn = drawn_family(family, 12, (12, 12), 5, shared=False)
    image = torch.randn(1, 3, 12, 12, generator=generator(2)).expand(12, -1, -1, -1)
    out = augment.apply(image, drawn)
    assert not torch.allclose(out, out[:1].expand_as(out), atol=1e-3)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("family", augment.FAMILIES)
def test_gradients_are_those_of_finite_differences(family: str, shared: bool) -> None:
    drawn = drawn_family(family, 2, (6, 5), 7, shared)
    x = torch.randn(2, 2, 6, 5, generator=generator(3), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda images: augment.apply(images, drawn), x)


@pytest.mark.parametrize("family", augment.FAMILIES)
def test_the_input_is_not_written_to(family: str) -> None:
    x = torch.randn(2, 3, 8, 8, generator=generator(4))
    before = x.clone()
    augment.apply(x, drawn_family(family, 2, (8, 8), 1, shared=False))
    assert torch.equal(x, before)


def test_none_changes_nothing() -> None:
    x = torch.randn(2, 1, 8, 8)
    assert augment.draw("none", 2, (8, 8), generator()) is None
    assert augment.apply(x, None) is x


def test_an_unknown_strategy_is_answered_with_the_right_one() -> None:
    with pytest.raises(UnknownNameError, match="digits"):
        augment.draw("digit", 2, (8, 8), generator())
