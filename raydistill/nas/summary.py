"""The last stage as its units tell it: accuracies by proxy and network, agreement with the whole set, costs, warnings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from raydistill.artifacts import COMPLETED, DIVERGED, read_json, units
from raydistill.evaluate.scores import TWO_CLASS, as_fields, by_class
from raydistill.models import GRID, canonical
from raydistill.nas.agreement import agreement
from raydistill.nas.space import NASConfig, Proxy

SETS: dict[str, str] = {
    "distilled": "the distilled set",
    "random": "random images",
    "early": "early stopping",
    "whole": "the whole set",
}


class Rated(NamedTuple):
    """One network on one proxy."""

    network: str
    names: tuple[str, ...]
    "All that were asked for and mean this architecture."
    accuracy: float
    "Mean of the students, on the validation split."
    runs: tuple[float, ...]
    seconds: float
    train_seconds: float
    flops: int
    diverged: int
    "Students whose outputs are no numbers."
    beside: dict[str, float]
    "Means of what ``scores.by_class`` names; empty where there are not two classes."


def config_of(run: Path) -> NASConfig | None:
    """The stage's settings; ``None`` if the search has none."""
    given = read_json(run / "search.json").get("nas")
    return None if given is None else NASConfig.parse(given)


def rated(run: Path, proxy: Proxy) -> list[Rated]:
    """The networks whose students on a proxy are done, or as many of them as are, best first; those that diverged last."""
    config = config_of(run)
    if config is None:
        return []
    parts: dict[str, list[dict[str, Any]]] = {}
    for unit in units(run, "nas"):
        record = unit.read()
        if record.get("proxy") != proxy or record["student"] not in config.seeds(proxy):
            continue  # the second: of an earlier start that asked for more seeds
        if record["status"] in (COMPLETED, DIVERGED):
            parts.setdefault(record["network"], []).append(record)
    found = [_rated(network, records, config) for network, records in parts.items()]
    # What diverges answers the first class, which may be the larger one.
    return sorted(found, key=lambda one: (one.diverged > 0, -one.accuracy, one.network))


def summary(run: Path) -> dict[str, Any] | None:
    """The stage's part of ``results.json``; ``None`` before a network is rated on the distilled set."""
    config = config_of(run)
    found = {} if config is None else {proxy: rated(run, proxy) for proxy in config.proxies}
    own = found.get("distilled")
    if config is None or not own:
        return None
    ranking = _ranking(own)
    full = confirmed(run, to_confirm(config, own))
    of, truth = _truth(found, full)
    proxies = {proxy: _proxy(rows, truth if proxy != of else {}) for proxy, rows in found.items() if rows}
    result = {
        "names": len(ranking),
        "distinct": len(own),
        "ranking": ranking,
        "best": ranking[0]["name"],
        "seconds": sum(one.seconds for one in own),
        "proxies": proxies,
        "warnings": [text for proxy, one in proxies.items() if (text := warning(proxy, one))],
    }
    if full is not None:
        result["full"] = _full(full, own)
    if truth:
        result["truth"] = of
        for measure in ("spearman", "kendall"):
            over_all = proxies["distilled"][measure]["all"]
            result[measure] = over_all["value"]
            result[f"{measure}_ci95"] = None if over_all["low"] is None else [over_all["low"], over_all["high"]]
        result["regret"] = proxies["distilled"]["regret"]
    return result


def to_confirm(config: NASConfig, own: Sequence[Rated]) -> list[str]:
    """The networks to train on the whole set: the best on the distilled one."""
    return [one.network for one in own][: None if config.confirm == "all" else config.confirm]


def confirmed(run: Path, chosen: Sequence[str]) -> dict[str, Any] | None:
    """The networks trained on the whole set at the end, best first, and what the winner is; ``None`` until all are done.

    Args:
        run: the run folder.
        chosen: the networks to confirm, best on the distilled set first; it decides between equals.
    """
    records = {unit.name: unit.read() for unit in units(run, "confirm")}
    # Its own name, not the one that it says: the winner's becomes part of a path.
    rows = [
        records[name] | {"network": name}
        for name in chosen
        if records.get(name, {}).get("status") in (COMPLETED, DIVERGED)
    ]
    if not chosen or len(rows) < len(chosen):
        return None
    rows.sort(key=lambda row: (row["status"] == DIVERGED, -row["metrics"]["val_accuracy"]))
    tested = {name: rows[0]["metrics"].get(f"test_{name}") for name in ("accuracy", *TWO_CLASS)}
    known = {name: value for name, value in tested.items() if value is not None}
    return {
        "network": rows[0]["network"],
        "accuracy": tested["accuracy"],
        "tests": sum("test_accuracy" in record.get("metrics", {}) for record in records.values()),
        **as_fields(by_class(known, rows[0].get("classes", ()))),
        "networks": [
            {key: row[key] for key in ("network", "epochs", "workers", "seconds", "flops")}
            | {"val_accuracy": row["metrics"]["val_accuracy"]}
            for row in rows
        ],
    }


