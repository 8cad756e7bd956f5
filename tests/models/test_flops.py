"""Operations counted by hand for layers that can be."""

import pytest

from raydistill.errors import ConfigError
from raydistill.models.flops import training_flops


def test_a_network_of_one_layer_after_another() -> None:
    # ConvNetD1 on 1×8×8: one convolution of 9·128 weights at 64 places, then 128·4·4 values to 10 classes. The forward
    # pass multiplies each once, the backward pass again for the weights, and for the linear layer's input.
    convolution, linear = 2 * 9 * 128 * 64, 2 * 128 * 16 * 10
    assert training_flops("ConvNetD1", (1, 8, 8), 10) == 2 * convolution + 3 * linear


def test_a_wider_network_costs_more() -> None:
    costs = [training_flops(f"ConvNetW{width}", (1, 28, 28), 10) for width in (32, 64, 128, 256)]
    assert costs == sorted(costs)
    assert training_flops("ConvNetNP", (1, 28, 28), 10) > training_flops("ConvNetD3", (1, 28, 28), 10)


def test_images_too_small_are_refused() -> None:
    with pytest.raises(ConfigError, match="largest depth possible"):
        training_flops("ConvNetD5", (1, 8, 8), 10)
