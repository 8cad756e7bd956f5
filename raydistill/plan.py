"""What a search will cost before it starts: a few real pieces of each kind of work are timed, the rest is counted.

Pieces run side by side as the work itself will, so what workers cost each other is in the figures. Starting Ray and
writing the report are not; both take seconds.
"""

import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from raydistill import expert_stage, registry
from raydistill.costs import Cost, Forecast
from raydistill.data.images import DeviceImages
from raydistill.data.load import TrainData, load_test
from raydistill.distill import loop
from raydistill.distill.method import MethodConfig
from raydistill.evaluate import arms
from raydistill.evaluate.protocol import Protocol
from raydistill.experts.trajectory import JUDGED_ON
from raydistill.models import build
from raydistill.models.fit import EncodedImages, Fit, Recipe, predict
from raydistill.models.flat import Layout, flatten
from raydistill.nas import rank
from raydistill.runtime.base import Runtime, Share
from raydistill.search.definition import Search, Stage
from raydistill.search.stopping import expected_trials
from raydistill.seeding import torch_generator

TIMED_STEPS = 3
LONG = 10**9
"Iterations among which every phase comes."
AT_ONCE = "at once"
GPU_TAKEN, GPU_TOTAL = "gpu_taken", "gpu_total"
JUDGED = 500
"Images that a test pass is timed on."


Known = dict[str, dict[str, float]]
"What was timed → its seconds by name."


def forecast(
    search: Search,
    data: TrainData,
    runtime: Runtime,
    data_root: Path | None = None,
    known: Known | None = None,
    untrained: int | None = None,
) -> Forecast:
    """Time pieces of a search's work on ``runtime`` and count how many there are.

    Args:
        search: the search.
        data: its training and validation images.
        runtime: where the work would be done.
        data_root: where the test images are.
        known: of earlier forecasts on this runtime; what is in it is not timed again, what is new is added.
        untrained: trajectories that the cache lacks; ``None``: all.
    """
    known = {} if known is None else known
    plan = _Plan(search, data, runtime, known)
    want = expert_stage.wanted(search)
    todo = 0 if want is None else want.config.count if untrained is None else untrained
    plan.experts(todo)
    plan.trials()
    plan.distill()
    tests = known.get(str(search.data)) or {"images": float(len(load_test(search.data, data_root)))}
    known[str(search.data)] = tests
    plan.evaluate(int(tests["images"]))
    plan.nas()
    disk = peak = 0
    if want is not None:
        at_once = runtime.capacity(*search.budget.of("experts"))
        disk = expert_stage.disk_bytes(want, data) * todo // want.config.count
        peak = expert_stage.peak_bytes(want, data, todo, at_once)
    return Forecast(plan.costs, disk, peak, plan.memory)


def gpu_memory(
    search: Search, data: TrainData, runtime: Runtime, stages: Sequence[Stage]
) -> dict[Stage, tuple[int, int]]:
    """(most bytes that tensors of a piece took of its GPU, bytes that the GPU has), by stage; pieces are tried alone.

    Stages that have nothing to do are left out.
    """
    plan = _Plan(search, data, runtime, {}, alone=True)
    tried: dict[Stage, Callable[[], None]] = {
        "experts": lambda: plan.experts(1),
        "search": plan.trials,
        "distill": plan.distill,
        "evaluate": lambda: plan.evaluate(0),
        "nas": plan.nas,
    }
    for stage in stages:
        tried[stage]()
    return plan.on_gpu


