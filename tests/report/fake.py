"""A run folder as a finished run leaves it, from trials to a NAS ranking; all numbers are made up."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raydistill.artifacts import COMPLETED, DIVERGED, FAILED, STOPPED, Unit, write_json
from raydistill.data.distilled import DistilledSet
from raydistill.data.images import Normaliser
from raydistill.models.names import GRID, canonical
from raydistill.search.definition import Choice, Float, Search

ITERATIONS = 600
RUNGS = (50, 150, 450)
TAGS = {"method": "DataDAM", "dataset": "digits", "seed": "0"}
SPACE = {
    "distill.lr_img": Float(low=0.01, high=10.0, log=True),
    "distill.momentum": Float(low=0.0, high=0.9),
    "distill.init": Choice(values=("real", "noise", "kcenter")),
}
ARMS = {"distilled": 0.9342, "random": 0.9055, "herding": 0.9178, "kcenter": 0.8631, "whole": 0.9871}


def fake_run(
    parent: Path,
    name: str = "quickstart",
    *,
    trials: int = 12,
    ipc: int = 10,
    classes: tuple[str, ...] = tuple("0123456789"),
    shape: tuple[int, int, int] = (1, 8, 8),
    networks: tuple[str, ...] = ("ConvNetD3",),
    objectives: str = "accuracy",
    nas: bool = True,
    baselines: tuple[str, ...] = (),
    seed: int = 0,
    distill: Mapping[str, Any] | None = None,
) -> Path:
    """Write the run folder ``parent/name`` and return it; the same arguments give the same files."""
    run, rng = parent / name, np.random.default_rng(seed)
    search = Search.parse(
        {
            "name": name,
            "seed": seed,
            "distill": {"method": "DataDAM", "ipc": ipc, "iterations": ITERATIONS, **(distill or {})},
            "space": {path: d.to_json() for path, d in SPACE.items()} if trials else {},
            "budget": {"trials": max(trials, 1), "objectives": objectives},
            "evaluate": {"networks": networks},
            "nas": {"students": 3, "baselines": baselines} if nas else None,
        }
    )
    write_json(run / "search.json", search.to_json())
    best = write_trials(run, trials, rng) if trials else None
    fake_set(rng, ipc, classes, shape, search.distill.factor, changed=False).save(run / "units/distill/final/initial")
    fake_set(rng, ipc, classes, shape, search.distill.factor, changed=True).save(run / "units/distill/final/set")
    final = Unit(run / "units/distill/final")
    final.begin("f" * 16, best["params"] if best else {}, TAGS)
    for step, loss in enumerate(losses(rng, ITERATIONS, 4.0), start=1):
        final.log(step, {"loss": loss, "loss_sam": 0.8 * loss, "loss_mmd": 0.2 * loss, "seconds": 0.01 * step})
    final.finish(COMPLETED, {"loss": 0.4, "seconds": 9.3}, step=ITERATIONS, message="", seconds=9.3)
    rows = [write_evaluation(run, arm, network, rng) for network in networks for arm in ARMS]
    ranking = write_nas(run, rng, ("distilled", *baselines)) if nas else []
    write_results(run, search, rows, ranking, best, trials)
    return run


def losses(rng: np.random.Generator, steps: int, first: float) -> list[float]:
    """A loss that falls like a power law, with noise."""
    t = np.arange(steps)
    return list((first * (1 + t / 12) ** -0.6 * np.exp(0.25 * rng.standard_normal(steps))).tolist())


def write_trials(run: Path, count: int, rng: np.random.Generator) -> dict[str, Any] | None:
    """Trials of every outcome; returns the best one's params and accuracy."""
    best: dict[str, Any] | None = None
    for number in range(count):
        params = {
            "distill.lr_img": float(10 ** rng.uniform(-2, 1)),
            "distill.momentum": float(rng.uniform(0, 0.9)),
            "distill.init": str(rng.choice(["real", "noise", "kcenter"])),
        }
        status = {5: DIVERGED, 9: FAILED}.get(number, STOPPED if number % 4 == 2 else COMPLETED)
        last = {DIVERGED: 120, FAILED: 60, STOPPED: 150}.get(status, ITERATIONS)
        unit = Unit(run / f"units/trial/{number:04d}")
        unit.begin(f"{number:016x}", params, TAGS)
        value = 0.93 - 0.05 * abs(np.log10(params["distill.lr_img"])) - 0.06 * (params["distill.init"] == "noise")
        rated = {}
        for step, loss in enumerate(losses(rng, last, 4.0 + number / 4), start=1):
            if step % 12 and step not in RUNGS and step != last:
                continue
            numbers = {"loss": loss * (1.08 ** max(0, step - 60) if status == DIVERGED else 1)}
            if (step in RUNGS or step == ITERATIONS) and status != FAILED:
                rated[step] = float(value - 0.12 * np.exp(-step / 150) + 0.004 * rng.standard_normal())
                numbers["val_accuracy"] = rated[step]
            unit.log(step, {**numbers, "seconds": 0.015 * step})
        seconds = 0.015 * last * (1 + params["distill.momentum"])
        message = {DIVERGED: "loss 2e+05 at step 120", FAILED: "OSError: no space", STOPPED: "not in the best 1/3 of 5"}
        metrics = {"iterations": last, "seconds": seconds}
        if status in (COMPLETED, STOPPED):
            metrics["val_accuracy"] = rated[last]
        unit.finish(status, metrics, step=last, seconds=seconds, message=message.get(status, ""))
        if status == COMPLETED and (best is None or rated[last] > best["val_accuracy"]):
            best = {"number": number, "params": params, "val_accuracy": rated[last]}
    return best


