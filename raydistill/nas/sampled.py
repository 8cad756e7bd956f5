"""ConvNets that Optuna draws: the settings' search over the architecture, its trials being students of the distilled set.

Nothing is stored but the networks' units. What is drawn is a pure function of the accuracies before it, so a start after
a kill draws the same networks again and finds the finished ones rated.
"""

from collections.abc import Callable, Sequence

from raydistill.artifacts import COMPLETED
from raydistill.errors import ConfigError
from raydistill.models import name_of
from raydistill.models.convnet import GROUPS
from raydistill.nas.rank import fits
from raydistill.nas.space import Sampling
from raydistill.search.definition import Budget, Choice, Search
from raydistill.search.trials import TrialRecord

START = "nas.sampled.start"
Rate = Callable[[Sequence[str]], Sequence[float]]
"Networks → their accuracies on the distilled set."


def as_search(search: Search, shape: tuple[int, int, int]) -> Search:
    """The search over architectures in the form that ``search.study`` suggests for.

    Raises:
        ConfigError: no depth of the space fits images of ``shape`` (K, H, W), or a network of it is not possible.
    """
    sampling = _sampling(search)
    halving = sampling.start.override({"pooling": "avg"})
    depths = tuple(d for d in sampling.depths if fits(name_of(halving.override({"depth": d})), shape))
    if not depths:
        raise ConfigError(f"nas.sampled.depths={sampling.depths}: too deep for images of {shape[1]}x{shape[2]}")
    if "group" in sampling.norms:
        uneven = [width for width in sampling.widths if width % GROUPS]
        if uneven:
            raise ConfigError(f"nas.sampled.widths: {uneven[0]} is no multiple of {GROUPS}, the groups of norm 'group'")
    choices = {
        "depth": depths,
        "width": sampling.widths,
        "norm": sampling.norms,
        "activation": sampling.activations,
        "pooling": sampling.poolings,
    }
    budget = Budget(
        trials=sampling.samples, parallel=sampling.parallel, sampler=sampling.sampler, startup=sampling.startup
    )
    # Copied, not built anew: a search over settings is held to the distillation's.
    space = {f"{START}.{name}": Choice(values=tuple(values)) for name, values in choices.items()}
    return search.model_copy(update={"space": space, "budget": budget, "final": {}})


def draw(search: Search, shape: tuple[int, int, int], rate: Rate) -> list[str]:
    """Draw and rate the networks of ``search.nas.sampled``; returns their names in the order drawn.

    Args:
        search: the search; its seed is the draws'.
        shape: (K, H, W).
        rate: rates the networks of one round.
    """
    from raydistill.search.study import suggest

    sampling, form = _sampling(search), as_search(search, shape)
    records: list[TrialRecord] = []
    names: list[str] = []
    while len(names) < sampling.samples:
        fresh = []
        for number in range(len(names), min(len(names) + sampling.parallel, sampling.samples)):
            params = suggest(form, number, records)
            changes = {path.removeprefix(f"{START}."): value for path, value in params.items()}
            fresh.append(name_of(sampling.start.override(changes)))
            # Of what is drawn beside it, Optuna is shown the settings and not the result.
            records.append(TrialRecord(number, params, COMPLETED, {}, 0.0, 0.0))
        accuracies = rate(fresh)
        for number, accuracy in enumerate(accuracies, start=len(names)):
            records[number] = TrialRecord(number, records[number].params, COMPLETED, {}, accuracy, 0.0)
        names += fresh
    return names


def _sampling(search: Search) -> Sampling:
    assert search.nas is not None
    assert search.nas.sampled is not None
    return search.nas.sampled
