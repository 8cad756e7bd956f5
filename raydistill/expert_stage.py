"""The experts stage: difficulty scores and trajectories, whatever the cache lacks, trained in parallel.

The cache (``experts/store.py``) is shared by runs; what a run's own folder keeps is one unit for each trajectory, from
which trackers and the report read accuracies and losses.
"""

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from raydistill import artifacts, results, storage
from raydistill.artifacts import COMPLETED, Unit
from raydistill.checks import extremes
from raydistill.config import fingerprint
from raydistill.data.load import TrainData
from raydistill.display import Display, meanwhile, noted, now_and_then
from raydistill.distill.pad import PADConfig
from raydistill.distill.unit import distil_item
from raydistill.errors import ArtifactError, ConfigError, EnvironmentIssue
from raydistill.experts import store
from raydistill.experts.difficulty import readable, score_item
from raydistill.experts.trajectory import ExpertConfig, Place, covers, finished, last_part, part_numbers, train_item
from raydistill.models import build
from raydistill.models.flat import Layout
from raydistill.runtime.base import Runtime, Share
from raydistill.search.definition import Search
from raydistill.seeding import numpy_generator

WATCH_SECONDS = 1.0

FILE_BYTES = 16384
"A folder, its manifest, the header and whole blocks, beside the numbers."


class Wanted(NamedTuple):
    """The experts that a search asks for, over all of its space."""

    config: ExpertConfig
    network: str
    first: int
    "Epoch that is kept; those before it are trained only."
    epochs: int


def wanted(search: Search) -> Wanted | None:
    """What to train; ``None`` for a method without experts.

    Raises:
        ConfigError: the space asks for different experts, or for more epochs than ``experts.epochs``.
    """
    configs = [config for config in extremes(search) if isinstance(config, PADConfig)]
    if not configs:
        return None
    kinds = {(fingerprint(config.experts.identity()), config.network) for config in configs}
    if len(kinds) > 1:
        raise ConfigError(
            "space: experts cannot be searched, each setting would need its own; search what matches them instead, "
            "or run one search for each"
        )
    experts = configs[0].experts
    # Any start may be drawn with any length.
    last_start = max(config.max_start_epoch for config in configs) - 1
    read = last_start + max(config.expert_epochs for config in configs)
    if experts.epochs is not None and read > experts.epochs:
        raise ConfigError(
            f"distill.experts.epochs={experts.epochs}: the space reaches epoch {read}, where the largest max_start_epoch and "
            "expert_epochs meet; record longer experts, or leave experts.epochs out"
        )
    epochs = experts.epochs or read
    count = max(config.experts.count for config in configs)
    first = min(config.min_start_epoch for config in configs)
    return Wanted(experts.model_copy(update={"count": count}), configs[0].network, first, epochs)


def missing(search: Search, run: Path, data: TrainData) -> int:
    """How many trajectories the cache lacks."""
    want = wanted(search)
    if want is None:
        return 0
    place = store.entry(store.beside(run), want.config, want.network, data)
    return len(_open(place, want))


def disk_bytes(want: Wanted, data: TrainData) -> int:
    """What all trajectories take on the disk when they are trained."""
    width = torch.empty(0, dtype=getattr(torch, want.config.storage)).element_size()
    return want.config.count * (want.epochs + 1 - want.first) * _parameters(want, data) * width


def peak_bytes(want: Wanted, data: TrainData, todo: int, at_once: int) -> int:
    """What ``todo`` trajectories take at the most while ``at_once`` of them are trained.

    An epoch's state is a float32 file of its own until the whole trajectory, in whatever precision, has been written beside
    them; and while epochs come that are not kept, the last two states are there.
    """
    states = want.epochs + 1 - want.first + (1 if want.first else 0)
    parts = states * (4 * _parameters(want, data) + FILE_BYTES)
    whole = disk_bytes(want, data) // want.config.count + FILE_BYTES
    return todo * whole + min(todo, at_once) * parts


def _parameters(want: Wanted, data: TrainData) -> int:
    return Layout.of(build(want.network, data.train.shape, data.train.num_classes, 0)).size


