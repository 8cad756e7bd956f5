"""Multi-formation: which part of a stored image becomes which training image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.data.formation import expand, expand_labels


def test_factor_one_is_the_images_themselves() -> None:
    images = torch.rand(2, 1, 8, 8)
    assert expand(images, 1) is images


@pytest.mark.parametrize("factor", [2, 4])
def test_quarters_of_one_colour_stay_that_colour_in_reading_order(factor: int) -> None:
    parts = factor**2
    colours = torch.arange(3 * 2 * parts, dtype=torch.float32).view(3, 2, factor, factor)
    images = colours.repeat_interleave(8 // factor, 2).repeat_interleave(8 // factor, 3)
    found = expand(images, factor)
    assert found.shape == (3 * parts, 2, 8, 8)
    expected = colours.view(3, 2, parts).permute(0, 2, 1).reshape(3 * parts, 2)
    assert torch.allclose(found, expected[:, :, None, None].expand_as(found))


@given(
    factor=st.integers(1, 4),
    n=st.integers(1, 3),
    channels=st.integers(1, 3),
    height=st.integers(4, 13),
    width=st.integers(4, 13),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_shapes_order_and_bounds_for_any_side(factor: int, n: int, channels: int, height: int, width: int) -> None:
    images = torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(height))
    found = expand(images, factor)
    assert found.shape == (n * factor**2, channels, height, width)
    assert found.min() >= images.min() - 1e-6
    assert found.max() <= images.max() + 1e-6
    # Each stored image on its own gives its own stretch of the result.
    each = torch.cat([expand(image[None], factor) for image in images])
    assert torch.allclose(found, each, atol=1e-6)


def test_labels_go_with_the_images() -> None:
    assert expand_labels(torch.tensor([0, 2]), 2).tolist() == [0, 0, 0, 0, 2, 2, 2, 2]
    assert expand_labels(torch.tensor([3, 1]), 1).tolist() == [3, 1]


@pytest.mark.parametrize("side", [8, 9])
def test_the_gradient_is_that_of_finite_differences(side: int) -> None:
    images = torch.rand(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: expand(x, 2), (images,))
