"""Students: fresh networks trained from scratch on a set, and what they get right on real images.

Shapes: N real images, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from raydistill.data.distilled import DistilledSet
from raydistill.data.images import DeviceImages, ImageSet
from raydistill.evaluate.protocol import Protocol
from raydistill.evaluate.scores import two_class_scores
from raydistill.models import build
from raydistill.models.fit import EncodedImages, Fit, Trainable, answers, predict
from raydistill.seeding import derive


class Trained(NamedTuple):
    """One student's result on the images that it was judged on."""

    accuracy: float
    "In [0, 1]; where the outputs are no numbers nothing is right."
    logits: Tensor
    "float32 [N, C]."
    labels: Tensor
    "int64 [N]."

    @property
    def diverged(self) -> bool:
        """Whether some of its outputs are no numbers."""
        return not bool(self.logits.isfinite().all())

    def scores(self) -> dict[str, float]:
        """``accuracy``, and for two classes what ``two_class_scores`` gives beside it."""
        beside = two_class_scores(self.logits, self.labels) if self.logits.shape[1] == 2 else {}
        return {"accuracy": self.accuracy, **beside}


def train_student(
    train: Trainable,
    shape: tuple[int, int, int],
    classes: int,
    network: str,
    protocol: Protocol,
    seed: int,
    device: torch.device | str = "cpu",
    steps: int | None = None,
) -> torch.nn.Module:
    """A fresh network, trained by the protocol.

    Args:
        train: what it is trained on.
        shape: (K, H, W).
        classes: C.
        network: its name.
        protocol: how.
        seed: names its initialisation, permutations and augmentation draws.
        device: where.
        steps: how many; ``None``: the protocol's epochs. The same share of them has the first learning rate.
    """
    net = build(network, shape, classes, derive(seed, "network"), device)
    fit = Fit(net, train, protocol, derive(seed, "fit"))
    rates = protocol.rates()
    if steps is None:
        steps = len(rates) * fit.steps_per_epoch
    at_first = steps * rates.count(rates[0]) // len(rates)
    fit.run(at_first)
    if at_first < steps:
        fit.set_rate(rates[-1])
        fit.run(steps - at_first)
    return net


def suited(protocol: Protocol, images: DistilledSet) -> Protocol:
    """The protocol with the set's own learning rate, where it was learned with the images (MTT, PAD)."""
    return protocol if images.student_lr is None else protocol.model_copy(update={"lr": images.student_lr})


def judge(net: torch.nn.Module, on: DeviceImages) -> Trained:
    """Test a network on real images, in float32."""
    logits = predict(net, on)
    labels = on.labels.cpu()
    return Trained(float((answers(logits) == labels).double().mean()), logits, labels)


def rate(
    images: DistilledSet,
    on: ImageSet,
    network: str,
    protocol: Protocol,
    students: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> list[float]:
    """Accuracies in [0, 1] of the students that ``judged`` gives."""
    return [one.accuracy for one in judged(images, on, network, protocol, students, seed, device)]


def judged(
    images: DistilledSet,
    on: ImageSet,
    network: str,
    protocol: Protocol,
    students: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> list[Trained]:
    """``students`` networks trained on ``images`` and judged on ``on``.

    Student i is the same network with the same draws for every set rated with the same seed, so that sets are compared
    on equal terms.
    """
    train = EncodedImages(images.inputs().to(device), images.targets().to(device))
    real = DeviceImages(on, images.encoding, device)
    shape = (images.pixels.shape[1], images.pixels.shape[2], images.pixels.shape[3])
    recipe = suited(protocol, images)
    nets = (
        train_student(train, shape, len(images.classes), network, recipe, derive(seed, "student", i), device)
        for i in range(students)
    )
    return [judge(net, real) for net in nets]
