"""Which networks are ranked, and what ranking one of them gives."""

import pytest

from raydistill.errors import ConfigError, UnknownNameError
from raydistill.evaluate import students
from raydistill.evaluate.protocol import Protocol, protocol
from raydistill.models import GRID
from raydistill.nas.rank import networks, rate_network
from raydistill.nas.space import NASConfig
from tests.distill import small
from tests.evaluate.test_students import a_set

VAL = small.images(30, stream=5)


def test_by_default_the_grid_of_22() -> None:
    assert len(GRID) == 22
    assert networks(NASConfig(), (3, 32, 32)) == list(GRID)
    assert networks(NASConfig(), (1, 28, 28)) == list(GRID)


def test_of_the_grid_those_that_can_take_the_images() -> None:
    assert networks(NASConfig(), (1, 8, 8)) == [name for name in GRID if name not in ("ConvNetD4", "ConvNetD5")]


def test_names_that_the_user_gave_must_fit() -> None:
    assert networks(NASConfig(networks=("ConvNetW32", "ConvNetD1")), (1, 8, 8)) == ["ConvNetW32", "ConvNetD1"]
    with pytest.raises(ConfigError, match="largest depth possible is 3"):
        networks(NASConfig(networks=("ConvNetD4",)), (1, 8, 8))
    with pytest.raises(UnknownNameError, match="ConvNetD3"):
        networks(NASConfig(networks=("ConvNetD33",)), (1, 8, 8))


def test_the_default_protocol_is_the_reports() -> None:
    assert NASConfig().protocol == protocol("seed")
    assert NASConfig().protocol.epochs == 50


def test_rating_is_the_mean_of_students_and_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(students, "build", lambda name, shape, classes, seed, device: small.network(name, seed))
    config = NASConfig(protocol=Protocol(epochs=3), students=3)
    found = rate_network(images=a_set(), val=VAL, config=config, seed=2, network="ConvNetD3")
    assert len(found["runs"]) == 3
    assert found["accuracy"] == pytest.approx(sum(found["runs"]) / 3)
    assert found["seconds"] > 0
    again = rate_network(images=a_set(), val=VAL, config=config, seed=2, network="ConvNetD3")
    assert found["runs"] == again["runs"]
    assert found["runs"] == students.rate(a_set(), VAL, "ConvNetD3", config.protocol, 3, 2)


def test_longer_training_ranks_higher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(students, "build", lambda name, shape, classes, seed, device: small.network(name, seed))
    accuracy = {
        epochs: rate_network(
            images=a_set(count=12),
            val=VAL,
            config=NASConfig(protocol=Protocol(epochs=epochs, lr=0.05), students=2),
            seed=0,
            network="ConvNetD3",
        )["accuracy"]
        for epochs in (1, 60)
    }
    assert accuracy[60] > accuracy[1]
