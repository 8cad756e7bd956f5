"""The run folder as a whole: opening it, and ``results.json``, the contract for machines, assembled from its units."""

import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raydistill import artifacts, provenance, storage
from raydistill.artifacts import units
from raydistill.errors import ArtifactError, ConfigError, EnvironmentIssue
from raydistill.evaluate import arms
from raydistill.evaluate.scores import as_fields, by_class
from raydistill.experts.store import FOLDER
from raydistill.nas.summary import summary
from raydistill.search.definition import Search
from raydistill.search.trials import best_trial, read_trials

SEARCH, RESULTS = "search.json", "results.json"
OWN = {"experts": (), "search": ("space", "budget"), "distill": ("final",), "nas": ("nas",)}
"Stage → the parts of a search that it alone looks at: run by itself, it may have others than the rest of its folder."
RESOURCES = ("trials", "parallel", "cpus", "gpus", "accelerator", "final_cpus", "resources", "max_failures")
"""Fields of the budget that say how much is done and where. No result that is there depends on them; ``parallel`` decides
what the trials to come are suggested from."""


def fetch(run: Path) -> None:
    """Bring here what object storage has of a run, where ``run`` stands for an address."""
    for name in (SEARCH, RESULTS, "units"):
        storage.fetch(run / name)


def open_run(search: Search, run: Path, resume: bool, images: str | None = None) -> dict[str, Any]:
    """Make the run folder, or take up an earlier one; returns its ``results.json`` so far.

    Args:
        search: the search.
        run: its folder.
        resume: whether there may be a run already.
        images: ``TrainData.digest`` of what it is run on; ``None``: not compared.

    Raises:
        ConfigError: the folder holds a run and ``resume`` was not asked for, or one on other images.
    """
    check_fresh(run, resume)
    known = artifacts.read_json(run / RESULTS) if os.path.exists(run / RESULTS) else {}
    if images is not None and begun(run) and known.get("images") not in (None, images):
        raise ConfigError(
            f"{storage.shown(run)} was made with other images than those that {search.data.source} has now; bring them back, "
            "choose another --out, or remove the folder"
        )
    artifacts.write_json(run / SEARCH, search.to_json())
    results = {
        **known,
        "schema": artifacts.SCHEMA,
        "name": search.name,
        "run_id": known.get("run_id") or uuid.uuid4().hex,
        "seed": search.seed,
        "versions": provenance.versions(),
        "machine": provenance.machine(),
        "git_commit": provenance.git_commit(),
        "dataset": search.data.source,
        "images": images or known.get("images"),
        "method": search.distill.method,
        "stages": known.get("stages", {}),
    }
    artifacts.write_json(run / RESULTS, results)
    return results


@contextmanager
def only_one(run: Path) -> Iterator[None]:
    """Keep other processes of this machine out of a run folder: two would write into the same units.

    Raises:
        ConfigError: one is at work there.
        EnvironmentIssue: the folder cannot be written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = open(run / ".lock", "a")  # noqa: SIM115 - closed below; here only its opening is guarded
    except OSError as error:
        raise EnvironmentIssue(f"cannot write {run}: {error.strerror or error}; choose another --out") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{storage.shown(run)}: another raydistill is at work there; wait for it, or choose another --out"
            ) from None
        except OSError:  # a network disk without locks
            pass
        yield


def check_fresh(run: Path, resume: bool) -> None:
    """Refuse a folder that holds a run, unless ``resume`` was asked for.

    Raises:
        ConfigError: it does.
    """
    if begun(run) and not resume:
        raise ConfigError(
            f"{storage.shown(run)} holds a run already; add --resume to go on with it, or choose another --out or "
            "--set name=…"
        )


def begun(run: Path) -> bool:
    """Whether a folder holds a run; experts are the cache's, and a search may well follow them."""
    # Path.exists would raise where a folder may not be entered.
    return os.path.exists(run / SEARCH) and _begun(run) != {"experts"}


def check_same(search: Search, run: Path, stage: str) -> None:
    """Refuse to run one stage alone with other settings than those that its folder was made with.

    ``run`` makes anew what changed settings concern; a single stage would leave the others' results beside its own, under
    settings that they were not made with.

    Raises:
        ConfigError: names the first that differ.
        ArtifactError: the folder's ``search.json`` is damaged.
    """
    if not _begun(run) - {"experts"} or not os.path.exists(run / SEARCH):
        return
    there, here = stored(run).flat(), search.flat()
    free = (*OWN[stage], *(f"budget.{name}" for name in RESOURCES))
    differ = [
        path
        for path in dict.fromkeys([*there, *here])
        if there.get(path) != here.get(path) and not any(f"{path}.".startswith(f"{part}.") for part in free)
    ]
    if differ:
        made, given = (
            ", ".join(f"{path}={json.dumps(values.get(path))[:60]}" for path in differ[:3]) for values in (there, here)
        )
        raise ConfigError(
            f"{storage.shown(run)} was made with {made}, and this search has {given}; restore that (its own settings are "
            f"in {storage.shown(run / SEARCH)}, which stands for a SEARCH), choose another --out, or remove the folder"
        )