def warning(proxy: str, one: Mapping[str, Any]) -> str:
    """What must be said of a proxy whose order is not shown to be the whole set's; empty if nothing must be."""
    texts = []
    for group, among in (("all", ""), ("top10", " among its best 10"), ("top5", " among its best 5")):
        for measure in ("spearman", "kendall"):
            found = one.get(measure, {}).get(group)
            if found is None:
                continue
            what = f"{measure.capitalize()}'s correlation{among}"
            if found["low"] is None:
                texts.append(f"{what} is not defined over {found['networks']} networks")
            elif found["low"] <= 0 <= found["high"]:
                texts.append(f"the 95 % interval of {what}, {found['low']:.2f} to {found['high']:.2f}, includes zero")
            elif found["high"] < 0:
                texts.append(f"{what} is negative")
    if not texts:
        return ""
    return f"The order of the networks on {SETS[proxy]} is not shown to be that on the whole set: {'; '.join(texts)}."


def names_of(network: str, config: NASConfig) -> tuple[str, ...]:
    """Every name that was asked for and means the architecture ``network``; its own where it was sampled."""
    asked = config.networks or (() if config.sampled else GRID)
    return tuple(name for name in asked if canonical(name) == network) or (network,)


def _rated(network: str, records: list[dict[str, Any]], config: NASConfig) -> Rated:
    records.sort(key=lambda record: record["student"])
    runs = tuple(record["metrics"]["accuracy"] for record in records)
    beside = [by_class(record["metrics"], record.get("classes", ())) for record in records]
    return Rated(
        network,
        names_of(network, config),
        sum(runs) / len(runs),
        runs,
        sum(record["seconds"] for record in records),
        sum(record["metrics"]["train_seconds"] for record in records),
        sum(record["flops"] for record in records),
        sum(record["status"] == DIVERGED for record in records),
        {name: fmean(one[name] for one in beside) for name in beside[0] if all(name in one for one in beside)},
    )


def _ranking(rows: list[Rated]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "accuracy": one.accuracy,
            "seconds": one.seconds,
            "runs": list(one.runs),
            **as_fields(one.beside),
        }
        for one in rows
        for name in sorted(one.names)
    ]


def _proxy(rows: list[Rated], truth: Mapping[str, float]) -> dict[str, Any]:
    ranking = _ranking(rows)
    found = {
        "ranking": ranking,
        "best": ranking[0]["name"],
        "seconds": sum(one.seconds for one in rows),
        "train_seconds": sum(one.train_seconds for one in rows),
        "flops": sum(one.flops for one in rows),
        "diverged": sum(one.diverged for one in rows),
    }
    return found | (agreement({one.network: one.accuracy for one in rows}, truth) if truth else {})


def _truth(found: Mapping[Proxy, list[Rated]], full: Mapping[str, Any] | None) -> tuple[str | None, dict[str, float]]:
    """(where from, network → accuracy after training on all images): the baseline, else where all were confirmed, that."""
    if found.get("whole"):
        return "whole", {one.network: one.accuracy for one in found["whole"]}
    if full is not None and len(full["networks"]) == len(found["distilled"]):
        return "confirm", {one["network"]: one["val_accuracy"] for one in full["networks"]}
    return None, {}


def _full(full: Mapping[str, Any], own: Sequence[Rated]) -> dict[str, Any]:
    """What was confirmed, under the names that were asked for; the winner's numbers beside it."""
    names = {one.network: one.network if one.network in one.names else one.names[0] for one in own}
    networks = [{**one, "name": names[one["network"]]} for one in full["networks"]]
    return {**networks[0], **full, "networks": networks}
