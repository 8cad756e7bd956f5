"""A search as one typed value: data, method, space, budget, evaluation, NAS. A file in ``searches/`` builds one.

Nothing here imports Ray or Optuna, so a search can be read, changed and planned anywhere.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from raydistill import registry
from raydistill.config import Config, Scalar
from raydistill.data.load import DataConfig
from raydistill.distill.method import MethodConfig
from raydistill.errors import ConfigError
from raydistill.evaluate.protocol import EvaluateConfig, Protocol, protocol
from raydistill.nas.space import NASConfig
from raydistill.runtime.base import Share


class When(Config):
    """A condition: this path has one of these values."""

    path: str
    "Dotted path of the setting that is asked about, such as ``distill.init``."
    values: tuple[Scalar, ...]
    "The values for which the condition holds."


class Float(Config):
    """A real number in [low, high], both included."""

    kind: Literal["float"] = "float"
    "Tells the kinds of distributions apart in a stored search."
    low: float
    "The smallest value."
    high: float
    "The largest value."
    log: bool = False
    "Uniform in the logarithm."
    when: When | None = None
    "Only searched while the condition holds; otherwise the search's own value stands."

    @model_validator(mode="after")
    def _ordered(self) -> "Float":
        return _ordered(self)


class Int(Config):
    """A whole number in [low, high], both included."""

    kind: Literal["int"] = "int"
    "Tells the kinds of distributions apart in a stored search."
    low: int
    "The smallest value."
    high: int
    "The largest value."
    log: bool = False
    "Uniform in the logarithm."
    when: When | None = None
    "Only searched while the condition holds; otherwise the search's own value stands."

    @model_validator(mode="after")
    def _ordered(self) -> "Int":
        return _ordered(self)


class Choice(Config):
    """One of several values."""

    kind: Literal["choice"] = "choice"
    "Tells the kinds of distributions apart in a stored search."
    values: tuple[Scalar, ...] = Field(min_length=1)
    "The values, each as likely at first."
    when: When | None = None
    "Only searched while the condition holds; otherwise the search's own value stands."


Bounds = TypeVar("Bounds", "Float", "Int")
Distribution = Annotated[Float | Int | Choice, Field(discriminator="kind")]


def _ordered(self: Bounds) -> Bounds:
    if self.low > self.high:
        raise ValueError(f"low={self.low} is above high={self.high}")
    if self.log and self.low <= 0:
        raise ValueError(f"a log scale needs low above 0, not {self.low}")
    return self


Stage = Literal["experts", "search", "distill", "evaluate", "nas"]


GPUs = Literal["auto"] | Annotated[float, Field(ge=0)]


class Resources(Config):
    """What a piece of one stage's work may use, where that differs from the budget's own."""

    cpus: float | None = Field(None, gt=0)
    "Cores, a fraction too; ``None``: the budget's own."
    gpus: GPUs | None = None
    "GPUs, a fraction too, or ``auto``; ``None``: the budget's own."
    accelerator: str | None = Field(None, min_length=1)
    "Ray's name of the GPU's type; ``None``: the budget's own."


class Budget(Config):
    """How much is tried, how early a poor trial ends, and what one piece of work may use."""

    trials: int = Field(16, ge=1)
    "How many settings are tried."
    parallel: int = Field(2, ge=1)
    """At most this many trials at once. Trial n is suggested from the results of trials 0 … n − parallel alone, so the
    same search gives the same trials on one worker or on many."""
    sampler: Literal["tpe", "random", "nsga2"] = "tpe"
    "Optuna's: TPE, random draws alone, or NSGA-II."
    objectives: Literal["accuracy", "accuracy+seconds"] = "accuracy"
    "Validation accuracy up; or that and seconds down (a Pareto front), which are the clock's and so differ each time."
    stopping: Literal["asha", "none"] = "asha"
    "Whether poor trials end early (ASHA, Li et al., MLSys 2020)."
    grace: int = Field(50, ge=1)
    "Iterations before a trial may be stopped; rungs lie at grace, grace·reduction, grace·reduction², …"
    reduction: int = Field(3, ge=2)
    "A trial goes on past a rung if it is among the best 1/reduction there."
    startup: int = Field(8, ge=1)
    "First trials drawn at random, before the sampler models the results."
    cpus: float = Field(1, gt=0)
    "Cores per trial, expert, student or network; a fraction lets several share one."
    gpus: GPUs = "auto"
    """Per trial, expert, student or network; a fraction lets several share one GPU. ``auto``: none where there is no GPU,
    else as small a share as its memory allows, which is tried at the start."""
    accelerator: str | None = Field(None, min_length=1)
    "Ray's name of the GPU's type, such as ``H100``, where a cluster has several; ``None``: any."
    final_cpus: float = Field(1, gt=0)
    "Cores of what is done by itself: the final distillation and, where there is no GPU, a network that one process confirms."
    resources: dict[Stage, Resources] = {}
    'Stage → what differs from the above there, e.g. ``{"nas": Resources(gpus=0.25)}``.'
    max_failures: int = Field(2, ge=0)
    """How often a trial whose process dies is started again from its checkpoint, and a team of ``nas.workers`` from its last
    epoch, be it a process or its machine that was lost."""
    validation: Protocol = protocol("fast")
    "How the students are trained that rate a trial on the validation split."
    students: int = Field(1, ge=1)
    "Students that rate a trial at each rung and at its end."

    @model_validator(mode="after")
    def _accelerated(self) -> "Budget":
        for stage, given in self.resources.items():
            if given.accelerator is not None and self.asks(stage) == 0:
                raise ValueError(f"resources.{stage}.accelerator={given.accelerator!r} needs gpus above 0")
        if self.accelerator is not None and not any(self.asks(stage) for stage in get_args(Stage)):
            raise ValueError(f"accelerator={self.accelerator!r} needs gpus above 0")
        return self

    def asks(self, stage: Stage) -> GPUs:
        """GPUs that a piece of a stage's work asks for."""
        given = self.resources.get(stage, Resources()).gpus
        return self.gpus if given is None else given

    def of(self, stage: Stage) -> Share:
        """What a piece of a stage's work has; no GPU as long as an ``auto`` is not settled, see ``raydistill.sharing``."""
        given = self.resources.get(stage, Resources())
        cpus = given.cpus or (self.final_cpus if stage == "distill" else self.cpus)
        asked = self.asks(stage)
        gpus = 0.0 if asked == "auto" else asked
        return Share(cpus, gpus, (given.accelerator or self.accelerator) if gpus else None)


