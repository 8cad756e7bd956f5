"""What the last stage trains: which networks, on what, how long; and which of them are confirmed on the whole set."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from raydistill.config import Config, once
from raydistill.evaluate.protocol import Protocol, protocol
from raydistill.models.convnet import Activation, ConvNetConfig, Norm, Pooling
from raydistill.models.names import name_of

Proxy = Literal["distilled", "random", "early", "whole"]
"What a network is trained on to be ranked; ``whole`` is the truth that the others stand for."


class Sampling(Config):
    """ConvNets that Optuna draws, each from the accuracies of those before it."""

    samples: int = Field(32, ge=1)
    "How many networks are drawn."
    parallel: int = Field(4, ge=1)
    "So many are drawn and rated at a time. Network n is drawn from the results of networks 0 … n − parallel alone."
    sampler: Literal["tpe", "random"] = "tpe"
    "Optuna's: TPE, which models the results, or random draws alone."
    startup: int = Field(8, ge=1)
    "First networks drawn at random, before the sampler models the results."
    start: ConvNetConfig = ConvNetConfig()
    "The first network, if it is in the space."
    depths: tuple[int, ...] = Field((1, 2, 3, 4, 5), min_length=1)
    "Those too deep for the images are left out."
    widths: tuple[int, ...] = Field((32, 64, 128, 256), min_length=1)
    "Channels of every block."
    norms: tuple[Norm, ...] = Field(("none", "batch", "layer", "instance", "group"), min_length=1)
    "Normalisations."
    activations: tuple[Activation, ...] = Field(("sigmoid", "relu", "leakyrelu", "swish"), min_length=1)
    "Activation functions."
    poolings: tuple[Pooling, ...] = Field(("none", "max", "avg"), min_length=1)
    "Poolings after each block."


class NASConfig(Config):
    """The last stage: which network is best when trained on the distilled set, and whether that can be believed."""

    networks: tuple[str, ...] = ()
    "Names to rank, or ``ConvNetConfig``s, which become names; empty: the 22 of the grid, or with ``sampled`` none."
    sampled: Sampling | None = None
    "Networks to draw in addition; each is rated on the distilled set as soon as it is drawn."
    protocol: Protocol = protocol("seed")
    "How each network is trained, on the set and beside it."
    students: int = Field(1, ge=1)
    "Seeds a network."
    baselines: tuple[Literal["random", "early", "whole"], ...] = ()
    """What else the networks are ranked on: ``random`` real images, as many a class as the set has, another draw for each
    seed; ``early``: all training images, stopped after as many images and steps as on the set; ``whole``: all
    training images for ``whole_epochs``, the order that the others are judged by."""
    whole_epochs: int = Field(10, ge=1)
    "Of the baseline ``whole``; as in every protocol, E epochs are E + 1 passes."
    whole_students: int | None = Field(None, ge=1)
    "Seeds a network of the baseline ``whole``, whose trainings are by far the longest; ``None``: ``students``."
    confirm: Annotated[int, Field(ge=0)] | Literal["all"] = 1
    """How many of the best on the set are trained on all training images at the end; the best of these on the validation
    split is the winner, whose test accuracy is read once."""
    confirm_epochs: int = Field(10, ge=1)
    "Of that training, one pass more."
    workers: int = Field(1, ge=1)
    """Processes that share each batch of that training (Ray Train); each has ``budget.cpus`` and a whole GPU where there are
    any, else, alone, ``final_cpus``. Where a network has batch norm, its accuracy depends on their number. If a machine is
    lost, or has no room, fewer do it: the others go on from the last epoch."""

    @field_validator("networks", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        configs = [ConvNetConfig.parse(one) if isinstance(one, Mapping) else one for one in value]
        return tuple(name_of(one) if isinstance(one, ConvNetConfig) else one for one in configs)

    @model_validator(mode="after")
    def _told_apart(self) -> "NASConfig":
        once("baselines", self.baselines)
        return self

    @property
    def proxies(self) -> tuple[Proxy, ...]:
        """The distilled set, then the baselines."""
        return ("distilled", *self.baselines)

    def seeds(self, proxy: Proxy) -> range:
        """The students of each network on a proxy."""
        own = self.whole_students if proxy == "whole" else None
        return range(self.students if own is None else own)
