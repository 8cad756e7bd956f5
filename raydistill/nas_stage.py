"""The NAS stage: every (proxy, network, seed) as a unit of its own, then the best networks on the whole training set.

Units are found done by their fingerprint and never repeated. One on real images does not depend on the distilled set, so
it stays when that changes.
"""

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from raydistill import artifacts, results, reuse, storage
from raydistill.artifacts import COMPLETED, DIVERGED, Unit
from raydistill.data.distilled import DistilledSet
from raydistill.data.images import DeviceImages
from raydistill.data.load import TrainData, load_test
from raydistill.display import Display, latest_of, meanwhile, noted
from raydistill.evaluate import trained
from raydistill.evaluate.scores import TWO_CLASS
from raydistill.evaluate.students import judge
from raydistill.nas import confirm, rank, sampled, summary
from raydistill.nas.rank import Item
from raydistill.nas.schedule import largest_first, operations
from raydistill.nas.space import NASConfig
from raydistill.runtime.base import Runtime
from raydistill.runtime.local import Local
from raydistill.search.definition import Search
from raydistill.seeding import derive

WATCH_SECONDS = 1.0
"Between two looks at the epochs of a confirmation."


class Stage(NamedTuple):
    """What the stage works with."""

    search: Search
    config: NASConfig
    run: Path
    data: TrainData
    images: DistilledSet
    runtime: Runtime
    display: Display


def check_workers(search: Search, runtime: Runtime) -> None:
    """Find out before anything is trained whether one process of the confirmation has room; of a team as many as have.

    Raises:
        ConfigError: it has not.
    """
    if search.nas is not None and search.nas.confirm and not isinstance(runtime, Local):
        runtime.capacity(*search.confirming())


def run_nas(
    search: Search,
    run: Path,
    data: TrainData,
    images: DistilledSet,
    runtime: Runtime,
    display: Display,
    data_root: Path | None = None,
) -> None:
    """Rank the networks, and confirm the best; nothing to do where the search has no ``nas``.

    The test images are read once, for the confirmed winner; without ``confirm`` they are not read.
    """
    if search.nas is None:
        return
    stage = Stage(search, search.nas, run, data, images, runtime, display)
    listed = rank.distinct(rank.networks(search.nas, data.train.shape))
    drawn = 0 if search.nas.sampled is None else search.nas.sampled.samples
    each = sum(len(search.nas.seeds(proxy)) for proxy in search.nas.proxies)
    display.stage("nas", (len(listed) + drawn) * each, "trainings")
    networks = [*listed, *_draw(stage, listed)]
    _forget(stage, networks)
    # An architecture may be drawn twice, or be drawn and listed; it is trained once.
    display.advance("nas", (len(listed) + drawn - len(networks)) * each)
    rest = [p for p in search.nas.proxies if p != "distilled" or search.nas.sampled is None]
    _rate(stage, [Item(p, n, s) for p in rest for n in networks for s in search.nas.seeds(p)])
    chosen = summary.to_confirm(search.nas, summary.rated(run, "distilled"))
    if chosen:
        _confirm(stage, chosen)
        _test_winner(stage, chosen, data_root)


def _draw(stage: Stage, listed: Sequence[str]) -> list[str]:
    """The networks beside the listed ones that Optuna draws; with it, all are rated on the distilled set."""
    if stage.config.sampled is None:
        return []
    known: dict[str, float] = {}

    def rate(names: Sequence[str]) -> list[float]:
        fresh = [name for name in dict.fromkeys(names) if name not in known]
        _rate(stage, [Item("distilled", n, s) for n in fresh for s in stage.config.seeds("distilled")])
        found = {one.network: one.accuracy for one in summary.rated(stage.run, "distilled")}
        known.update((name, found[name]) for name in fresh)  # the others' units may be of other settings
        return [known[name] for name in names]

    rate(listed)
    drawn = sampled.draw(stage.search, stage.data.train.shape, rate)
    return [name for name in dict.fromkeys(drawn) if name not in listed]


