"""Drawing architectures with Optuna, rated by a made-up function."""

from collections.abc import Sequence

import pytest

from raydistill.distill.datadam import DataDAM
from raydistill.errors import ConfigError
from raydistill.models import convnet_config
from raydistill.nas.sampled import as_search, draw
from raydistill.nas.space import NASConfig, Sampling
from raydistill.search.definition import Search

MNIST = (1, 28, 28)


def search(**sampling: object) -> Search:
    return Search(name="nas", distill=DataDAM.Config(), nas=NASConfig(sampled=Sampling(**sampling)))


def worth(name: str) -> float:
    """Deep and wide is good, no norm is bad."""
    config = convnet_config(name)
    assert config is not None
    return 0.1 * config.depth + config.width / 1000 - 0.3 * (config.norm == "none")


def test_the_same_networks_whatever_ran_before_and_the_start_first() -> None:
    rounds: list[list[str]] = []

    def rate(names: Sequence[str]) -> list[float]:
        rounds.append(list(names))
        return [worth(name) for name in names]

    first = draw(search(samples=10, parallel=4), MNIST, rate)
    assert [len(names) for names in rounds] == [4, 4, 2]
    assert [name for names in rounds for name in names] == first
    assert draw(search(samples=10, parallel=4), MNIST, rate) == first
    assert first[0] == "ConvNetD3"
    assert len(set(first)) == 10
    assert draw(search(samples=10, parallel=4).override({"seed": 1}), MNIST, rate) != first


def test_what_was_learned_guides_the_draws() -> None:
    names = draw(search(samples=40, startup=10), MNIST, lambda names: [worth(name) for name in names])
    early, late = (sum(map(worth, part)) / len(part) for part in (names[:10], names[-10:]))
    assert late > early + 0.1


def test_depths_that_the_images_are_too_small_for_are_left_out() -> None:
    form = as_search(search(), (1, 8, 8))
    assert form.space["nas.sampled.start.depth"].values == (1, 2, 3)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"too deep for images of 8x8"):
        as_search(search(depths=(5,)), (1, 8, 8))


def test_widths_that_group_norm_cannot_have_are_refused() -> None:
    with pytest.raises(ConfigError, match="30 is no multiple of 4"):
        as_search(search(widths=(32, 30)), MNIST)
    assert as_search(search(widths=(30,), norms=("batch",)), MNIST).space
