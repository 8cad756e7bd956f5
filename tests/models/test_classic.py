"""AlexNet, LeNet, MLP, VGG11 and ResNet18 against the official implementations, and their limits."""

import re

import pytest
import torch

from raydistill import models
from raydistill.errors import ConfigError
from raydistill.models.names import CLASSICS
from tests.models import checks


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("name", "size"), checks.stored_networks(convnets=False))
def test_golden(name: str, size: str, dtype: torch.dtype) -> None:
    checks.check_against_golden(name, size, dtype)


def test_all_of_them_have_golden_numbers() -> None:
    assert {name for name, _ in checks.stored_networks(convnets=False)} == set(CLASSICS)


@pytest.mark.parametrize(
    ("name", "maps", "width"),
    [("AlexNet", 5, 3072), ("LeNet", 2, 84), ("MLP", 0, 128), ("VGG11", 8, 512), ("ResNet18", 4, 512)],
)
def test_features(name: str, maps: int, width: int) -> None:
    network = models.build(name, (1, 28, 28), 10, seed=1)
    found = checks.check_features(network, torch.randn(2, 1, 28, 28), maps)
    assert found.embedding.shape == (2, width)
    assert all(m.min() >= 0 for m in found.maps)


@pytest.mark.parametrize("name", ["AlexNet", "LeNet", "VGG11", "ResNet18"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_too_small_names_the_smallest_that_works(name: str, channels: int) -> None:
    with pytest.raises(ConfigError) as caught:
        models.build(name, (channels, 4, 4), 10, seed=0)
    assert "\n" not in str(caught.value)
    (smallest,) = map(int, re.findall(r"possible is (\d+)x\1$", str(caught.value)))
    shape = (channels, smallest, smallest)
    x = torch.randn(2, *shape)
    network = models.build(name, shape, 10, seed=0).eval()
    with torch.no_grad():
        # Images that reach the logits: a net whose last maps are one normalised pixel would answer a constant.
        assert not torch.equal(network(x)[0], network(x)[1])
    with pytest.raises(ConfigError, match=f"{smallest - 1}x{smallest - 1}"):
        models.build(name, (channels, smallest - 1, smallest - 1), 10, seed=0)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 40, 56)])
@pytest.mark.parametrize("name", ["AlexNet", "MLP"])
def test_other_sizes_run(name: str, shape: tuple[int, int, int]) -> None:
    assert models.build(name, shape, 3, seed=0)(torch.zeros(2, *shape)).shape == (2, 3)


def test_resnet_takes_high_resolution_with_the_same_parameters() -> None:
    small = models.build("ResNet18", (3, 32, 32), 2, seed=0)
    large = models.build("ResNet18", (3, 64, 64), 2, seed=0)
    assert [p.shape for p in small.parameters()] == [p.shape for p in large.parameters()]
    assert large(torch.zeros(1, 3, 64, 64)).shape == (1, 2)