def run_experts(
    search: Search,
    run: Path,
    data: TrainData,
    runtime: Runtime,
    display: Display,
    beside: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Train what the cache lacks, and note every trajectory in the run.

    Args:
        search: whose experts.
        run: its run folder.
        data: what they are trained on.
        runtime: where.
        display: told what happens.
        beside: the final distillation's arguments; it is then one more piece of work, begun when its first experts end.

    Returns:
        What the distillation beside ended with; ``None`` if there was none, or if memory does not suffice for both at once.

    Raises:
        EnvironmentIssue: the disk has no room for them, or several nodes do not share it.
    """
    want = wanted(search)
    if want is None:
        return None
    place, todo = _entry(want, store.beside(run), data, runtime, search.budget.of("experts"), display)
    if want.config.curriculum is not None:
        _score(search, want, place, data, runtime, display)
    display.stage("experts", want.config.count, "trajectories", want.config.count - len(todo))
    units = {index: _begin(search, run, place, index) for index in range(want.config.count)}
    for index in set(units) - set(todo):
        _end(units[index], place, index)
    for unit in artifacts.units(run, "experts"):  # of an earlier start with more of them
        if int(unit.name) not in units:
            artifacts.remove(unit.directory)
    shared = {
        "data": data,
        "config": want.config,
        "network": want.network,
        "first": want.first,
        "epochs": want.epochs,
        "root": storage.address(place.root),
    }
    if beside is None:
        # Runs that share the cache would otherwise all wait for the trajectory that one of them is training.
        todo = numpy_generator(0, "order", run.name).permutation(todo).tolist()
    items: list[dict[str, Any]] = [{"index": index} for index in todo]
    work: Callable[..., dict[str, Any]] = train_item
    if beside is not None:
        work = _expert_or_set
        items.insert(_turn(search, todo, runtime), {"distillation": beside})
    ended = None
    told = noted(display, lambda position: units[items[position]["index"]]) if beside is None else _not_beside
    try:
        with _watched(place, todo, want.epochs, display):
            for position, result in runtime.map(work, items, shared, *search.budget.of("experts"), told=told):
                if "distillation" in items[position]:
                    ended = result
                    continue
                index = items[position]["index"]
                _end(units[index], place, index)
                numbers = {"val_accuracy": result["accuracies"][-1]}
                display.trial(index, want.epochs, want.epochs, numbers, COMPLETED)
                display.advance("experts", 1, f"expert {index}: {100 * result['accuracies'][-1]:.2f} %")
    except _TooTight as error:
        display.note(f"experts and set one after the other: {error}")
        return run_experts(search, run, data, runtime, display)
    return ended


def _entry(
    want: Wanted, cache: Path, data: TrainData, runtime: Runtime, share: Share, display: Display
) -> tuple[Place, list[int]]:
    """Where the experts are in the cache, seen by all nodes and with room for those that lack, which are named."""
    place = store.entry(cache, want.config, want.network, data)
    todo = _open(place, want)
    for path in (place.trajectory(index) for index in todo):
        if artifacts.folder_exists(path) and finished(path) is None:
            display.note(f"{path} is damaged; it is trained again")
            artifacts.remove(path)
    for index in set(range(want.config.count)).difference(todo):
        place.clear(index)
    _check_room(want, data, len(todo), runtime.capacity(*share), place)
    artifacts.write_json(place.root / store.ENTRY, store.identity(want.config, want.network, data))
    if todo:
        runtime.require_shared(place.root)
    return place, todo


class _TooTight(Exception):
    """Memory does not suffice for experts and distillation at once."""


def _not_beside(position: int, text: str) -> None:
    """With fewer workers the distillation could keep the last one from the experts that it waits for."""
    raise _TooTight(text)


def overlaps(search: Search, run: Path, data: TrainData, runtime: Runtime, display: Display) -> bool:
    """Whether the final distillation can go on while experts are trained; where ``first_experts`` asks for it in vain, why."""
    config, budget = search.distill, search.budget
    if not isinstance(config, PADConfig) or config.first_experts is None or not missing(search, run, data):
        return False
    why = None
    if search.space:
        why = "settings are searched with all of them"
    elif budget.of("experts") != budget.of("distill"):
        why = "budget.final_cpus is not budget.cpus, or their GPUs differ"
    elif runtime.capacity(*budget.of("experts")) < 2:
        why = "only one worker fits"
    if why:
        display.note(f"experts and set one after the other, though distill.first_experts={config.first_experts}: {why}")
    return why is None


def _turn(search: Search, todo: Sequence[int], runtime: Runtime) -> int:
    """When the distillation is begun: when as many experts have ended as it draws from at first."""
    assert isinstance(search.distill, PADConfig)
    needed = sum(index < (search.distill.first_experts or 0) for index in todo)
    others = runtime.capacity(*search.budget.of("experts")) - 1
    return min(len(todo), needed + others)


def _expert_or_set(
    *,
    data: TrainData,
    config: ExpertConfig,
    network: str,
    device: str,
    index: int = 0,
    distillation: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A trajectory, or the set that is distilled beside them, as a piece of work; ``more`` is ``train_item``'s."""
    if distillation is not None:
        return distil_item(data=data, device=device, wait=True, **distillation)
    return train_item(data=data, config=config, network=network, index=index, device=device, **more)


def _open(place: Place, want: Wanted) -> list[int]:
    """Trajectories that are not there, damaged, or do not hold all epochs."""
    storage.fetch(place.root)
    found = {index: finished(place.trajectory(index)) for index in range(want.config.count)}
    return [
        index for index, manifest in found.items() if manifest is None or not covers(manifest, want.first, want.epochs)
    ]


def _check_room(want: Wanted, data: TrainData, todo: int, at_once: int, place: Place) -> None:
    needed = peak_bytes(want, data, todo, at_once)
    there = place.root
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    # Of killed attempts some epochs are on the disk already.
    if needed > free + storage.size(place.parts):
        raise EnvironmentIssue(
            f"{todo} trajectories need {needed / 1e9:.1f} GB and {there} has {free / 1e9:.1f} GB free; lower "
            'distill.experts.count, set distill.experts.storage="float16", prune with `raydistill experts --prune`, '
            "or choose another --out"
        )


def _score(search: Search, want: Wanted, place: Place, data: TrainData, runtime: Runtime, display: Display) -> None:
    difficulty = want.config.difficulty
    todo = [index for index in range(difficulty.networks) if not readable(place.scores(index))]
    display.stage("difficulty", difficulty.networks, "networks", difficulty.networks - len(todo))
    items = [{"index": index, "directory": storage.address(place.scores(index))} for index in todo]
    shared = {"data": data, "config": difficulty, "network": want.network, "seed": want.config.seed}
    for _ in runtime.map(
        score_item, items, shared, *search.budget.of("experts"), told=lambda _, text: display.note(text)
    ):
        display.advance("difficulty")


def _begin(search: Search, run: Path, place: Place, index: int) -> Unit:
    unit = Unit(run / "units" / "experts" / f"{index:04d}")
    mark = artifacts.fingerprint_of(place.root.name, index)
    if unit.read().get("fingerprint") != mark:
        artifacts.remove(unit.directory)
        params = {"index": index, "cache": place.root.name}
        unit.begin(mark, params, results.tags(search))
    return unit


def _end(unit: Unit, place: Place, index: int) -> None:
    storage.fetch(place.trajectory(index))
    manifest = finished(place.trajectory(index))
    if manifest is None:
        raise ArtifactError(f"{place.trajectory(index)} is gone, or damaged since it was trained; start again")
    if unit.status == COMPLETED and unit.read().get("step") == manifest["epochs"]:
        return
    noted = zip(manifest["accuracies"], manifest["losses"], strict=True)
    unit.rewrite(
        {"step": epoch, "accuracy": accuracy, **({} if loss is None else {"loss": loss})}
        for epoch, (accuracy, loss) in enumerate(noted)
    )
    metrics = {"accuracy": manifest["accuracies"][-1], "epochs": float(manifest["epochs"])}
    unit.finish(COMPLETED, metrics, step=manifest["epochs"], checksum=manifest["checksums"][artifacts.TENSORS])


@contextmanager
def _watched(place: Place, todo: Sequence[int], epochs: int, display: Display) -> Iterator[None]:
    """Show each trajectory's epochs as they are stored; the work may be in other processes that write to this disk."""

    due, there = now_and_then(), dict[int, int]()

    def watch(over: threading.Event) -> None:
        seen: dict[int, int] = {}
        while not over.wait(WATCH_SECONDS):
            if storage.mirrored(place.parts) and due():
                # INDEX/EPOCH/FILE, of what other machines train
                names = [name.split("/") for name in storage.below(place.parts)]
                for index, epoch in sorted((int(n[0]), int(n[1])) for n in names if len(n) == 3 and n[1].isdigit()):
                    there[index] = epoch
            for index in todo:
                epoch = max(last_part(place, index), there.get(index, 0))
                if epoch > seen.get(index, 0) and epoch < epochs:
                    seen[index] = epoch
                    display.trial(index, epoch, epochs, part_numbers(place, index, epoch))

    with meanwhile(watch):
        yield