def fake_set(
    rng: np.random.Generator,
    ipc: int,
    classes: tuple[str, ...],
    shape: tuple[int, int, int],
    factor: int,
    changed: bool,
) -> DistilledSet:
    """Handwritten digits, stretched to ``shape``; ``changed`` adds what a distillation might."""
    from sklearn.datasets import load_digits

    digits, numbers = load_digits(return_X_y=True)
    k, h, w = shape
    images = []
    for label in range(len(classes)):
        own = torch.from_numpy(digits[numbers == label % 10][:ipc].reshape(-1, 1, 8, 8) / 16).float()
        own = own[torch.arange(ipc) % len(own)]
        images.append(torch.nn.functional.interpolate(own, size=(h, w), mode="bilinear").expand(-1, k, -1, -1))
    pixels = torch.cat(images)
    if changed:
        noise = torch.from_numpy(rng.standard_normal(pixels.shape)).float()
        pixels = pixels + 0.12 * noise - 0.25 * pixels * torch.linspace(-1, 1, w)
    labels = torch.arange(len(classes)).repeat_interleave(ipc)
    normaliser = Normaliser(mean=(0.3,) * k, std=(0.4,) * k)
    return DistilledSet(pixels, labels, normaliser, classes, factor, {"seed": 0})


def write_evaluation(
    run: Path, arm: str, network: str, rng: np.random.Generator, protocol: str = "field"
) -> dict[str, Any]:
    """One evaluation unit; returns its row of ``results.json``."""
    base = ARMS[arm] - (0.2 if network != "ConvNetD3" else 0)
    students = 1 if arm == "whole" else 5
    runs = [round(float(base + 0.006 * rng.standard_normal()), 4) for _ in range(students)]
    epochs = 10 if arm == "whole" else 1000
    metrics = {"accuracy_mean": float(np.mean(runs)), "accuracy_std": 0.0, "seconds": 4.2}
    if students > 1:
        std = float(np.std(runs, ddof=1))
        half = 2.776 * std / 5**0.5
        metrics |= {
            "accuracy_std": std,
            "ci95_low": metrics["accuracy_mean"] - half,
            "ci95_high": metrics["accuracy_mean"] + half,
        }
    unit = Unit(run / f"units/evaluate/{arm}-{network}")
    unit.begin("e" * 16, {}, TAGS)
    unit.finish(
        COMPLETED, metrics, set=arm, network=network, protocol=protocol, epochs=epochs, students=students, runs=runs
    )
    return {
        "set": arm,
        "network": network,
        "protocol": protocol,
        "epochs": epochs,
        "students": students,
        "seconds": 4.2,
    }


def write_nas(run: Path, rng: np.random.Generator, proxies: tuple[str, ...]) -> list[dict[str, Any]]:
    """Three students of the 18 architectures of the grid, on each of ``proxies``; the ranking of the 22 names."""
    accuracies = {}
    for network in dict.fromkeys(canonical(name) for name in GRID):
        worth = rng.uniform(0.55, 0.94)
        for proxy in proxies:
            noise = {"distilled": 0.02, "random": 0.2, "early": 0.08, "whole": 0.0}[proxy]
            middle = worth + noise * rng.standard_normal()
            runs = [min(1.0, float(middle + 0.01 * rng.standard_normal())) for _ in range(3)]
            for student, accuracy in enumerate(runs):
                seconds = float(rng.uniform(0.5, 3))
                unit = Unit(run / f"units/nas/{proxy}-{network}-{student}")
                unit.begin("a" * 16, {}, TAGS)
                metrics = {"accuracy": accuracy, "seconds": seconds, "train_seconds": 0.8 * seconds}
                about = {"proxy": proxy, "network": network, "student": student, "flops": 10**9}
                unit.finish(COMPLETED, metrics, seconds=seconds, **about)
            if proxy == "distilled":
                accuracies[network] = float(np.mean(runs))
    ranking = [{"name": name, "accuracy": accuracies[canonical(name)], "seconds": 3.0} for name in GRID]
    return sorted(ranking, key=lambda row: -row["accuracy"])


def write_results(
    run: Path,
    search: Search,
    rows: list[dict[str, Any]],
    ranking: list[dict[str, Any]],
    best: dict[str, Any] | None,
    trials: int,
) -> None:
    """``results.json``."""
    stages: dict[str, Any] = {}
    if trials:
        counts = {"trials": trials, "completed": 7, "stopped": 3, "diverged": 1, "failed": 1, "seconds": 84.1}
        stages["search"] = {**counts, "best": best}
    stages["distill"] = {
        "directory": "units/distill/final",
        "iterations": ITERATIONS,
        "seconds": 9.3,
        "outcome": COMPLETED,
    }
    stages["evaluate"] = rows
    if ranking:
        stages["nas"] = {"names": 22, "distinct": 18, "ranking": ranking, "best": ranking[0]["name"], "seconds": 31.5}
    write_json(
        run / "results.json",
        {
            "schema": 1,
            "name": search.name,
            "run_id": "4f1c9a2b",
            "seed": search.seed,
            "versions": {"python": "3.11.7", "raydistill": "0.1.0", "torch": "2.15.0", "ray": "2.60.0"},
            "machine": "AMD EPYC 7B13, 2 cores",
            "git_commit": "0b50ba4d2f3f7d0e9a51c6b3ff10a2c7e5d98a64",
            "wall_seconds": {"search": 84.1, "distill": 9.3, "evaluate": 25.5, "nas": 31.5},
            "dataset": search.data.source,
            "method": search.distill.method,
            "stages": stages,
            "mlflow": {"tracking_uri": "sqlite:///mlflow.db", "experiment": search.name, "run_id": "77aa"},
            "report": "report/index.html",
        },
    )
