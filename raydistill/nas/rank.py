"""Rank networks by what they learn from a distilled set, and from what stands beside it, on the validation split.

Every (proxy, network, seed) is an item of its own: a pure function of its arguments, so a runtime can spread them and a
run folder can keep them. Student i begins as the same network on every proxy.
"""

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from raydistill.data.distilled import DistilledSet
from raydistill.data.images import DeviceImages
from raydistill.data.load import TrainData
from raydistill.errors import ConfigError
from raydistill.evaluate.arms import real_set
from raydistill.evaluate.protocol import Protocol
from raydistill.evaluate.students import judge, suited, train_student
from raydistill.models import GRID, build, canonical
from raydistill.models.fit import EncodedImages
from raydistill.models.flops import training_flops
from raydistill.nas.space import NASConfig, Proxy
from raydistill.seeding import derive


class Item(NamedTuple):
    """One student of one network on one proxy."""

    proxy: Proxy
    network: str
    student: int

    @property
    def name(self) -> str:
        """Of its unit."""
        return f"{self.proxy}-{self.network}-{self.student}"


class Plan(NamedTuple):
    """How an item is trained: ``steps`` of ``protocol.batch`` images at most, ``images`` in all."""

    protocol: Protocol
    steps: int
    images: int


def networks(config: NASConfig, shape: tuple[int, int, int]) -> list[str]:
    """The listed names; of the grid's, those that can take images of ``shape`` (K, H, W).

    Raises:
        ConfigError: a name that the user gave is unknown or cannot take such images.
    """
    if config.networks:
        for name in config.networks:
            build(name, shape, 2, 0)
        return list(config.networks)
    return [] if config.sampled else [name for name in GRID if fits(name, shape)]


def distinct(names: Iterable[str]) -> list[str]:
    """The architectures behind names, each once, by its first name."""
    return list(dict.fromkeys(canonical(name) for name in names))


def plan(proxy: Proxy, config: NASConfig, images: DistilledSet, whole: int) -> Plan:
    """What training on a proxy is.

    Args:
        proxy: which.
        config: of the stage.
        images: the distilled set.
        whole: N, all training images.
    """
    protocol = suited(config.protocol, images) if proxy == "distilled" else config.protocol
    if proxy == "whole":
        protocol = protocol.model_copy(update={"epochs": config.whole_epochs})
    passes = len(protocol.rates())
    size = {"random": len(images.pixels), "whole": whole}.get(proxy, len(images))
    if proxy != "early":
        return Plan(protocol, passes * -(-size // protocol.batch), passes * size)
    # A step on a set smaller than the batch is a step of that many images; as many real ones cost the same.
    batch = min(protocol.batch, size, whole)
    steps = max(1, round(passes * size / batch))
    return Plan(protocol.model_copy(update={"batch": batch}), steps, steps * batch)


def train_item(
    *,
    images: DistilledSet,
    data: TrainData,
    config: NASConfig,
    seed: int,
    proxy: Proxy,
    network: str,
    student: int,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Train one student and judge it on the validation split.

    Returns:
        ``Trained.scores`` of it, ``seconds`` in all, ``train_seconds``, ``images`` trained on (repeats counted), ``steps``,
        ``flops`` of the training, and ``finite``: whether the outputs are numbers. A network that diverged still
        has an accuracy: that of what it answers.
    """
    started = time.perf_counter()
    how = plan(proxy, config, images, len(data.train))
    if proxy in ("early", "whole"):
        train: Any = DeviceImages(data.train, data.encoding, device)
    else:
        chosen = images if proxy == "distilled" else _random(images, data, derive(seed, "random", student))
        train = EncodedImages(chosen.inputs().to(device), chosen.targets().to(device))
    shape, classes = data.train.shape, data.train.num_classes
    student_seed = derive(seed, "student", student)
    net = train_student(train, shape, classes, network, how.protocol, student_seed, device, how.steps)
    train_seconds = time.perf_counter() - started
    encoding = images.encoding if proxy == "distilled" else data.encoding
    judged = judge(net, DeviceImages(data.val, encoding, device))
    return {
        **judged.scores(),
        "finite": bool(judged.logits.isfinite().all()),
        "seconds": time.perf_counter() - started,
        "train_seconds": train_seconds,
        "images": how.images,
        "steps": how.steps,
        "flops": how.images * training_flops(network, shape, classes),
    }


def fits(name: str, shape: tuple[int, int, int]) -> bool:
    """Whether the network can take images of ``shape`` (K, H, W)."""
    try:
        build(name, shape, 2, 0)
    except ConfigError:
        return False
    return True


def _random(images: DistilledSet, data: TrainData, seed: int) -> DistilledSet:
    return real_set("random", data, len(images.pixels) // len(images.classes), "none", seed)
