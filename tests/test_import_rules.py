"""Who may import whom, and that the core stays as light as PyTorch itself."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import raydistill

ROOT = Path(raydistill.__file__).parent
LAYERS = (
    ("config", "costs", "registry", "errors", "interrupts", "seeding", "precision", "provenance"),
    ("storage",),
    ("artifacts",),
    ("models", "data"),
    ("experts",),
    ("distill",),
    ("evaluate",),
    ("runtime", "track"),
    ("nas", "search"),
    ("definitions", "display", "results", "settings"),
    ("reuse",),
    ("report", "checks", "expert_stage"),
    ("appraise", "nas_stage", "plan", "rates", "simulation"),
    ("budget", "evaluate_stage", "sharing"),
    ("stages",),
    ("cli", "cli_data", "cli_jobs", "cli_options", "cli_run", "doctor"),
    ("__main__", "__init__"),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
ALLOWED = {
    "ray": (
        *("runtime/gauges.py", "runtime/jobs.py", "runtime/leaving.py", "runtime/on_ray.py", "runtime/pool.py"),
        *("runtime/room.py", "runtime/train_on_ray.py"),
        "search/tune.py",
    ),
    "optuna": ("search/",),
    "mlflow": ("track/to_mlflow.py",),
    "fsspec": ("storage.py",),
}
HEAVY = ("ray", "optuna", "mlflow", "fsspec", "torchvision", "sklearn", "matplotlib", "pandas", "scipy")
MODULES = sorted(ROOT.rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part(dotted: str) -> str:
    """The layer's name of a module such as ``raydistill.data.images``."""
    pieces = dotted.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def imports(path: Path, top_level: bool = False) -> set[str]:
    """Dotted names that a file imports, anywhere in it or only when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}: write imports in full"
            assert node.module is not None
            found |= {resolved(node.module, alias.name) for alias in node.names}
    return found


def resolved(module: str, name: str) -> str:
    """``from package import name`` names a module where there is one, else something in the package."""
    if module.split(".")[0] != "raydistill":
        return module
    folder = ROOT.joinpath(*module.split(".")[1:], name)
    return f"{module}.{name}" if folder.with_suffix(".py").exists() or folder.is_dir() else module


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_go_downwards(path: Path) -> None:
    own = relative(path).split("/")[0].removesuffix(".py")
    assert own in RANK, f"{relative(path)}: give {own!r} a place among the layers"
    for name in sorted(imports(path)):
        if name.split(".")[0] == "raydistill":
            assert RANK[part(name)] <= RANK[own], f"{relative(path)} imports {name}, which is above it"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_the_three_engines_are_imported_only_in_their_places(path: Path) -> None:
    for name in imports(path):
        places = ALLOWED.get(name.split(".")[0])
        assert places is None or relative(path).startswith(places), f"{relative(path)} imports {name}"


def test_no_module_imports_itself_in_a_circle() -> None:
    names = {relative(p).removesuffix(".py").removesuffix("/__init__").replace("/", "."): p for p in MODULES}
    graph = {}
    for name, path in names.items():
        wanted = {i.removeprefix("raydistill").removeprefix(".") for i in imports(path, top_level=True)}
        graph[name] = {w for w in wanted if w in names and w != name}
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name not in done:
            for following in sorted(graph[name]):
                visit(following, [*trail, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def core_modules() -> list[str]:
    """Every module at or below ``evaluate``."""
    below = [p for p in MODULES if RANK[relative(p).split("/")[0].removesuffix(".py")] <= RANK["evaluate"]]
    return ["raydistill." + relative(p).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for p in below]


class Fresh(NamedTuple):
    """What running some code in a process of its own took and loaded."""

    seconds: float
    modules: set[str]


def in_a_fresh_process(code: str) -> Fresh:
    """Run ``code`` and look at the clock and at ``sys.modules`` (top-level names)."""
    program = (
        "import json, sys, time\n"
        f"start = time.perf_counter()\n{code}\nseconds = time.perf_counter() - start\n"
        "print(json.dumps({'seconds': seconds, 'modules': sorted({m.split('.')[0] for m in sys.modules})}))"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT.parent, timeout=300)
    answer = json.loads(run.stdout.splitlines()[-1])
    return Fresh(answer["seconds"], set(answer["modules"]))


def test_the_core_loads_no_engine_and_nothing_heavy() -> None:
    bare = in_a_fresh_process("import torch").modules
    core = in_a_fresh_process("\n".join(f"import {m}" for m in core_modules())).modules
    assert not (core - bare) & set(HEAVY)


TRAINING = """
import torch
from raydistill.models import build
from raydistill.models.fit import EncodedImages, Fit, Recipe
images = EncodedImages(torch.zeros(4, 1, 8, 8), torch.arange(4))
Fit(build("ConvNetD1", (1, 8, 8), 4, 0), images, Recipe(batch=2), 0).run(2)
assert "torch._dynamo" not in sys.modules
"""


def test_training_a_network_does_not_load_the_compiler() -> None:
    """Which takes as long as half of PyTorch, in each of many processes."""
    in_a_fresh_process(TRAINING)


def test_importing_the_core_takes_little_longer_than_importing_torch() -> None:
    core = "\n".join(f"import {m}" for m in core_modules())
    seconds: dict[str, list[float]] = {"import torch": [], core: []}
    # The least of several runs: other work on the machine only ever adds. Noise is outwaited, not excused.
    for _ in range(8):
        for code, measured in seconds.items():
            measured.append(in_a_fresh_process(code).seconds)
        torch_alone, everything = (min(measured) for measured in seconds.values())
        if len(seconds[core]) > 1 and everything < 1.35 * torch_alone:
            return
    pytest.fail(f"import torch takes {torch_alone:.2f} s, the core {everything:.2f} s")
