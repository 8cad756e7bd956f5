"""The battery for methods: DataDAM passes it in all its forms, and broken methods do not."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from raydistill.data.load import DataConfig, load_test
from raydistill.distill.datadam import DataDAM, DataDAMConfig
from raydistill.distill.pad import PAD, PADConfig
from raydistill.models.fit import Recipe
from tests.conformance.methods import check_method
from tests.distill import small

SMALL = {"ipc": 2, "batch_real": 6, "power": 2, "lr_img": 1.0, "loss_scale": 1.0}
TRAINING = Recipe(batch=12, lr=0.05, momentum=0, weight_decay=0)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"power": 4, "ipc": 1},
        {"power": 1, "network": "ConvNetBN", "momentum": 0},
        {"power": 3, "augment": "natural"},
        {"augment": "none", "network": "ConvNetGN"},
        {"factor": 2},
        {"precision": "bfloat16"},
        {"network_pool": 3},
        {"network_pool": 4, "network_stages": (0, 4), "training": TRAINING, "pool_draws": 2},
        {"network_stages": (2,), "training": TRAINING},
    ],
    ids=str,
)
def test_datadam(settings: dict[str, Any]) -> None:
    check_method(DataDAM, DataDAMConfig(**{**SMALL, **settings}))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"labels": "hard", "alpha": 0.0},
        {"drop": "loss", "alpha": 0.5, "batch_syn": 4},
        {"gradient": "full", "augment": "natural"},
        {"gradient": "two_pass"},
        {"gradient": "window", "window": 1},
        {"factor": 2, "current_max_start_epoch": 1, "expansion_end": 5},
        {"precision": "bfloat16", "lr_schedule": "cosine"},
    ],
    ids=str,
)
def test_pad(settings: dict[str, Any]) -> None:
    check_method(PAD, PADConfig(**{**small.PAD_SETTINGS, **settings}))


class GloballyRandom(DataDAM):
    def step(self, iteration: int) -> Mapping[str, float]:
        torch.rand(1)
        return super().step(iteration)


class NumPyRandom(DataDAM):
    def step(self, iteration: int) -> Mapping[str, float]:
        np.random.rand()
        return super().step(iteration)


class ClockSeeded(DataDAM):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.seed = time.perf_counter_ns()


class Seedless(DataDAM):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args[:-1], 0)


class ForgetsMomentum(DataDAM):
    def state(self) -> dict[str, Tensor]:
        return {"images": self.images.detach()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        super().restore({**state, "velocity": torch.zeros_like(self.velocity)})


class ForgetsImages(DataDAM):
    def restore(self, state: Mapping[str, Tensor]) -> None:
        super().restore({**state, "images": self.images.detach()})


class KeepsObjects(DataDAM):
    def state(self) -> dict[str, Any]:
        return {**super().state(), "config": self.config}


class CountsItself(DataDAM):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.count = 0

    def step(self, iteration: int) -> Mapping[str, float]:
        self.count += 1
        return super().step(self.count - 1)


class CachesTooMuch(DataDAM):
    """Takes the real statistics of whichever network came first."""

    def _visit(self, iteration: int) -> Any:
        self.first = getattr(self, "first", None) or super()._visit(iteration)
        return self.first


class UnsortedLabels(DataDAM):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.labels = self.labels.flip(0)


class Climbs(DataDAM):
    def step(self, iteration: int) -> Mapping[str, float]:
        before = self.images.detach().clone()
        numbers = super().step(iteration)
        with torch.no_grad():
            self.images.copy_(before + 3 * self.velocity)
        return numbers


class StandsStill(DataDAM):
    def step(self, iteration: int) -> Mapping[str, float]:
        before = self.images.detach().clone()
        numbers = super().step(iteration)
        with torch.no_grad():
            self.images.copy_(before)
        return numbers


class NoLoss(DataDAM):
    def step(self, iteration: int) -> Mapping[str, float]:
        return {"distance": super().step(iteration)["loss"]}


class NaNLoss(DataDAM):
    def step(self, iteration: int) -> Mapping[str, float]:
        return {**super().step(iteration), "loss": float("nan")}


class TensorLoss(DataDAM):
    def step(self, iteration: int) -> Mapping[str, Any]:
        return {"loss": torch.tensor(super().step(iteration)["loss"])}


class Widens(DataDAM):
    def step(self, iteration: int) -> Mapping[str, float]:
        self.images = self.images.detach().float().requires_grad_()
        numbers = super().step(iteration)
        self.images = self.images.detach().double().requires_grad_()
        return numbers


class ChangesItsStart(DataDAM):
    def __init__(self, config: Any, real: Any, images: Tensor, *rest: Any) -> None:
        super().__init__(config, real, images, *rest)
        self.images = images.requires_grad_()


class ChangesTheReal(DataDAM):
    def step(self, iteration: int) -> Mapping[str, float]:
        self.real.pixels.zero_()
        return super().step(iteration)


class LooksAtTheTest(DataDAM):
    def step(self, iteration: int) -> Mapping[str, float]:
        load_test(DataConfig(source="digits"))
        return super().step(iteration)


BROKEN = {
    GloballyRandom: "global random state",
    NumPyRandom: "global random state",
    ClockSeeded: "equal seeds give other numbers",
    Seedless: "the seed names nothing",
    ForgetsMomentum: "restored, it goes on with other",
    ForgetsImages: "restored, it goes on with other",
    KeepsObjects: "other things than tensors",
    CountsItself: "goes on with other|depends on the steps",
    CachesTooMuch: "goes on with other|depends on the steps",
    UnsortedLabels: "not sorted",
    Climbs: "does not go down",
    StandsStill: "do not move",
    NoLoss: "no loss",
    NaNLoss: "not finite",
    TensorLoss: "no floats",
    Widens: "float64",
    ChangesItsStart: "initial images",
    ChangesTheReal: "changes the real images",
    LooksAtTheTest: "data of its own",
}


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_methods_are_found_out(broken: type[DataDAM]) -> None:
    with pytest.raises(AssertionError, match=BROKEN[broken]):
        check_method(broken, DataDAMConfig(**SMALL))