class _Plan:
    """The forecast under way: ``costs`` so far, and how to time a piece."""

    def __init__(self, search: Search, data: TrainData, runtime: Runtime, known: Known, alone: bool = False) -> None:
        self.search, self.data, self.runtime, self.known, self.alone = search, data, runtime, known, alone
        self.costs: list[Cost] = []
        self.memory = 0
        self.on_gpu: dict[Stage, tuple[int, int]] = {}
        "As ``gpu_memory`` gives it."

    def experts(self, count: int) -> None:
        """Epochs of ``count`` trajectories; the difficulty's networks are few and left out."""
        want = expert_stage.wanted(self.search)
        if want is None or count == 0:
            return
        recipe, batch = want.config.recipe, want.config.recipe.batch
        steps = want.config.epoch_steps or -(-len(self.data.train) // batch)
        timed = self._time("experts", "training", count, network=want.network, recipe=recipe, images=None)
        epoch = steps * timed["step"] + timed["judged"] * min(JUDGED_ON, len(self.data.val))
        self._add("experts", "epochs", count * want.epochs, epoch, count, count)

    def trials(self) -> None:
        """Iterations between two rungs, and the students that rate the trials there."""
        if not self.search.space:
            return
        budget, own = self.search.budget, self.search.without_space().distill
        timed = self._phases("search", own, budget.parallel)
        rating = self._student("search", own.network, budget.validation, own, len(self.data.val), budget.parallel)
        for low, high, trials in expected_trials(budget, own.iterations):
            before, after = counts(own, low), counts(own, high)
            each = sum((after[name] - before.get(name, 0.0)) * timed[name] for name in after)
            each += budget.students * rating
            what, together = f"trials, iterations {low} to {high}", min(budget.parallel, budget.trials)
            self._add("search", what, trials, each, together, round(trials))

    def distill(self) -> None:
        """The final set; nothing where the best trial's is taken."""
        if self.search.space and not self.search.final:
            return
        config = self._final()
        timed = self._phases("distill", config, 1)
        for name, count in counts(config, config.iterations).items():
            self._add("distill", name, count, timed[name], 1)

    def _final(self) -> MethodConfig:
        return self.search.without_space().override(self.search.final).distill

    def evaluate(self, tests: int) -> None:
        """Students of every arm; an arm's are timed on as many images as it has."""
        config, distill = self.search.evaluate, self._final()
        items = arms.items(config, distill.network)
        for first in {item.name: item for item in items}.values():
            students = sum(item.name == first.name for item in items) + len(arms.rates_of(first, config))
            of: MethodConfig | None = distill
            if first.arm in ("random", "herding", "kcenter"):  # stored images are not cut into several
                of = distill.model_copy(update={"factor": 1})
            elif first.arm == "whole":
                of = None
            protocol = arms.protocol_of(first.arm, config, first.table)
            each = self._student("evaluate", first.network, protocol, of, tests, len(items))
            table = f" ({first.table})" if first.table else ""
            what = f"{first.arm}, students of {first.network}{table}"
            self._add("evaluate", what, students, each, len(items), students)

    def nas(self) -> None:
        """Every distinct network on every proxy; what Optuna draws and what is confirmed costs what the mean of them does."""
        config, train = self.search.nas, self.data.train
        if config is None:
            return
        listed = rank.distinct(rank.networks(config, train.shape))
        names = listed or [self._final().network]
        workers, val = len(names), len(self.data.val)
        # Early stopping takes as many steps on as many images as the set.
        small = sum(len(config.seeds(proxy)) for proxy in config.proxies if proxy != "whole")
        whole = config.protocol.model_copy(update={"epochs": config.whole_epochs})
        confirm = config.protocol.model_copy(update={"epochs": config.confirm_epochs})
        each: dict[str, list[float]] = {"small": [], "whole": [], "confirm": []}
        for name in names:
            each["small"].append(self._student("nas", name, config.protocol, self._final(), val, workers))
            if "whole" in config.baselines:
                each["whole"].append(self._student("nas", name, whole, None, val, workers))
            if config.confirm:
                of_all = confirm.epochs * val
                each["confirm"].append(self._student("nas", name, confirm, None, of_all, 1, self.search.confirming()))
        trained = len(listed) + (0 if config.sampled is None else config.sampled.samples)
        counts = {
            "small": trained * small,
            "whole": trained * len(config.seeds("whole")) * ("whole" in config.baselines),
        }
        for kind, what in (("small", "networks on small sets"), ("whole", "networks on all images")):
            if each[kind]:
                mean, count = statistics.fmean(each[kind]), counts[kind]
                self._add("nas", what, count, mean, sum(counts.values()), count, tuple(each[kind]))
        if each["confirm"]:
            times = trained if config.confirm == "all" else min(config.confirm, trained)
            self._add("nas", "confirmed networks", times / config.workers, statistics.fmean(each["confirm"]), 1)

    def _student(
        self,
        stage: Stage,
        network: str,
        protocol: Protocol,
        of: MethodConfig | None,
        judged: int,
        workers: int,
        share: Share | None = None,
    ) -> float:
        """Seconds of one student trained and judged.

        Args:
            stage: whose work it is.
            network: its name.
            protocol: how it is trained.
            of: tells how many images it is trained on; ``None``: all.
            judged: images that it is judged on.
            workers: how many such pieces there are to be done at once.
            share: what it has of a machine, if not what the stage's pieces have.
        """
        images = None if of is None else of.ipc * self.data.train.num_classes * of.factor**2
        timed = self._time(stage, "training", workers, share, network=network, recipe=protocol, images=images)
        steps = -(-(images or len(self.data.train)) // protocol.batch)
        return len(protocol.rates()) * steps * timed["step"] + judged * timed["judged"]

    def _phases(self, stage: Stage, config: MethodConfig, workers: int) -> dict[str, float]:
        """Seconds of an iteration of each phase, of those too that come only if the distillation is longer."""
        return self._time(stage, "iterations", workers, config=config.model_copy(update={"iterations": LONG}))

    def _time(self, stage: Stage, kind: str, workers: int, share: Share | None = None, **item: Any) -> dict[str, float]:
        """Seconds by name, the mean of as many workers as will do this work at once."""
        share = share or self.search.budget.of(stage)
        at_once = 1 if self.alone else min(workers, self.runtime.capacity(*share))
        items = [{"kind": kind, **item}] * max(1, at_once)
        what = f"{self.search.data} {share} {kind} {_told(item)}"
        # Fewer at once than were timed before: a little faster than is known.
        if self.known.get(what, {}).get(AT_ONCE, 0) < len(items):
            found = [timed for _, timed in self.runtime.map(time_piece, items, {"data": self.data}, *share)]
            reduced = {"memory": max, GPU_TAKEN: min, GPU_TOTAL: min}
            self.known[what] = {name: reduced.get(name, statistics.fmean)(t[name] for t in found) for name in found[0]}
            self.known[what][AT_ONCE] = len(items)
        timed = dict(self.known[what])
        del timed[AT_ONCE]
        self.memory = max(self.memory, int(timed.pop("memory")))
        if share.gpus:
            taken, total = (int(timed.pop(name)) for name in (GPU_TAKEN, GPU_TOTAL))
            self.on_gpu[stage] = max(self.on_gpu.get(stage, (0, 0)), (taken, total))
        return timed

    def _add(
        self,
        stage: Stage,
        what: str,
        count: float,
        each: float,
        workers: int,
        pieces: int = 1,
        kinds: tuple[float, ...] = (),
    ) -> None:
        at_once = max(1, min(workers, self.runtime.capacity(*self.search.budget.of(stage))))
        self.costs.append(Cost(stage, what, count, each, at_once, max(1, pieces), kinds))


def _told(item: dict[str, Any]) -> dict[str, Any]:
    """What the seconds of a piece depend on: not its protocol's name and length, nor what a distillation begins with."""
    told = dict(item)
    if "recipe" in item:
        told["recipe"] = item["recipe"].model_dump(include=set(Recipe.model_fields))
    if "config" in item:
        told["config"] = item["config"].model_dump(exclude={"init"})
    return told


def time_piece(*, data: TrainData, kind: str, device: str, **item: Any) -> dict[str, float]:
    """Seconds of one piece of work, as a piece of work itself; ``memory``, the process's peak in bytes; and of a GPU what
    tensors took at most, and what it has."""
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:  # an earlier piece in this process may have taken more
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    timed = (_iterations if kind == "iterations" else _training)(data, device=device, **item)
    if on_gpu:
        timed[GPU_TAKEN] = float(torch.cuda.max_memory_reserved())
        timed[GPU_TOTAL] = float(torch.cuda.mem_get_info()[1])
    return {**timed, "memory": 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}


def counts(config: MethodConfig, iterations: int) -> dict[str, float]:
    """Phase → how many of its iterations there are among the first ``iterations``."""
    _, phases = registry.resolve("method", config.method).phases(config.model_copy(update={"iterations": iterations}))
    return {phase.name: phase.times for phase in phases}


def _iterations(data: TrainData, config: MethodConfig, device: str) -> dict[str, float]:
    """Phase → seconds of one of its iterations."""
    sample, phases = registry.resolve("method", config.method).phases(config)
    real = DeviceImages(data.train, data.encoding, device)
    experts = [_StandIn(data, config.network)] if hasattr(config, "experts") else None
    loop.start(sample, real, 0, experts).step(0)  # type: ignore[arg-type]  # a process's first tensors cost more
    method = loop.start(sample, real, 0, experts)  # type: ignore[arg-type]
    seconds = []
    for iteration in range(max(phase.sample.stop for phase in phases)):
        started = time.perf_counter()
        method.step(iteration)
        seconds.append(time.perf_counter() - started)
    return {phase.name: statistics.fmean(seconds[i] for i in phase.sample) for phase in phases}


def _training(data: TrainData, network: str, recipe: Recipe, images: int | None, device: str) -> dict[str, float]:
    """Seconds of a ``step`` on a set of ``images`` (``None``: all real ones), and of one image ``judged``."""
    real = DeviceImages(data.train, data.encoding, device)
    indices = torch.arange(images or 0) % len(real)
    train: Any = real if images is None else EncodedImages(real.take(indices), real.labels[indices])
    net = build(network, data.train.shape, data.train.num_classes, 0, device)
    fit = Fit(net, train, recipe, 0)
    fit.run(1)
    steps = TIMED_STEPS * fit.steps_per_epoch if images is not None else TIMED_STEPS  # a last batch may be small
    started = time.perf_counter()
    fit.run(steps)
    step = (time.perf_counter() - started) / steps
    judged = EncodedImages(real.take(torch.arange(min(JUDGED, len(real)))), real.labels)
    started = time.perf_counter()
    predict(net, judged)
    return {"step": step, "judged": (time.perf_counter() - started) / len(judged)}


class _StandIn:
    """In the place of a trajectory that is not trained yet: what matching it costs does not depend on what it holds."""

    path = Path("stand-in")
    first, epochs = 0, 10**6

    def __init__(self, data: TrainData, network: str) -> None:
        net = build(network, data.train.shape, data.train.num_classes, 0)
        self.layout, self.start = Layout.of(net), flatten(net)

    def snapshot(self, epoch: int) -> torch.Tensor:
        """Parameters [P] that move a little each epoch."""
        return self.start + 1e-3 * epoch * torch.randn(self.start.shape, generator=torch_generator(0, "stand-in"))
