"""How a student is trained: named protocols, one for every arm of a comparison (methods: random, herding, …, distilled)."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from raydistill.config import Config, once
from raydistill.errors import UnknownNameError
from raydistill.models.fit import Recipe


class Protocol(Recipe):
    """SGD on a small set; the rate is divided by ten and momentum restarts after half of the epochs.

    As in the released codes, ``epochs`` = E runs passes 0 … E and the first rate holds up to pass E//2 + 1 included.
    """

    name: str = "custom"
    "Shown beside every result."
    epochs: int = Field(1000, ge=1)
    "Passes over the set; with n images and batch ≥ n one pass is one step."

    def rates(self) -> list[float]:
        """The learning rate of each of the E + 1 passes."""
        first = min(self.epochs // 2 + 2, self.epochs + 1)
        return [self.lr] * first + [self.lr * 0.1] * (self.epochs + 1 - first)


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


Baseline = Literal["initial", "random", "herding", "kcenter", "whole"]


class Further(Config):
    """A table beside the main one: the same sets under another protocol, on other networks, or with hard labels."""

    protocol: Protocol = protocol("field")
    "How this table's students are trained; its name must be the table's own."
    networks: tuple[str, ...] = ()
    "Architectures to train; empty: the one distilled with."
    baselines: tuple[Baseline, ...] = ()
    "What stands beside the distilled set in this table."
    students: int = Field(5, ge=1)
    "Networks trained from scratch on each set."
    labels: Literal["own", "hard"] = "own"
    "What the sets' images are trained towards: the sets' own labels, or hard ones in the place of learned soft ones."
    rates: tuple[float, ...] = ()
    """Learning rates to choose from, for each set and network, by one student's accuracy on the validation split; a rate
    that was learned with the set gives way. Empty: no choice. ``whole`` keeps the protocol's rate."""

    @field_validator("rates")
    @classmethod
    def _positive(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if any(rate <= 0 for rate in rates) or len(set(rates)) < len(rates):
            raise ValueError("learning rates must be above 0 and each be named once")
        return rates


class EvaluateConfig(Config):
    """The final table: what the chosen set is worth, and what stands beside it under the identical protocol."""

    protocol: Protocol = protocol("field")
    "How each student is trained, the same for every set, but for a rate that a set learned with its images."
    students: int = Field(5, ge=1)
    "Networks trained from scratch on each set."
    networks: tuple[str, ...] = ()
    "Architectures to train; empty: the one distilled with."
    baselines: tuple[Baseline, ...] = (
        "random",
        "kcenter",
        "herding",
        "whole",
    )
    """Sets of the same size to stand beside the distilled one: ``initial`` is what the distillation began with, labels
    included (with soft labels: what these alone are worth); ``whole`` is all real training images. Each student of ``random``
    has a draw of its own."""
    whole_epochs: int = Field(10, ge=1)
    "Epochs, one pass more, of the ``whole`` baseline (its batches, rate and augmentation are the protocol's)."
    whole_students: int = Field(1, ge=1)
    "Networks trained on the whole set; each costs a full training."
    also: dict[str, Further] = {}
    "Further tables by name, such as ``cross``: other networks, each with a learning rate of its own."

    @model_validator(mode="after")
    def _told_apart(self) -> "EvaluateConfig":
        once("networks", self.networks)
        once("baselines", self.baselines)
        names = [self.protocol.name]
        for key, table in self.also.items():
            if not key.isidentifier():
                raise ValueError(f"also: {key!r} cannot name a table; use letters, digits and _")
            if table.protocol.name in names:
                raise ValueError(
                    f"also.{key}.protocol.name={table.protocol.name!r}: another table's protocol has this name, by which "
                    "their rows are told apart; give it one of its own"
                )
            once(f"also.{key}.networks", table.networks)
            once(f"also.{key}.baselines", table.baselines)
            names.append(table.protocol.name)
        return self

    @property
    def arms(self) -> tuple[Baseline, ...]:
        """Every baseline of any table, each once."""
        return tuple(dict.fromkeys([*self.baselines, *(b for table in self.also.values() for b in table.baselines)]))

    def most_students(self, arm: Baseline) -> int:
        """Of a baseline's students in the table that has most of them."""
        tables: list[EvaluateConfig | Further] = [self, *self.also.values()]
        return max((table.students for table in tables if arm in table.baselines), default=1)

    @property
    def every_network(self) -> tuple[str, ...]:
        """Every architecture named in any table, each once."""
        return tuple(dict.fromkeys([*self.networks, *(n for table in self.also.values() for n in table.networks)]))
