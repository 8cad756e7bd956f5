"""The arms of the final table: the distilled set and what stands beside it, each rated under the identical protocol.

An arm's students are independent pieces of work, so a runtime can spread them; ``rate_item`` computes one of them from
plain arguments, the same wherever it runs.
"""

import time
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from raydistill.artifacts import Unit, read_json, units
from raydistill.data.distilled import DistilledSet
from raydistill.data.images import DeviceImages, ImageSet
from raydistill.data.load import TrainData
from raydistill.distill.initialise import Selection, choose, embedder, labels_of
from raydistill.evaluate.protocol import EvaluateConfig, Further, Protocol
from raydistill.evaluate.scores import TWO_CLASS, interval
from raydistill.evaluate.students import judge, suited, train_student
from raydistill.models.fit import EncodedImages
from raydistill.seeding import derive

Arm = Literal["distilled", "initial", "random", "herding", "kcenter", "whole"]


class Item(NamedTuple):
    """One student of one arm."""

    arm: Arm
    network: str
    student: int
    table: str = ""
    "A name in ``EvaluateConfig.also``; empty: the main table."

    @property
    def name(self) -> str:
        """Of the unit that holds this student and the others of its arm, network and table."""
        return f"{self.arm}-{self.network}" + (f"-{self.table}" if self.table else "")


def items(config: EvaluateConfig, network: str) -> list[Item]:
    """Every student of every arm, network and table."""
    found = []
    tables: dict[str, EvaluateConfig | Further] = {"": config, **config.also}
    for name, table in tables.items():
        arms: list[Arm] = ["distilled", *table.baselines]
        counts = {arm: config.whole_students if arm == "whole" else table.students for arm in arms}
        nets = table.networks or (network,)
        found += [Item(arm, net, i, name) for net in nets for arm in arms for i in range(counts[arm])]
    return found


def distilled_with(run: Path) -> dict[str, Any]:
    """The settings that a run folder's set was distilled with, whatever was searched; before that the search's own."""
    used = Unit(run / "units" / "distill" / "final").read().get("params", {})
    own = read_json(run / "search.json")["distill"]
    return {**own, **{path.removeprefix("distill."): value for path, value in used.items()}}


def rated(run: Path) -> list[Unit]:
    """The units of a run folder that its ``search.json`` asks for; those of other networks, arms or tables are left aside."""
    search = read_json(run / "search.json")
    wanted = {item.name for item in items(EvaluateConfig.parse(search["evaluate"]), distilled_with(run)["network"])}
    return [unit for unit in units(run, "evaluate") if unit.name in wanted]


def protocol_of(arm: Arm, config: EvaluateConfig, table: str = "") -> Protocol:
    """The one protocol of a table; ``whole`` runs it for its own number of epochs."""
    protocol = config.also[table].protocol if table else config.protocol
    return protocol if arm != "whole" else protocol.model_copy(update={"epochs": config.whole_epochs})


def rates_of(item: Item, config: EvaluateConfig) -> tuple[float, ...]:
    """The learning rates to choose from for an item's arm, network and table; empty where there is no choice."""
    return config.also[item.table].rates if item.table and item.arm != "whole" else ()


def real_set(selection: Selection, data: TrainData, ipc: int, augment: str, seed: int) -> DistilledSet:
    """A coreset of real images in the form of a distilled set."""
    real = DeviceImages(data.train, data.encoding)
    embed = None if selection == "random" else embedder(real, augment, seed)
    indices = choose(selection, real, ipc, seed, embed).cpu()
    pixels = torch.from_numpy(data.train.images[indices.numpy()].astype(np.float32) / 255)
    return DistilledSet(pixels, labels_of(data.train.num_classes, ipc), data.encoding, data.train.classes)


def ipc_of(distilled: DistilledSet) -> int:
    """Images a class of a set; where ``ipc`` was searched, the chosen one."""
    return len(distilled.pixels) // len(distilled.classes)


