"""The ConvNet family against the official implementations, and its own rules."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill import models
from raydistill.errors import ConfigError
from raydistill.models.convnet import ConvNet, ConvNetConfig, Norm, OneChannelBlock, OneChannelConv, ReluPool
from tests.models import checks


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("name", "size"), checks.stored_networks(convnets=True))
def test_golden(name: str, size: str, dtype: torch.dtype) -> None:
    checks.check_against_golden(name, size, dtype)


def test_features_are_the_maps_before_pooling() -> None:
    network = models.build("ConvNetD3", (1, 28, 28), 10, seed=1)
    found = checks.check_features(network, torch.randn(2, 1, 28, 28), maps=3)
    assert [tuple(m.shape[1:]) for m in found.maps] == [(128, 32, 32), (128, 16, 16), (128, 8, 8)]
    assert all(m.min() >= 0 for m in found.maps)
    assert torch.equal(found.embedding, torch.nn.functional.avg_pool2d(found.maps[-1], 2).flatten(1))


@pytest.mark.parametrize(("padding", "size"), [(1, (8, 11)), (3, (28, 28))])
def test_one_channel_block_is_a_convolution_and_its_instance_norm(padding: int, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    conv = OneChannelConv(1, 6, kernel_size=3, padding=padding)
    block = OneChannelBlock(conv, torch.nn.GroupNorm(6, 6)).double()
    for parameter in block.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    plain = torch.nn.GroupNorm(6, 6).double()
    plain.load_state_dict(block[1].state_dict())

    def textbook(x: torch.Tensor) -> torch.Tensor:
        return plain(torch.nn.functional.conv2d(x, conv.weight, conv.bias, padding=padding))

    x = torch.randn(3, 1, *size, dtype=torch.float64, generator=generator)
    x[2] = 0.5  # a flat image has no variance inside, only at its border
    x.requires_grad_()
    weigh = torch.randn(3, 6, size[0] + 2 * padding - 2, size[1] + 2 * padding - 2, generator=generator).double()
    results = []
    for form, norm in ((block, block[1]), (textbook, plain)):
        maps = form(x)
        about = [x, conv.weight, conv.bias, norm.weight, norm.bias]
        first = torch.autograd.grad((maps.relu() * weigh).sum(), about, create_graph=True)
        second = torch.autograd.grad(first[0].square().sum() + first[1].square().sum(), [x, conv.weight])
        results.append([maps, *first, *second])
    for ours, expected in zip(*results, strict=True):
        assert torch.allclose(ours, expected, rtol=1e-8, atol=1e-8), (ours - expected).abs().max()


def test_one_channel_block_in_bfloat16_is_as_close_as_bfloat16_allows() -> None:
    network = models.build("ConvNetD1", (1, 28, 28), 10, seed=0)
    x = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    wide = network.blocks[0](x).detach()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = network.blocks[0](x).detach()
    narrow = network.to(torch.bfloat16).blocks[0](x.bfloat16()).detach()
    for maps in (mixed, narrow):
        assert maps.dtype == torch.bfloat16
        assert float((maps.float() - wide).norm() / wide.norm()) < 0.005


@pytest.mark.parametrize("read", ["both", "maps", "pooled"])
def test_relu_with_pooling_has_the_gradients_of_the_two(read: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, 6, generator=generator, dtype=torch.float64).requires_grad_()
    seen: dict[str, tuple[int, ...]] = {"both": (0, 1), "maps": (0,), "pooled": (1,)}

    def ours(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = ReluPool.apply(x.clone())
        return tuple(found[i] for i in seen[read])

    def plain(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = torch.relu(x)
        return tuple((maps, torch.nn.functional.avg_pool2d(maps, 2))[i] for i in seen[read])

    torch.testing.assert_close(ours(x), plain(x))
    gradients = [torch.autograd.grad(sum(part.square().sum() for part in form(x)), x) for form in (ours, plain)]
    torch.testing.assert_close(*gradients)
    assert torch.autograd.gradcheck(ours, x)
    assert torch.autograd.gradgradcheck(ours, x)


def test_only_28_by_28_digits_are_padded() -> None:
    padded = models.build("ConvNetD1", (1, 28, 28), 10, seed=0)
    plain = models.build("ConvNetD1", (1, 32, 32), 10, seed=0)
    assert padded.features(torch.zeros(1, 1, 28, 28)).maps[0].shape[-2:] == (32, 32)
    assert plain.features(torch.zeros(1, 1, 32, 32)).maps[0].shape[-2:] == (32, 32)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (3, 17, 90), (1, 1, 1)])
def test_a_depth_too_large_names_the_largest_that_works(shape: tuple[int, int, int]) -> None:
    deepest = 0
    for depth in range(1, 9):
        try:
            ConvNet(ConvNetConfig(depth=depth, width=4), shape, 2)
            deepest = depth
        except ConfigError as error:
            assert str(error).endswith(f"the largest depth possible is {deepest}")
            assert "\n" not in str(error)
    assert 0 <= deepest < 8
    if deepest:
        fits = ConvNet(ConvNetConfig(depth=deepest, width=4), shape, 2)
        assert fits(torch.zeros(2, *shape)).shape == (2, 2)


def test_without_pooling_any_depth_fits() -> None:
    assert ConvNet(ConvNetConfig(depth=8, width=4, pooling="none"), (1, 4, 4), 2)(torch.zeros(1, 1, 4, 4)).shape == (
        1,
        2,
    )


@given(
    config=st.builds(
        ConvNetConfig,
        depth=st.integers(1, 3),
        width=st.sampled_from([4, 8]),
        norm=st.sampled_from(["none", "batch", "layer", "instance", "group"]),
        activation=st.sampled_from(["sigmoid", "relu", "leakyrelu", "swish"]),
        pooling=st.sampled_from(["none", "max", "avg"]),
    ),
    shape=st.tuples(st.sampled_from([1, 3]), st.integers(8, 20), st.integers(8, 20)),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_every_combination_runs_and_learns(config: ConvNetConfig, shape: tuple[int, int, int]) -> None:
    network = ConvNet(config, shape, 3)
    found = network.features(torch.randn(4, *shape))
    assert found.logits.shape == (4, 3)
    assert len(found.maps) == config.depth
    torch.autograd.backward(found.logits.square().sum())
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("norm", ["none", "layer", "instance", "group"])
def test_images_do_not_see_each_other_except_through_batch_norm(norm: Norm) -> None:
    network = ConvNet(ConvNetConfig(depth=2, width=8, norm=norm), (1, 8, 8), 3).double()
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    assert torch.allclose(network(x)[:1], network(x[:1]), atol=1e-12)
    batch = ConvNet(ConvNetConfig(depth=2, width=8, norm="batch"), (1, 8, 8), 3).double()
    assert not torch.allclose(batch(x)[:1], batch(x[:1]), atol=1e-3)


def test_group_norm_refuses_a_width_that_its_groups_do_not_divide() -> None:
    with pytest.raises(ConfigError, match="width=30"):
        ConvNet(ConvNetConfig(norm="group", width=30), (1, 28, 28), 10)


@pytest.mark.parametrize(
    "wrong", [{"depth": 0}, {"depth": 9}, {"width": 0}, {"norm": "instancenorm"}, {"net_depth": 3}]
)
def test_config_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ConvNetConfig(**wrong)
