"""Where a result comes from: versions, git commit, kind of machine; recorded with every run so that it can be repeated."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = ("raydistill", "torch", "torchvision", "ray", "optuna", "mlflow", "numpy")


def versions() -> dict[str, str]:
    """Python and the packages that results depend on; a package that is not installed is left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit(folder: Path | None = None) -> str:
    """The commit of the checkout around ``folder`` (this package's by default), ``-dirty`` if changed, or ``unknown``."""
    where = folder or Path(__file__).parent
    try:
        commit = _git(where, "rev-parse", "HEAD")
        return f"{commit}-dirty" if _git(where, "status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def machine() -> str:
    """GPUs if PyTorch sees any, else the processor; with the number of cores that this process may use.

    A processor without bfloat16 is called so, for settings that ask for it mean something else there.
    """
    import torch

    from raydistill.precision import has_bfloat16

    cores = f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}, {cores}"
    return f"{_processor()}, {cores}" + ("" if has_bfloat16("cpu") else ", no bfloat16")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _git(where: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
