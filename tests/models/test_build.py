"""Building a network: seeds decide everything, and nothing else in the process notices."""

import pytest
import torch

from raydistill import models
from raydistill.errors import ConfigError


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", ["ConvNetD3", "ConvNetBN", "LeNet", "MLP", "AlexNet"])
def test_equal_seeds_give_equal_networks(name: str) -> None:
    first = models.build(name, (1, 28, 28), 10, seed=7)
    torch.rand(5)
    assert same(first, models.build(name, (1, 28, 28), 10, seed=7))
    assert not same(first, models.build(name, (1, 28, 28), 10, seed=8))


def test_names_of_one_architecture_build_one_network() -> None:
    first = models.build("ConvNetD3", (1, 28, 28), 10, seed=3)
    for name in ("ConvNetW128", "ConvNetAR", "ConvNetIN", "ConvNetAP"):
        assert same(first, models.build(name, (1, 28, 28), 10, seed=3))


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    models.build("ConvNetD1", (1, 8, 8), 10, seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_it_is_left_alone_after_a_refusal_too() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with pytest.raises(ConfigError):
        models.build("ConvNetD8", (1, 8, 8), 10, seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_initialisation_is_pytorchs_own() -> None:
    built = models.build("ConvNetD3", (1, 28, 28), 10, seed=11)
    torch.manual_seed(11)
    first = torch.nn.Conv2d(1, 128, kernel_size=3, padding=3)
    assert torch.equal(next(built.parameters()), first.weight)


def test_seeds_of_63_bits_are_taken() -> None:
    assert same(*(models.build("ConvNetD1", (1, 8, 8), 2, seed=2**63 - 1) for _ in range(2)))


def test_a_network_comes_in_train_mode_with_gradients_on_the_device_asked_for() -> None:
    network = models.build("ConvNetBN", (1, 8, 8), 2, seed=0, device="cpu")
    assert network.training
    assert all(p.requires_grad and p.device.type == "cpu" for p in network.parameters())


def test_convnet_d7_takes_224_pixels() -> None:
    network = models.build("ConvNetD7", (3, 224, 224), 2, seed=0)
    with torch.no_grad():
        found = network.features(torch.zeros(1, 3, 224, 224))
    assert found.embedding.shape == (1, 128)
    assert [m.shape[-1] for m in found.maps] == [224, 112, 56, 28, 14, 7, 3]
