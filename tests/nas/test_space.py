"""The stage's settings."""

import pytest

from raydistill.errors import ConfigError, UnknownNameError
from raydistill.models import ConvNetConfig
from raydistill.nas.rank import networks
from raydistill.nas.space import NASConfig


def test_architectures_are_kept_by_name() -> None:
    config = NASConfig(networks=(ConvNetConfig(depth=2, width=64), "AlexNet", {"norm": "batch"}))
    assert config.networks == ("ConvNet-D2-W64-instance-relu-avg", "AlexNet", "ConvNetBN")
    assert NASConfig.parse(config.to_json()) == config
    assert networks(config, (1, 28, 28)) == list(config.networks)


def test_an_impossible_architecture_is_refused() -> None:
    with pytest.raises(ConfigError, match="depth"):
        NASConfig(networks=({"depth": 0},))
    with pytest.raises(UnknownNameError, match="ConvNetD3"):
        networks(NASConfig(networks=("ConvNetD33",)), (1, 28, 28))


def test_the_distilled_set_is_always_the_first_proxy() -> None:
    assert NASConfig(baselines=("whole", "random")).proxies == ("distilled", "whole", "random")


@pytest.mark.parametrize(("confirm", "good"), [(0, True), (3, True), ("all", True), (-1, False), ("most", False)])
def test_how_many_are_confirmed(confirm: int | str, good: bool) -> None:
    if good:
        assert NASConfig().override({"confirm": confirm}).confirm == confirm
    else:
        with pytest.raises(ConfigError, match="confirm"):
            NASConfig(confirm=confirm)
