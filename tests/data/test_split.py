"""The stratified split: its properties for any class sizes, fraction and seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raydistill.data.images import ImageSet
from raydistill.data.split import split
from raydistill.errors import DataError

sizes = st.lists(st.integers(2, 60), min_size=2, max_size=5)
fractions = st.floats(0.001, 0.999)
seeds = st.integers(0, 2**40)


def of_sizes(counts: list[int], shuffle: int = 0) -> ImageSet:
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    labels = np.random.default_rng(shuffle).permutation(labels)
    return ImageSet(np.zeros((len(labels), 1, 1, 1), np.uint8), labels, tuple(f"c{i}" for i in range(len(counts))))


@given(sizes, fractions, seeds)
def test_it_divides_every_class_by_the_rule(counts: list[int], fraction: float, seed: int) -> None:
    images = of_sizes(counts)
    train, val = split(images, fraction, seed)
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(len(images)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(val) > 0).all()
    kept = np.bincount(images.labels[val], minlength=len(counts))
    for count, got in zip(counts, kept, strict=True):
        assert got == min(max(1, round(fraction * count)), count - 1)


@given(sizes, fractions, seeds)
def test_equal_seeds_divide_equally(counts: list[int], fraction: float, seed: int) -> None:
    first, again = (split(of_sizes(counts), fraction, seed) for _ in range(2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])


def test_other_seeds_divide_otherwise() -> None:
    images = of_sizes([100, 100])
    drawn = {tuple(split(images, 0.1, seed)[1].tolist()) for seed in range(20)}
    assert len(drawn) == 20


def test_every_image_is_drawn_alike_over_seeds() -> None:
    images = of_sizes([20, 20])
    counts = np.zeros(40)
    for seed in range(1000):
        counts[split(images, 0.25, seed)[1]] += 1
    # 250 each, with a standard deviation of about 14.
    assert counts.min() > 180
    assert counts.max() < 320


def test_a_class_divides_the_same_whatever_the_others_are() -> None:
    alone, among = of_sizes([30, 8]), of_sizes([30, 50], shuffle=1)
    chosen = [np.isin(s.by_class()[0], split(s, 0.2, 3)[1]) for s in (alone, among)]
    assert np.array_equal(chosen[0], chosen[1])


def test_the_split_of_a_seed_does_not_change_between_versions() -> None:
    assert split(of_sizes([10, 10]), 0.2, 0)[1].tolist() == [0, 1, 10, 16]


@pytest.mark.parametrize("counts", [[5, 1], [0, 5], [1, 1]])
def test_a_class_of_fewer_than_two_is_refused(counts: list[int]) -> None:
    with pytest.raises(DataError, match=r"^class 'c\d' has [01] training image[^\n]*add images"):
        split(of_sizes(counts), 0.1, 0)