class Search(Config):
    """One experiment, from data to report."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,80}$")
    "Of the run folder and the MLflow experiment."
    seed: int = 0
    "Every random draw derives from it."
    data: DataConfig = DataConfig()
    "Which real data, and how they are divided."
    distill: SerializeAsAny[MethodConfig]
    "The method's Config: the values that are not searched."
    space: dict[str, Distribution] = {}
    "Dotted config path → distribution, e.g. ``distill.lr_img``. Empty: no search, the settings above are used."
    budget: Budget = Budget()
    "How much is tried, and what one piece of work may use."
    final: dict[str, Scalar] = {}
    "Settings of the final distillation that differ from the best trial's, e.g. more ``distill.iterations``."
    evaluate: EvaluateConfig = EvaluateConfig()
    "The final table: what the set is worth, and what stands beside it."
    nas: NASConfig | None = None
    "The last stage; ``None`` leaves it out."

    @field_validator("distill", mode="before")
    @classmethod
    def _of_its_method(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return registry.resolve("method", str(value.get("method"))).Config.parse(value)
        return value

    @model_validator(mode="after")
    def _space_fits(self) -> "Search":
        known = self.flat()
        if self.final:
            self.model_copy(update={"space": {}, "final": {}}).override(self.final)
        for path in self.space:
            if not path.startswith("distill."):
                raise ConfigError(
                    f"space: {path!r} is not a setting of the distillation; use paths like 'distill.lr_img'"
                )
            if path not in known:
                self.override({path: 0})  # raises with the nearest known path
            self._condition_fits(path)
        for changes in corners(self):
            self.without_space().override(changes)
        return self

    def _condition_fits(self, path: str) -> None:
        known, seen, when = self.without_space().flat(), [path], self.space[path].when
        while when is not None:
            if when.path not in known:
                self.without_space().override({when.path: 0})  # raises with the nearest known path
            seen.append(when.path)
            if seen.count(when.path) > 1:
                raise ConfigError(f"space: {' depends on '.join(seen)}; a condition must lead to a setting without one")
            when = self.space[when.path].when if when.path in self.space else None

    def without_space(self) -> "Search":
        """The same with nothing searched and nothing changed at the end."""
        return self.model_copy(update={"space": {}, "final": {}})

    def confirming(self) -> Share:
        """What a process has that trains a confirmed network.

        Nothing runs beside it: it has a whole GPU where it has one (NCCL takes one process a GPU), else, alone, ``final_cpus``.
        """
        budget = self.budget
        share = budget.of("nas")
        if share.gpus:
            return share._replace(gpus=max(1.0, share.gpus))
        own = budget.resources.get("nas", Resources()).cpus
        together = self.nas is not None and self.nas.workers > 1
        return share if own or together else share._replace(cpus=budget.final_cpus)


def corners(search: Search) -> Iterator[dict[str, Scalar]]:
    """Settings with each path at each end of its range, and what goes with that: its condition, and those that it lets in."""
    space = search.space
    for path, distribution in space.items():
        for value in edges(distribution):
            changes: dict[str, Scalar] = {path: value}
            when = distribution.when
            while when is not None:
                changes[when.path] = when.values[0]
                when = space[when.path].when if when.path in space else None
            for other in [*space] * len(space):  # one lets in another, in whatever order they stand
                child = space[other]
                when = child.when
                if when is not None and when.path in changes and changes[when.path] in when.values:
                    changes.setdefault(other, edges(child)[0])
            yield changes


def edges(distribution: Distribution) -> tuple[Scalar, ...]:
    """The outermost values of a distribution: if they are valid settings, what lies between is."""
    return distribution.values if isinstance(distribution, Choice) else (distribution.low, distribution.high)
