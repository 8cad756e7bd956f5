"""Whether a search's settings fit its data, found out before anything is written or computed."""

from collections.abc import Iterator

from raydistill.data.images import ImageSet
from raydistill.distill.method import MethodConfig
from raydistill.errors import ConfigError
from raydistill.models import build
from raydistill.nas import rank, sampled
from raydistill.search.definition import Search, corners


def check_fit(search: Search, train: ImageSet, with_coresets: bool) -> None:
    """Networks must take the images, and classes must have images enough, at both ends of the space too.

    Args:
        search: the search.
        train: what is distilled.
        with_coresets: whether sets of real images will be chosen as baselines.

    Raises:
        ConfigError: a network or ``ipc`` that does not fit.
    """
    shape, classes = train.shape, train.num_classes
    for name in search.evaluate.every_network:
        build(name, shape, classes, 0)
    soft = getattr(search.distill, "labels", "hard") == "soft"
    for name, table in search.evaluate.also.items():
        if table.labels == "hard" and not soft:
            raise ConfigError(f"evaluate.also.{name}.labels='hard': the set has hard labels anyway; leave it out")
    if search.nas is not None:
        rank.networks(search.nas, shape)
        if search.nas.sampled is not None:
            sampled.as_search(search, shape)
    fewest = min(len(members) for members in train.by_class())
    coresets = set(search.evaluate.arms) - {"whole"} if with_coresets else set()
    if search.nas is not None and "random" in search.nas.baselines:
        coresets.add("random")
    for config in extremes(search):
        build(config.network, shape, classes, 0)
        needed = 0 if config.init == "noise" else config.ipc * config.factor**2
        if max(needed, config.ipc if coresets else 0) > fewest:
            times = f" (each of {config.factor}x{config.factor} parts)" if config.factor > 1 and needed else ""
            raise ConfigError(
                f"distill.ipc={config.ipc}{times}: the smallest class has {fewest} training images; lower it"
            )


def extremes(search: Search) -> Iterator[MethodConfig]:
    """The search's own settings, those at each end of its space, and the final ones."""
    plain = search.without_space()
    yield plain.distill
    for changes in corners(search):
        yield plain.override(changes).distill
    if search.final:
        yield plain.override(search.final).distill
