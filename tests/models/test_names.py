"""The table of names: 22 in the grid, 18 distinct, one that is refused."""

import json
from collections.abc import Callable

import pytest

from raydistill import models
from raydistill.errors import ConfigError, UnknownNameError
from raydistill.models.convnet import ConvNetConfig
from raydistill.models.names import GRID, canonical, convnet_config, known_networks, name_of, require
from tests.models import checks


def test_the_grid_has_22_names_and_18_architectures() -> None:
    assert len(GRID) == len(set(GRID)) == 22
    assert len({canonical(name) for name in GRID}) == 18
    assert GRID[0] == "ConvNetD1"
    assert not {"ConvNetD6", "ConvNetD7", "ConvNetD8"} & set(GRID)


def test_the_identical_names_are_the_ones_found_in_the_official_code() -> None:
    (same,) = json.loads(str(checks.STORED["same_architecture_json"]))
    assert {name for name in GRID if canonical(name) == "ConvNetD3"} == set(same)
    assert all(canonical(name) == name for name in known_networks() if name not in same)


def test_every_grid_name_has_golden_numbers() -> None:
    stored = {name for name, _ in checks.stored_networks(convnets=True)}
    assert stored == {*GRID, "ConvNetD7"}


def test_canonical_is_idempotent() -> None:
    assert [canonical(canonical(name)) for name in known_networks()] == [canonical(name) for name in known_networks()]


def test_each_name_changes_only_what_it_says() -> None:
    default = ConvNetConfig().to_json()
    for name in known_networks():
        config = convnet_config(name)
        if config is not None:
            changed = {k for k, v in config.to_json().items() if v != default[k]}
            assert len(changed) <= (2 if name == "ConvNetASwishBN" else 1), name


def test_other_networks_have_no_convnet_config() -> None:
    assert [name for name in known_networks() if convnet_config(name) is None] == [
        "AlexNet",
        "LeNet",
        "MLP",
        "ResNet18",
        "VGG11",
    ]


@pytest.mark.parametrize("name", ["ConvNet", "convnet"])
@pytest.mark.parametrize("use", [require, canonical, lambda name: models.build(name, (1, 28, 28), 10, seed=0)])
def test_the_bare_name_is_refused_with_both_meanings(name: str, use: Callable[[str], object]) -> None:
    with pytest.raises(ConfigError) as caught:
        use(name)
    message = str(caught.value)
    assert "ConvNetD3" in message
    assert "ConvNetBN" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("ConvnetD3", "ConvNetD3"), ("ConvNetInstance", "ConvNetIN"), ("resnet18", "ResNet18"), ("AlexNEt", "AlexNet")],
)
def test_a_misspelt_name_is_answered_with_the_right_one(wrong: str, meant: str) -> None:
    with pytest.raises(UnknownNameError, match=meant):
        require(wrong)


def test_a_name_like_none_lists_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match=r"known: .*ConvNetD1.*VGG11"):
        require("zzz")


def test_every_architecture_has_a_name_that_builds_it() -> None:
    config = ConvNetConfig(depth=2, width=64, norm="batch", activation="swish", pooling="max")
    name = name_of(config)
    assert name == canonical(name) == "ConvNet-D2-W64-batch-swish-max"
    assert convnet_config(name) == config
    assert models.build(name, (1, 28, 28), 10, seed=0).config == config
    assert name_of(ConvNetConfig(norm="batch")) == "ConvNetBN"
    assert canonical("ConvNet-D3-W128-instance-relu-avg") == "ConvNetD3"
    assert convnet_config("ConvNet-D2-W64") == ConvNetConfig(depth=2, width=64)


@pytest.mark.parametrize(
    "name",
    ["ConvNet-D02-W64-batch-relu-avg", "ConvNet-D2-W64-batch-relu", "ConvNet-D2", "xConvNet-D2-W64-none-relu-avg"],
)
def test_a_name_that_spells_no_architecture_is_unknown(name: str) -> None:
    with pytest.raises(UnknownNameError):
        require(name)


def test_a_spelled_name_is_held_to_the_ranges() -> None:
    with pytest.raises(ConfigError, match="depth=9"):
        require("ConvNet-D9-W64-batch-relu-avg")
