"""Images in memory and on a device: properties of ``ImageSet``, ``Normaliser`` and ``DeviceImages``."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from raydistill.data.images import DeviceImages, ImageSet, Normaliser
from raydistill.errors import ConfigError

HALF = Normaliser(mean=(0.5,), std=(0.25,))


@st.composite
def image_sets(draw: st.DrawFn) -> ImageSet:
    """Any small set; classes may be empty."""
    classes = draw(st.integers(2, 5))
    labels = draw(hnp.arrays(np.int64, st.integers(1, 30), elements=st.integers(0, classes - 1)))
    shape = (len(labels), draw(st.sampled_from([1, 3])), draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    return ImageSet(draw(hnp.arrays(np.uint8, shape)), labels, tuple("abcde"[:classes]))


@given(image_sets())
def test_by_class_partitions_the_indices_in_order(images: ImageSet) -> None:
    groups = images.by_class()
    assert len(groups) == images.num_classes
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(images)))
    for label, members in enumerate(groups):
        assert (images.labels[members] == label).all()
        assert (np.diff(members) > 0).all()


@given(image_sets(), st.data())
def test_subset_takes_copies_in_the_asked_order(images: ImageSet, data: st.DataObject) -> None:
    indices = np.array(data.draw(st.lists(st.integers(0, len(images) - 1), min_size=1)))
    part = images.subset(indices)
    assert np.array_equal(part.images, images.images[indices])
    assert np.array_equal(part.labels, images.labels[indices])
    assert (part.classes, part.shape) == (images.classes, images.shape)
    assert not np.shares_memory(part.images, images.images)


@given(image_sets())
def test_the_normaliser_fits_the_images(images: ImageSet) -> None:
    normaliser = Normaliser.fit(images.images)
    scaled = images.images / 255
    assert normaliser.mean == pytest.approx(scaled.mean(axis=(0, 2, 3)), abs=1e-12)
    std = scaled.std(axis=(0, 2, 3))
    # NumPy's own rounding makes a constant channel's std 1e-17 instead of 0.
    assert normaliser.std == pytest.approx(np.where(std > 1e-9, std, 1.0), abs=1e-12)


@given(image_sets())
def test_the_normaliser_decodes_what_it_encodes(images: ImageSet) -> None:
    normaliser = Normaliser.fit(images.images)
    pixels = torch.from_numpy(images.images).double() / 255
    assert torch.allclose(normaliser.decode(normaliser.encode(pixels)), pixels, atol=1e-12)


def test_the_normaliser_standardises_each_channel() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3000, 3, 4, 4)) // np.array([1, 2, 4])[:, None, None]
    pixels = torch.from_numpy(images).double() / 255
    inputs = Normaliser.fit(images.astype(np.uint8)).encode(pixels)
    assert torch.allclose(inputs.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-10)
    assert torch.allclose(inputs.std((0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-10)


def test_the_normaliser_keeps_what_lies_outside_the_pixel_range() -> None:
    assert HALF.decode(torch.full((1, 1, 2, 2), 8.0)).max() == 2.5


def test_the_normaliser_lets_gradients_through() -> None:
    pixels = torch.rand(2, 1, 3, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(HALF.encode(pixels).sum(), pixels)
    assert torch.equal(gradient, torch.full_like(pixels, 4.0))


def test_the_normaliser_refuses_other_channels() -> None:
    with pytest.raises(ValueError, match="3 channels, the normaliser 1"):
        HALF.encode(torch.zeros(1, 3, 2, 2))


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.0,)), ((0.5,), (-1.0,)), ((0.5, 0.5), (1.0,)), ((), ())])
def test_an_impossible_normaliser_is_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"^Normaliser: [^\n]*$"):
        Normaliser(mean=mean, std=std)


def test_device_images_give_encoded_batches(tiny_images: ImageSet) -> None:
    batch = DeviceImages(tiny_images, HALF).take(torch.tensor([4, 0, 4]))
    expected = (tiny_images.images[[4, 0, 4]] / 255 - 0.5) / 0.25
    assert batch.dtype == torch.float32
    assert np.allclose(batch.numpy(), expected, atol=1e-6)


def test_device_images_borrow_the_memory(tiny_images: ImageSet) -> None:
    held = DeviceImages(tiny_images, HALF)
    assert held.pixels.data_ptr() == tiny_images.images.ctypes.data
    assert held.labels.data_ptr() == tiny_images.labels.ctypes.data


def test_device_images_read_read_only_memory_in_silence(tiny_images: ImageSet) -> None:
    tiny_images.images.flags.writeable = False
    tiny_images.labels.flags.writeable = False
    before = tiny_images.images.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held = DeviceImages(tiny_images, HALF)
    taken = held.take(torch.arange(60))
    taken += 1
    assert held.pixels.data_ptr() == tiny_images.images.ctypes.data
    assert held.labels.tolist() == tiny_images.labels.tolist()
    assert np.array_equal(tiny_images.images, before)


def test_device_images_read_any_layout(tiny_images: ImageSet) -> None:
    flipped = ImageSet(tiny_images.images[..., ::-1], tiny_images.labels[::-1], tiny_images.classes)
    held = DeviceImages(flipped, HALF)
    assert np.array_equal(held.pixels.numpy(), flipped.images)
    assert held.labels.tolist() == flipped.labels.tolist()


@given(image_sets(), st.data())
def test_draws_stay_in_the_class_and_do_not_repeat_while_they_need_not(images: ImageSet, data: st.DataObject) -> None:
    held = DeviceImages(images, Normaliser.fit(images.images))
    label = data.draw(st.sampled_from(sorted(set(images.labels.tolist()))))
    n, seed = data.draw(st.integers(1, 40)), data.draw(st.integers(0, 2**32))
    drawn = held.draw_from_class(label, n, torch.Generator().manual_seed(seed))
    size = int((images.labels == label).sum())
    assert drawn.shape == (n,)
    assert (held.labels[drawn] == label).all()
    if n <= size:
        assert len(set(drawn.tolist())) == n
    again = held.draw_from_class(label, n, torch.Generator().manual_seed(seed))
    assert torch.equal(drawn, again)


def test_draws_reach_every_image_of_the_class_alike(tiny_images: ImageSet) -> None:
    held = DeviceImages(tiny_images, HALF)
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(60)
    for _ in range(2000):
        counts[held.draw_from_class(1, 5, generator)] += 1
    inside = counts[held.labels == 1]
    # 2000·5/20 = 500 each, with a standard deviation of about 19.
    assert inside.min() > 400
    assert inside.max() < 600
    assert counts.sum() == inside.sum() == 10_000