def _rate(stage: Stage, items: Sequence[Item]) -> None:
    """Do what is not done of ``items``."""
    search, train = stage.search, stage.data.train
    shape, classes = train.shape, train.num_classes
    plans = {p: rank.plan(p, stage.config, stage.images, len(train)) for p in stage.config.proxies}
    cost = {item: operations(item, plans, shape, classes) for item in items}
    # What is drawn later is not known yet, so no share of the work is told then.
    every = sum(cost.values()) if stage.config.sampled is None else math.inf
    todo, taken, work = [], list[str](), 0
    for item in largest_first(items, plans, shape, classes):
        unit, mark = _unit(stage, item), _fingerprint(stage, item, plans[item.proxy])
        if unit.read().get("fingerprint") == mark and unit.status in Unit.FINAL:
            work += cost[item]
            continue
        artifacts.remove(unit.directory)
        unit.begin(mark, {**item._asdict(), **plans[item.proxy].protocol.flat()}, results.tags(search))
        if item.proxy != "distilled" and (other := reuse.taken(unit, stage.run)):
            taken.append(other)
            work += cost[item]
            continue
        todo.append(item)
    if taken:
        stage.display.note(reuse.told(taken, "networks"))
    if work:
        stage.display.advance("nas", len(items) - len(todo), share=work / every or None)
    shared = {"images": stage.images, "data": stage.data, "config": stage.config, "seed": derive(search.seed, "nas")}
    share, left = search.budget.of("nas"), len(todo)
    at_once = stage.runtime.capacity(*share) if todo else 0
    told = noted(stage.display, lambda index: _unit(stage, todo[index]))
    found = stage.runtime.map(rank.train_item, [item._asdict() for item in todo], shared, *share, told=told)
    for index, result in found:
        item, left = todo[index], left - 1
        work += cost[item]
        _end(_unit(stage, item), item, result, stage.data.train.classes)
        text = f"{item.network} on {summary.SETS[item.proxy]}: {100 * result['accuracy']:.2f} %"
        stage.display.advance("nas", 1, f"{text}, {min(at_once, left)} running", work / every or None)


def _end(unit: Unit, item: Item, result: Mapping[str, Any], classes: Sequence[str]) -> None:
    metrics = {key: result[key] for key in ("accuracy", *TWO_CLASS, "seconds", "train_seconds") if key in result}
    unit.finish(
        COMPLETED if result["finite"] else DIVERGED,
        metrics,
        step=result["steps"],
        seconds=result["seconds"],
        images=result["images"],
        flops=result["flops"],
        message="" if result["finite"] else "its outputs are no numbers; lower nas.protocol.lr",
        **item._asdict(),
        **({"classes": list(classes)} if len(classes) == 2 else {}),
    )


def _unit(stage: Stage, item: Item) -> Unit:
    return Unit(stage.run / "units" / "nas" / item.name)


def _fingerprint(stage: Stage, item: Item, how: rank.Plan) -> str:
    about: dict[str, Any] = {
        **item._asdict(),
        "protocol": how.protocol.to_json(),
        "steps": how.steps,
        "seed": stage.search.seed,
        "data": stage.search.data.to_json(),
    }
    if item.proxy == "distilled":
        about["set"] = stage.images.manifest["checksums"]
    elif item.proxy == "random":
        about["size"] = len(stage.images.pixels)
    return artifacts.fingerprint_of(results.canonical(about))


def _forget(stage: Stage, networks: Sequence[str]) -> None:
    """Remove the units of networks that are no longer asked for, which would be ranked with the others."""
    for unit in artifacts.units(stage.run, "nas"):
        if unit.read().get("network") not in networks:
            artifacts.remove(unit.directory)


