"""Where results come from: versions, commit, machine."""

import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from raydistill import precision, provenance


def test_versions_are_those_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = provenance.versions()
    assert found["python"] == platform.python_version()
    assert found["torch"] == importlib.metadata.version("torch")
    monkeypatch.setattr(provenance, "PACKAGES", ("torch", "no-such-package-at-all"))
    assert set(provenance.versions()) == {"python", "torch"}


def test_outside_a_checkout_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_commit(tmp_path) == "unknown"


def test_without_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_commit() == "unknown"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        name = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *name, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    commit = git("rev-parse", "HEAD")
    assert provenance.git_commit(tmp_path) == commit
    (tmp_path / "untracked").write_text("no result depends on it")
    assert provenance.git_commit(tmp_path) == commit
    (tmp_path / "file").write_text("two")
    assert provenance.git_commit(tmp_path) == f"{commit}-dirty"


def test_the_machine_has_cores() -> None:
    name, _, cores = provenance.machine().removesuffix(", no bfloat16").rpartition(", ")
    assert name
    assert int(cores.removesuffix(" cores")) >= 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what the processor does")
def test_a_processor_without_bfloat16_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for known in (True, False):
        monkeypatch.setattr(precision, "has_bfloat16", lambda kind, known=known: known)
        assert provenance.machine().endswith("no bfloat16") is not known
