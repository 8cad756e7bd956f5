"""Named streams: the same everywhere, apart from each other, and deaf to the rest of the process."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.seeding import derive, numpy_generator, torch_generator

names = st.lists(st.text("abc/ 1", max_size=4) | st.integers(-3, 12), max_size=4).map(tuple)
derandomized = settings(max_examples=200, deadline=None, derandomize=True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0,), 4_246_866_556_266_386_882),
        ((0, "distill", "augment", 12), 719_788_996_392_872_672),
        ((-1, "ü"), 8_638_900_104_810_084_714),
    ],
)
def test_derived_seeds_are_the_same_on_every_machine_and_in_every_version(
    arguments: tuple[int, *tuple[str, ...]], expected: int
) -> None:
    assert derive(*arguments) == expected


@given(st.integers(-(2**70), 2**70), names)
@derandomized
def test_derived_seeds_fit_every_generator(seed: int, stream: tuple[str | int, ...]) -> None:
    derived = derive(seed, *stream)
    assert 0 <= derived < 2**63
    torch.Generator().manual_seed(derived)
    np.random.default_rng(derived)


@given(st.integers(0, 5), names, st.integers(0, 5), names)
@derandomized
def test_different_streams_have_different_seeds(
    seed: int, stream: tuple[str | int, ...], other_seed: int, other_stream: tuple[str | int, ...]
) -> None:
    same = (seed, [(type(n), n) for n in stream]) == (other_seed, [(type(n), n) for n in other_stream])
    assert (derive(seed, *stream) == derive(other_seed, *other_stream)) == same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("a", "b"), ("ab",)),
        (("a", "b"), ("b", "a")),
        ((1,), ("1",)),
        ((), ("",)),
        ((1, 2), (12,)),
    ],
)
def test_names_that_look_alike_are_apart(one: tuple[str | int, ...], other: tuple[str | int, ...]) -> None:
    assert derive(0, *one) != derive(0, *other)


def test_neighbouring_seeds_share_no_stream() -> None:
    seeds = {derive(seed, "augment", step) for seed in range(100) for step in range(100)}
    assert len(seeds) == 10_000


def test_every_bit_is_used() -> None:
    bits = np.array([[derive(0, i) >> b & 1 for b in range(63)] for i in range(2000)]).mean(0)
    # Five standard deviations of a fair coin.
    assert np.abs(bits - 0.5).max() < 5 * 0.5 / np.sqrt(2000)


def from_torch(seed: int, name: str) -> list[float]:
    return [float(x) for x in torch.rand(5, generator=torch_generator(seed, name))]


def from_numpy(seed: int, name: str) -> list[float]:
    return [float(x) for x in numpy_generator(seed, name).random(5)]


@pytest.mark.parametrize("draw", [from_torch, from_numpy])
def test_generators_of_one_stream_draw_the_same_and_of_two_do_not(draw: Callable[[int, str], list[float]]) -> None:
    assert draw(3, "a") == draw(3, "a")
    assert draw(3, "a") != draw(3, "b")
    assert draw(3, "a") != draw(4, "a")


def test_the_global_random_state_is_neither_read_nor_written() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(2), np.random.rand(2)
    torch.manual_seed(1)
    np.random.seed(1)
    first = torch.rand(5, generator=torch_generator(0, "x")), numpy_generator(0, "x").random(5)
    assert torch.equal(torch.rand(2), expected[0])
    assert np.array_equal(np.random.rand(2), expected[1])
    again = torch.rand(5, generator=torch_generator(0, "x")), numpy_generator(0, "x").random(5)
    assert torch.equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


def test_draws_are_made_on_the_cpu() -> None:
    assert torch_generator(0).device.type == "cpu"