def sets_of(
    config: EvaluateConfig,
    distilled: DistilledSet,
    initial: DistilledSet,
    data: TrainData,
    seed: int,
    wanted: Container[Arm] | None = None,
) -> dict[str, list[DistilledSet]]:
    """The sets behind each arm but ``whole``: one, or for ``random`` a draw for each student.

    ``wanted``: the arms that are asked for beside ``distilled``; ``None``: all.
    """
    ipc = ipc_of(distilled)
    sets = {"distilled": [distilled]}
    for arm in config.arms:
        if arm == "whole" or (wanted is not None and arm not in wanted):
            continue
        if arm == "initial":
            sets[arm] = [initial]
            continue
        # A draw for each student: students of one draw would not be independent, and the interval too narrow.
        draws = config.most_students("random") if arm == "random" else 1
        sets[arm] = [
            real_set(arm, data, ipc, config.protocol.augment, derive(seed, "arm", arm, draw)) for draw in range(draws)
        ]
    return sets


def rate_item(
    *,
    sets: Mapping[str, Sequence[DistilledSet]],
    data: TrainData,
    test: ImageSet,
    config: EvaluateConfig,
    seed: int,
    arm: Arm,
    network: str,
    student: int,
    table: str = "",
    lr: float | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Train one student and judge it on the test images.

    Student i starts from the same network in every arm, so arms are compared on equal terms.

    Args:
        lr: the learning rate that was chosen for this arm, network and table; ``None``: the protocol's or the set's own.

    Returns:
        ``accuracy`` in [0, 1], ``seconds`` of training, for two classes what ``two_class_scores`` gives, ``lr`` where it is
        the set's own, learned with it, and ``diverged`` where outputs are no numbers.
    """
    net, seconds, used = _student(
        sets, data, config, derive(seed, "student", student), arm, network, student, table, lr, device
    )
    judged = judge(net, DeviceImages(test, data.encoding, device))
    learned = lr is None and used != protocol_of(arm, config, table).lr
    found = {**judged.scores(), "seconds": seconds, **({"lr": used} if learned else {})}
    return found | ({"diverged": 1.0} if judged.diverged else {})


def try_rate(
    *,
    sets: Mapping[str, Sequence[DistilledSet]],
    data: TrainData,
    config: EvaluateConfig,
    seed: int,
    arm: Arm,
    network: str,
    table: str,
    lr: float,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Train one student with a learning rate and judge it on the validation images.

    It is none of the students of the table, and starts from the same network for every rate.

    Returns:
        ``lr``, ``val_accuracy``, ``seconds``, and ``diverged``: 1 where its outputs are no numbers, else 0.
    """
    net, seconds, _ = _student(sets, data, config, derive(seed, "rate"), arm, network, 0, table, lr, device)
    judged = judge(net, DeviceImages(data.val, data.encoding, device))
    return {"lr": lr, "val_accuracy": judged.accuracy, "seconds": seconds, "diverged": float(judged.diverged)}


def _student(
    sets: Mapping[str, Sequence[DistilledSet]],
    data: TrainData,
    config: EvaluateConfig,
    seed: int,
    arm: Arm,
    network: str,
    student: int,
    table: str,
    lr: float | None,
    device: torch.device | str,
) -> tuple[torch.nn.Module, float, float]:
    """A trained student, the seconds that took, and its learning rate."""
    started = time.perf_counter()
    protocol = protocol_of(arm, config, table)
    if arm == "whole":
        train: Any = DeviceImages(data.train, data.encoding, device)
    else:
        chosen = sets[arm][student % len(sets[arm])]
        if table and config.also[table].labels == "hard":
            chosen = chosen.with_hard_labels()
        train = EncodedImages(chosen.inputs().to(device), chosen.targets().to(device))
        protocol = suited(protocol, chosen) if lr is None else protocol.model_copy(update={"lr": lr})
    net = train_student(train, data.train.shape, data.train.num_classes, network, protocol, seed, device)
    return net, time.perf_counter() - started, protocol.lr


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean, standard deviation and 95 % interval of the students' accuracies; means of the rest."""
    accuracies = [run["accuracy"] for run in runs]
    low, high = interval(accuracies)
    metrics = {
        "accuracy_mean": float(np.mean(accuracies)),
        "accuracy_std": float(np.std(accuracies, ddof=1)) if len(runs) > 1 else 0.0,
        "seconds": float(np.sum([run["seconds"] for run in runs])),
    }
    if len(runs) > 1:
        metrics |= {"ci95_low": low, "ci95_high": high}
    for name in TWO_CLASS:
        if name in runs[0]:
            metrics[name] = float(np.mean([run[name] for run in runs]))
    return metrics