def stored(run: Path) -> Search:
    """The search of a run folder.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    try:
        return Search.parse(artifacts.read_json(run / SEARCH))
    except ConfigError as error:
        raise ArtifactError(f"{storage.shown(run / SEARCH)} is no search: {error}") from None


def _begun(run: Path) -> set[str]:
    """Kinds of units that the folder has."""
    return {path.parent.name for path in (run / "units").glob("*/*")}


def update(run: Path, **fields: Any) -> dict[str, Any]:
    """Bring ``results.json`` up to the units' state, with further top-level fields; returns it."""
    known = artifacts.read_json(run / RESULTS)
    parts = {
        "experts": _experts(run),
        "search": _search(run),
        "distill": _distill(run),
        "evaluate": _evaluations(run),
        "nas": summary(run),
    }
    stages: dict[str, Any] = {name: part for name, part in parts.items() if part}
    known["stages"] = stages
    for name, seconds in known.get("wall_seconds", {}).items():
        if isinstance(stages.get(name), dict):
            stages[name]["seconds"] = round(seconds, 3)
    known |= fields
    artifacts.write_json(run / RESULTS, known)
    return known


def add_seconds(run: Path, stage: str, seconds: float) -> None:
    """Add wall time to a stage; a resumed stage sums over its starts."""
    known = artifacts.read_json(run / RESULTS)
    walls = known.setdefault("wall_seconds", {})
    walls[stage] = walls.get(stage, 0.0) + seconds
    artifacts.write_json(run / RESULTS, known)


def tags(search: Search) -> dict[str, str]:
    """What runs are found by in a tracker."""
    return {
        "method": search.distill.method,
        "dataset": search.data.source,
        "ipc": str(search.distill.ipc),
        "init": search.distill.init,
        "seed": str(search.seed),
    }


def canonical(value: Any) -> str:
    """JSON with sorted keys."""
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _experts(run: Path) -> dict[str, Any] | None:
    records = [r for r in (u.read() for u in units(run, "experts")) if r["status"] == artifacts.COMPLETED]
    if not records:
        return None
    accuracies = [r["metrics"]["accuracy"] for r in records]
    return {
        "trajectories": len(records),
        "epochs": records[0]["step"],
        "val_accuracy": sum(accuracies) / len(accuracies),
        "directory": os.path.join("..", FOLDER, records[0]["params"]["cache"]),
    }


def _search(run: Path) -> dict[str, Any] | None:
    records = read_trials(run)
    if not records:
        return None
    counts = {
        status: sum(r.status == status for r in records) for status in ("completed", "diverged", "stopped", "failed")
    }
    best = best_trial(records)
    chosen = (
        None if best is None else {"params": dict(best.params), "val_accuracy": best.val_accuracy, "trial": best.number}
    )
    return {"trials": len(records), **counts, "best": chosen}


def _distill(run: Path) -> dict[str, Any] | None:
    for unit in units(run, "distill"):
        record = unit.read()
        if record["status"] == artifacts.RUNNING:
            return None
        return {
            "directory": str((unit.directory / "set").relative_to(run)),
            "iterations": record["step"],
            "seconds": record["seconds"],
            "outcome": record["status"],
            **({"message": record["message"]} if record.get("message") else {}),
        }
    return None


def _evaluations(run: Path) -> list[dict[str, Any]]:
    rows = []
    for unit in arms.rated(run):
        record = unit.read()
        if record["status"] != artifacts.COMPLETED:
            continue
        metrics = record["metrics"]
        interval = [metrics["ci95_low"], metrics["ci95_high"]] if "ci95_low" in metrics else None
        row = {name: record[name] for name in ("set", "network", "protocol", "epochs", "students")}
        row["accuracy"] = {
            "mean": metrics["accuracy_mean"],
            "std": metrics["accuracy_std"],
            "ci95": interval,
            "runs": record["runs"],
        }
        row |= dict.fromkeys(("balanced_accuracy", "auc", "majority_rate", "recall"))
        row |= as_fields(by_class(metrics, record.get("classes", ())))
        row |= {name: record[name] for name in ("table", "lr", "lr_is", "diverged", "taken_from") if name in record}
        rows.append({**row, "seconds": record["seconds"]})
    return rows
