"""The learning rate of a network on a set, chosen on the validation split; a part of the evaluate stage.

Each choice is a unit of its own (``units/rates/ARM-NETWORK-TABLE``), a line of its history a rate that was tried.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raydistill import artifacts, results
from raydistill.artifacts import COMPLETED, Unit
from raydistill.display import Display, noted
from raydistill.evaluate import arms
from raydistill.runtime.base import Runtime
from raydistill.search.definition import Search


def choose(
    search: Search,
    run: Path,
    items: Sequence[arms.Item],
    shared: Mapping[str, Any],
    runtime: Runtime,
    display: Display,
) -> dict[str, float]:
    """Try what has not been tried of the rates that these students may have.

    Args:
        search: the search.
        run: its run folder.
        items: students that are to be trained.
        shared: what ``arms.rate_item`` shares; its test images are not handed on.
        runtime: where to compute.
        display: told what happens.

    Returns:
        Name of an item → the rate with the best validation accuracy, the lower one of equals.
    """
    parts = {item.name: item for item in items if arms.rates_of(item, search.evaluate)}
    todo = []
    for name, item in parts.items():
        unit, mark = _unit(run, name), _fingerprint(run, item)
        if unit.read().get("fingerprint") != mark:
            artifacts.remove(unit.directory)
            about = {"set": item.arm, "network": item.network, "table": item.table}
            unit.begin(mark, about, results.tags(search))
        tried = {line["lr"] for line in unit.history()}
        todo += [(item, lr) for lr in arms.rates_of(item, search.evaluate) if lr not in tried]
    if todo:
        display.stage("rates", len(todo), "learning rates")
    plain = [{"arm": i.arm, "network": i.network, "table": i.table, "lr": lr} for i, lr in todo]
    seen = {name: value for name, value in shared.items() if name != "test"}
    told = noted(display, lambda index: _unit(run, todo[index][0].name))
    for index, found in runtime.map(arms.try_rate, plain, seen, *search.budget.of("evaluate"), told=told):
        item, lr = todo[index]
        _unit(run, item.name).log(1 + arms.rates_of(item, search.evaluate).index(lr), found)
        display.advance("rates", 1, f"{item.arm} on {item.network}, rate {lr:g}: {100 * found['val_accuracy']:.2f} %")
    return {name: _conclude(_unit(run, name)) for name in parts}


def about(search: Search, run: Path, item: arms.Item) -> dict[str, Any]:
    """What the record of further students says beside the protocol: their ``table``, and ``lr`` if it was chosen."""
    if not item.table:
        return {}
    if not arms.rates_of(item, search.evaluate):
        return {"table": item.table}
    chosen = _unit(run, item.name).read().get("metrics")
    if chosen is None:  # all students were taken from another run, which chose
        chosen = Unit(run / "units" / "evaluate" / item.name).read()
    return {"table": item.table, "lr": chosen["lr"], "lr_is": "chosen"}


def _conclude(unit: Unit) -> float:
    if unit.status != COMPLETED:
        lines = unit.history()
        # What diverges answers the first class, which may be the larger one.
        best = max(lines, key=lambda line: (-line.get("diverged", 0), line["val_accuracy"], -line["lr"]))
        seconds = sum(line["seconds"] for line in lines)
        metrics = {"lr": best["lr"], "val_accuracy": best["val_accuracy"], "seconds": seconds}
        unit.finish(COMPLETED, metrics, step=len(lines), seconds=seconds)
    return float(unit.read()["metrics"]["lr"])


def _unit(run: Path, name: str) -> Unit:
    return Unit(run / "units" / "rates" / name)


def _fingerprint(run: Path, item: arms.Item) -> str:
    """That of the students, whose unit has begun: what they depend on, the rates to choose from included."""
    return artifacts.fingerprint_of(Unit(run / "units" / "evaluate" / item.name).read()["fingerprint"], "rates")
