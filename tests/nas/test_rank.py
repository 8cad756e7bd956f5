"""Which networks are ranked, what training on each proxy is, and what one training gives."""

import numpy as np
import pytest
import torch

from raydistill.data.images import Normaliser
from raydistill.data.load import TrainData
from raydistill.errors import ConfigError, UnknownNameError
from raydistill.evaluate import students
from raydistill.evaluate.protocol import Protocol, protocol
from raydistill.models import GRID
from raydistill.nas.rank import Item, distinct, networks, plan, train_item
from raydistill.nas.space import NASConfig, Proxy
from tests.distill import small
from tests.evaluate.test_students import a_set

TRAIN = small.images(36)
DATA = TrainData(TRAIN, small.images(30, stream=5), Normaliser.fit(TRAIN.images), None)
SHORT = NASConfig(protocol=Protocol(epochs=3, batch=16, augment="none"), whole_epochs=1)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(students, "build", lambda name, shape, classes, seed, device: small.network(name, seed))


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


def test_each_architecture_once() -> None:
    assert len(distinct(GRID)) == 18
    assert distinct(["ConvNetW128", "ConvNetD1", "ConvNetIN"]) == ["ConvNetD3", "ConvNetD1"]


def test_the_default_protocol_is_the_reports() -> None:
    assert NASConfig().protocol == protocol("seed")
    assert NASConfig().protocol.epochs == 50


@pytest.mark.parametrize(
    ("proxy", "steps", "images", "batch"),
    [
        ("distilled", 4 * 2, 4 * 24, 16),  # four passes over 6·2² images, two batches each
        ("random", 4, 4 * 6, 16),
        ("early", 6, 6 * 16, 16),
        ("whole", 2 * 3, 2 * 36, 16),
    ],
)
def test_what_training_on_each_proxy_is(proxy: Proxy, steps: int, images: int, batch: int) -> None:
    found = plan(proxy, SHORT, a_set(count=6, factor=2), whole=36)
    assert (found.steps, found.images, found.protocol.batch) == (steps, images, batch)


def test_stopping_early_costs_what_the_set_does() -> None:
    """The report's case: 100 images, 50 epochs, batch 256."""
    images = a_set(count=99)
    on_set, early = (plan(proxy, NASConfig(), images, whole=6000) for proxy in ("distilled", "early"))
    assert (early.steps, early.images) == (on_set.steps, on_set.images) == (51, 51 * 99)


def test_the_sets_own_learning_rate_is_its_students_alone() -> None:
    images = a_set()
    images.student_lr = 0.5
    rates = {proxy: plan(proxy, SHORT, images, 36).protocol.lr for proxy in ("distilled", "random", "early", "whole")}
    assert rates == {"distilled": 0.5, "random": 0.01, "early": 0.01, "whole": 0.01}


@pytest.mark.usefixtures("narrow")
def test_a_student_of_the_set_is_the_one_that_evaluation_trains() -> None:
    from raydistill.seeding import derive

    images = a_set()
    found = [train_item(images=images, data=DATA, config=SHORT, seed=2, **Item("distilled", "ConvNetD3", i)._asdict())
             for i in range(3)]  # fmt: skip
    assert [one["accuracy"] for one in found] == students.rate(images, DATA.val, "ConvNetD3", SHORT.protocol, 3, 2)
    assert derive(2, "student", 0) != derive(2, "student", 1)
    assert all(one["seconds"] >= one["train_seconds"] > 0 for one in found)
    assert all(one["finite"] for one in found)


@pytest.mark.parametrize("proxy", ["distilled", "random", "early", "whole"])
@pytest.mark.usefixtures("narrow")
def test_equal_arguments_give_equal_numbers(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    run = students.Fit.run
    monkeypatch.setattr(students.Fit, "run", lambda self, n: steps.append(n) or run(self, n))
    given = {"images": a_set(), "data": DATA, "config": SHORT, "seed": 2, **Item(proxy, "ConvNetD3", 0)._asdict()}
    first = train_item(**given)
    assert sum(steps) == first["steps"]
    torch.rand(3)
    assert train_item(**given)["accuracy"] == first["accuracy"]


def test_random_images_are_real_and_drawn_anew_for_each_student(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def note(train: students.Trainable, *args: object) -> torch.nn.Module:
        seen.append(train.take(torch.arange(len(train))))
        return small.network("ConvNetD3", 0)

    monkeypatch.setattr("raydistill.nas.rank.train_student", note)
    images = a_set(count=6)
    for student in (0, 1, 0):
        train_item(images=images, data=DATA, config=SHORT, seed=2, proxy="random", network="ConvNetD3", student=student)
    real = DATA.encoding.encode(torch.from_numpy(TRAIN.images.astype(np.float32) / 255))
    for chosen in seen:
        assert len(chosen) == len(images.pixels)
        assert all(any(torch.equal(image, one) for one in real) for image in chosen)
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.usefixtures("narrow")
def test_a_network_that_diverges_is_a_result() -> None:
    config = SHORT.override({"protocol.lr": 1e30})
    found = train_item(
        images=a_set(), data=DATA, config=config, seed=0, proxy="distilled", network="ConvNetNN", student=0
    )
    assert not found["finite"]
    assert 0 <= found["accuracy"] <= 0.5


@pytest.mark.usefixtures("narrow")
def test_longer_training_ranks_higher() -> None:
    accuracy = {}
    for epochs in (1, 60):
        config = NASConfig(protocol=Protocol(epochs=epochs, lr=0.05))
        accuracy[epochs] = train_item(
            images=a_set(count=12), data=DATA, config=config, seed=0, proxy="distilled", network="ConvNetD3", student=0
        )["accuracy"]
    assert accuracy[60] > accuracy[1]
