"""How a student is trained: named protocols, one for every arm of a comparison (methods: random, herding, …, distilled)."""

from typing import Literal

from pydantic import Field

from raydistill.config import Config
from raydistill.errors import UnknownNameError


class Protocol(Config):
    """SGD on a small set: rate divided by ten after half, DSA on every batch."""

    name: str = "custom"
    "Shown beside every result."
    epochs: int = Field(1000, ge=1)
    "Passes over the set; with n images and batch ≥ n one pass is one step."
    batch: int = Field(256, ge=1)
    "Images a step; the last batch of an epoch may be smaller."
    lr: float = Field(0.01, gt=0)
    "First learning rate; a tenth of it after half of the epochs, when the momentum restarts from zero."
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    augment: str = "digits"
    "DSA strategy, drawn per image."
    precision: Literal["float32", "bfloat16"] = "float32"
    "Of the convolutions while training; tests always run in float32."


PROTOCOLS: dict[str, dict[str, object]] = {
    # The report's own: 50 epochs, on 100 images at batch 256 no more than 50 steps, which leaves students undertrained.
    "seed": {"epochs": 50},
    # The field's: DC, DSA, DM, DataDAM and the benchmarks train 1000 epochs.
    "field": {"epochs": 1000},
    # For searching: long enough to order settings, short enough to run many.
    "fast": {"epochs": 200},
}


def protocol(name: str, **changes: object) -> Protocol:
    """A named protocol with changes.

    Raises:
        UnknownNameError: no such protocol.
    """
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, PROTOCOLS)
    return Protocol(**{"name": name, **PROTOCOLS[name], **changes})


class EvaluateConfig(Config):
    """The final table: what the chosen set is worth, and what stands beside it under the identical protocol."""

    protocol: Protocol = protocol("field")
    students: int = Field(5, ge=1)
    "Networks trained from scratch on each set."
    networks: tuple[str, ...] = ()
    "Architectures to train; empty: the one distilled with."
    baselines: tuple[Literal["random", "herding", "kcenter", "whole"], ...] = ("random", "kcenter", "herding", "whole")
    "Sets of the same size to stand beside the distilled one; ``whole`` is all real training images."
    random_draws: int = Field(3, ge=1)
    "Different random sets; students are spread over them."
    whole_epochs: int = Field(10, ge=1)
    "Epochs of the ``whole`` baseline (its batches, rate and augmentation as the protocol's)."