def _confirm(stage: Stage, networks: Sequence[str]) -> None:
    """Train the networks on all training images, one after another, each by the whole team."""
    search, config = stage.search, stage.config
    protocol = config.protocol.model_copy(update={"epochs": config.confirm_epochs})
    stage.display.stage("confirm", len(networks), "networks")
    for network in networks:
        unit = _confirmation(stage, network)
        about = {"network": network, "protocol": protocol.to_json(), "data": search.data.to_json()}
        mark = artifacts.fingerprint_of(results.canonical(about), config.workers, search.seed)
        if unit.read().get("fingerprint") != mark or unit.status not in Unit.FINAL:
            if unit.read().get("fingerprint") != mark:
                artifacts.remove(unit.directory)
            unit.begin(mark, {"network": network, "workers": config.workers, **protocol.flat()}, results.tags(search))
            other = reuse.taken(unit, stage.run)
            if other is not None:
                stage.display.note(reuse.told([other], f"training of {network} on all images"))
            elif not artifacts.folder_exists(unit.directory / "network"):
                shared = {
                    "data": stage.data,
                    "network": network,
                    "protocol": protocol,
                    "seed": derive(search.seed, "nas", "confirm"),
                    "fingerprint": mark,
                    "directory": storage.address(unit.directory),
                }
                with _epochs_shown(unit, networks.index(network), config.confirm_epochs, stage.display):
                    _train(stage, shared, unit.directory)
            confirm.finish(unit, {"network": network, "epochs": config.confirm_epochs})
        reached = 100 * unit.read()["metrics"]["val_accuracy"]
        stage.display.advance("confirm", 1, f"{network} on the whole set: {reached:.2f} % of the validation images")


@contextmanager
def _epochs_shown(unit: Unit, number: int, epochs: int, display: Display) -> Iterator[None]:
    """Show the epochs of a confirmation, the ``number``-th, as they are noted."""
    latest = latest_of(unit)

    def watch(over: threading.Event) -> None:
        shown = 0
        while not over.wait(WATCH_SECONDS):
            last = latest()
            if shown < last["step"] < epochs:
                shown = int(last["step"])
                display.trial(number, shown, epochs, {name: last[name] for name in ("loss", "val_accuracy")})

    with meanwhile(watch):
        yield
    display.trial(number, epochs, epochs, {}, COMPLETED)


def _train(stage: Stage, shared: Mapping[str, Any], directory: Path) -> None:
    budget, share = stage.search.budget, stage.search.confirming()
    if isinstance(stage.runtime, Local):
        with stage.runtime.worker(share.cpus, share.gpus) as device:
            confirm.train_full(**shared, device=device)
        return
    from raydistill.runtime.on_ray import OnRay
    from raydistill.runtime.train_on_ray import train_together

    assert isinstance(stage.runtime, OnRay)
    places, workers = stage.runtime.capacity(*share), stage.config.workers
    if places < workers:
        stage.display.note(f"nas.workers={workers}, and there is room for {places}: as many train a network together")
    train_together(
        stage.runtime,
        confirm.train_full,
        shared,
        workers=workers,
        cpus=share.cpus,
        gpus=share.gpus,
        accelerator=share.accelerator,
        directory=directory,
        max_failures=budget.max_failures,
    )


def _test_winner(stage: Stage, networks: Sequence[str], data_root: Path | None) -> None:
    """Judge the best of the confirmed, by the validation split, on the test images; once."""
    full = summary.confirmed(stage.run, networks)
    if full is None or full["accuracy"] is not None:
        return
    unit = _confirmation(stage, full["network"])
    winner = trained.load(unit.directory / "network")
    judged = judge(winner.net, DeviceImages(load_test(stage.search.data, data_root), winner.encoding))
    record, scores = unit.read(), {f"test_{name}": value for name, value in judged.scores().items()}
    artifacts.write_json(unit.file, {**record, "metrics": {**record["metrics"], **scores}})


def _confirmation(stage: Stage, network: str) -> Unit:
    return Unit(stage.run / "units" / "confirm" / network)
