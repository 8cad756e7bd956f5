"""Students: the same for equal seeds whatever they are trained on, and able to learn."""

import numpy as np
import pytest
import torch
from torch import nn

from raydistill.data.distilled import DistilledSet
from raydistill.data.images import DeviceImages, Normaliser
from raydistill.evaluate import students
from raydistill.evaluate.protocol import Protocol
from raydistill.evaluate.students import Trained, judge, rate, train_student
from raydistill.models import fit
from raydistill.models.fit import EncodedImages
from tests.distill import small

TEST = small.images(30, stream=5)
TRAIN = small.images(36)
ENCODING = Normaliser.fit(TRAIN.images)
SHORT = Protocol(epochs=3, batch=16)


def a_set(stream: int = 2, count: int = 6, factor: int = 1) -> DistilledSet:
    made = small.images(count, stream)
    order = np.argsort(made.labels, kind="stable")
    pixels = torch.from_numpy(made.images[order].astype(np.float32) / 255)
    return DistilledSet(pixels, torch.from_numpy(made.labels[order]), ENCODING, made.classes, factor)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(students, "build", lambda name, shape, classes, seed, device: small.network(name, seed))


@pytest.mark.parametrize("factor", [1, 2])
def test_equal_seeds_give_equal_accuracies_and_others_other_students(factor: int) -> None:
    images = a_set(factor=factor)
    first = rate(images, TEST, "ConvNetD3", SHORT, 4, seed=7)
    torch.rand(5)
    assert rate(images, TEST, "ConvNetD3", SHORT, 4, seed=7) == first
    # The first of many students is the only one of one.
    assert rate(images, TEST, "ConvNetD3", SHORT, 1, seed=7) == first[:1]
    assert len({*first, *rate(images, TEST, "ConvNetD3", SHORT, 4, seed=8)}) > 1
    assert all(0 <= accuracy <= 1 for accuracy in first)


def test_student_i_begins_as_the_same_network_for_every_set(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def build(name: str, shape: object, classes: int, seed: int, device: object) -> nn.Module:
        seeds.append(seed)
        return small.network(name, seed)

    monkeypatch.setattr(students, "build", build)
    for stream in (2, 3):
        rate(a_set(stream), TEST, "ConvNetD3", SHORT, 3, seed=7)
    assert seeds[:3] == seeds[3:]
    assert len(set(seeds)) == 3


def test_students_learn_an_easy_problem() -> None:
    protocol = Protocol(epochs=60, lr=0.05)
    assert min(rate(a_set(count=12), TEST, "ConvNetD3", protocol, 2, seed=0)) > 0.8
    real = DeviceImages(TRAIN, ENCODING, "cpu")
    net = train_student(real, real.shape, len(real.classes), "ConvNetD3", protocol, seed=0)
    assert judge(net, DeviceImages(TEST, ENCODING, "cpu")).accuracy > 0.9


def test_judging_counts_what_is_right() -> None:
    net = small.network("ConvNetD3", 0)
    judged = judge(net, DeviceImages(TEST, ENCODING))
    assert judged.logits.shape == (30, 3)
    assert judged.accuracy == float(np.mean(judged.logits.argmax(1).numpy() == TEST.labels))


def test_two_classes_have_more_than_an_accuracy() -> None:
    three, two = torch.eye(3)[[0, 1, 1]], torch.eye(2)[[0, 1, 1]]
    assert Trained(1.0, three, torch.tensor([0, 1, 1])).scores() == {"accuracy": 1.0}
    found = Trained(2 / 3, two, torch.tensor([0, 0, 1])).scores()
    assert (found["accuracy"], found["recall_0"], found["recall_1"], found["auc"]) == (2 / 3, 0.5, 1.0, 0.75)


def test_a_set_is_judged_in_its_own_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    original = students.judge
    monkeypatch.setattr(students, "judge", lambda net, on: seen.append(on.take(torch.arange(4))) or original(net, on))
    images = a_set()
    images.encoding = Normaliser(mean=(0.0,), std=(0.5,))
    rate(images, TEST, "ConvNetD3", SHORT, 1, seed=0)
    assert torch.allclose(seen[0], torch.from_numpy(TEST.images[:4] / np.float32(255)) / 0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_of_outputs_that_are_no_numbers_none_is_right(value: float) -> None:
    """As the largest of them would be the first class, a network that diverged would be as good as the share of it."""
    net = small.network("ConvNetD3", 0)
    with torch.no_grad():
        next(net.parameters()).fill_(value)
    real = DeviceImages(TEST, ENCODING, "cpu")
    judged = judge(net, real)
    assert (judged.accuracy, judged.diverged) == (0.0, True)
    assert fit.accuracy(net, real) == 0.0
    assert not judge(small.network("ConvNetD3", 0), real).diverged


def test_the_network_is_the_one_asked_for() -> None:
    one_image_a_class = EncodedImages(torch.randn(3, 1, 8, 8), torch.arange(3))
    net = train_student(one_image_a_class, (1, 8, 8), 3, "ConvNetBN", SHORT, seed=0)
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
