"""The contract of a distillation method, and the settings that every method has.

A method owns the synthetic images and improves them step by step; the loop around it (``distill/loop.py``) checkpoints,
reports and stops. A new paper is one file beside ``datadam.py`` that fulfils this contract, and one registry line.

Shapes: C classes, n = C·ipc stored images, K channels, H×W pixels.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field
from torch import Tensor, nn

from raydistill.config import Config
from raydistill.data.augment import Strategy
from raydistill.data.images import DeviceImages

Init = Literal["real", "noise", "kcenter", "herding"]
NetworkFactory = Callable[[int], nn.Module]
"Seed → a freshly initialised network on the distillation's device."


class MethodConfig(Config):
    """What every method needs; each method's Config adds its own."""

    method: str
    "A name from the registry of methods."
    network: str = "ConvNetD3"
    "The architecture distilled with: one of the ConvNet names, or another registered network."
    ipc: int = Field(10, ge=1, le=5000)
    "Images per class."
    init: Init = "real"
    "What the images start from: random real ones, standard normal noise, or real ones chosen by k-center or herding."
    iterations: int = Field(1000, ge=0)
    "Updates of the images."
    lr_img: float = Field(1.0, gt=0)
    "η_S, the image learning rate."
    lr_schedule: Literal["constant", "cosine"] = "constant"
    "cosine: η_S falls to 0 over the iterations, which takes the last steps' noise out of the images."
    momentum: float = Field(0.5, ge=0, lt=1)
    "Of the image optimiser (SGD)."
    augment: Strategy = "digits"
    "DSA strategy: digits, natural, histology or none."
    factor: int = Field(1, ge=1, le=4)
    "Multi-formation (IDC): each stored image holds factor² sub-images, up-sampled before use. 1 is the plain form."

    def lr_at(self, iteration: int) -> float:
        """η_S in ``iteration``, counted from 0."""
        if self.lr_schedule == "constant":
            return self.lr_img
        return self.lr_img * (1 + math.cos(math.pi * iteration / self.iterations)) / 2


class Phase(NamedTuple):
    """Iterations that cost the same, for a forecast."""

    name: str
    times: float
    "How many there are in the whole distillation, in units of a sample's iteration."
    sample: range
    "Iterations of the sample (see ``Method.phases``) that show what one costs."


def work_done(pace: Sequence[tuple[int, float]], step: int) -> float:
    """The share of a distillation's work, in [0, 1], that is done after ``step`` iterations; see ``Method.pace``."""
    done, left = 0.0, step
    for iterations, cost in pace:
        done += cost * min(left, iterations)
        left -= min(left, iterations)
    whole = sum(iterations * cost for iterations, cost in pace)
    return done / whole if whole else 1.0


class Method(ABC):
    """A distillation under way.

    Args:
        config: the method's own ``Config``.
        real: the real training images on the device.
        images: initial synthetic images [n, K, H, W] as networks see them (encoded).
        labels: int64 [n], sorted, ``ipc`` of each class.
        network: seed → fresh network.
        seed: all random draws derive from it.

    A method whose Config has ``experts`` takes one argument more, the sequence of their trajectories.
    """

    Config: ClassVar[type[MethodConfig]]

    images: Tensor
    "The synthetic images [n, K, H, W], encoded."
    labels: Tensor
    "int64 [n]."
    logits: Tensor | None = None
    "Learned label logits [n, C]; ``None``: labels are hard."

    @abstractmethod
    def __init__(
        self, config: Any, real: DeviceImages, images: Tensor, labels: Tensor, network: NetworkFactory, seed: int
    ) -> None: ...

    @classmethod
    def phases(cls, config: Any) -> tuple[Any, list[Phase]]:
        """How to forecast a distillation: a short one of the same kind, and which of its iterations are how typical.

        Returns:
            (the sample's config, the phases of ``config``); here all iterations cost the same and the first is a warm-up.
        """
        return config, [Phase("iterations", config.iterations, range(1, 3))]

    @classmethod
    def pace(cls, config: Any, classes: int) -> list[tuple[int, float]]:
        """(iterations, what one costs beside the others) in the order in which they come, for the time that is left.

        Args:
            config: the method's own ``Config``.
            classes: C.
        """
        return [(config.iterations, 1.0)]

    @property
    def student_lr(self) -> float | None:
        """The rate that students of the set should be trained with, where the method learns one."""
        return None

    @property
    def skipped(self) -> int:
        """Steps so far that changed nothing, because their loss could not be used; it may then be any number, or none."""
        return 0

    @abstractmethod
    def step(self, iteration: int) -> Mapping[str, float]:
        """Update the images once; returns the step's numbers, ``loss`` among them. A pure function of state and iteration."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Everything that ``step`` reads and changes, so that ``restore`` goes on bit by bit."""

    @abstractmethod
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what ``state`` gave."""
