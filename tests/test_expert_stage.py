"""The experts stage: parallel, cached, shared, killed at random moments with the same end; and PAD's whole path."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raydistill import artifacts, definitions, expert_stage
from raydistill.artifacts import TENSORS
from raydistill.data.load import load_train
from raydistill.errors import ConfigError, EnvironmentIssue
from raydistill.expert_stage import run_experts
from raydistill.experts import store
from raydistill.experts.trajectory import Place
from raydistill.runtime.local import Local
from raydistill.search.definition import Search
from raydistill.track import Progress
from tests.experts.dying import train_item_dying
from tests.runtime.cluster import cluster
from tests.tiny import call, write_search

TEXT = """
from raydistill.data.load import DataConfig
from raydistill.distill.pad import PAD
from raydistill.evaluate.protocol import EvaluateConfig, protocol
from raydistill.experts.curriculum import CurriculumConfig
from raydistill.experts.difficulty import DifficultyConfig
from raydistill.experts.trajectory import ExpertConfig
from raydistill.models.fit import Recipe
from raydistill.search.definition import Budget, Float, Search

RECIPE = Recipe(batch=64, lr=0.05, momentum=0, weight_decay=0, augment="none")
search = Search(
    name="tiny",
    data=DataConfig(source="digits", val_fraction=0.2),
    distill=PAD.Config(
        network="ConvNetD1", ipc=1, iterations=4, augment="none", syn_steps=2, expert_epochs=1, max_start_epoch=2,
        lr_img=10, syn_lr=0.05, threshold=10,
        experts=ExpertConfig(
            count=3, epoch_steps=4, recipe=RECIPE,
            curriculum=CurriculumConfig(add_end_epoch=1, rm_epoch_first=1, rm_epoch_second=1),
            difficulty=DifficultyConfig(networks=2, steps=4, recipe=RECIPE),
        ),
    ),
    space={"distill.alpha": Float(low=0.0, high=0.5)},
    budget=Budget(trials=2, parallel=1, grace=2, startup=2, validation=protocol("fast", epochs=2, augment="none")),
    evaluate=EvaluateConfig(
        protocol=protocol("fast", epochs=2, augment="none"), students=2, baselines=("initial", "random"), random_draws=1
    ),
)
longer = search.override({"distill.max_start_epoch": 3})
searched = search.override({"space": {"distill.max_start_epoch": {"kind": "int", "low": 1, "high": 4}}})
"""
COMMON = ("--address", "in-process", "--quiet")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_search(tmp_path, TEXT)


def entry(out: Path) -> Path:
    (only,) = (out / store.FOLDER).glob(f"*/{store.ENTRY}")
    return only.parent


def bytes_of(out: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(entry(out).glob(f"0*/{TENSORS}"))}


def stamps(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in entry(out).glob(f"0*/{TENSORS}")}


def test_the_whole_path(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    refused = call(capsys, "search", file, "--out", out, *COMMON)
    assert refused.code == 2
    assert "3 expert trajectories are missing; run `raydistill experts` first" in refused.err
    said = call(capsys, "experts", file, "--out", out, *COMMON)
    assert said.code == 0, said.err
    trained = stamps(out)
    assert sorted(trained) == ["0000", "0001", "0002"]
    said = call(capsys, "run", file, "--out", out, "--json", *COMMON)
    assert said.code == 0, said.err
    results = json.loads(said.out)
    assert results["method"] == "PAD"
    assert results["stages"]["experts"]["trajectories"] == 3
    assert results["stages"]["experts"]["epochs"] == 2
    assert (out / "tiny" / results["stages"]["experts"]["directory"]).resolve() == entry(out).resolve()
    assert {row["set"] for row in results["stages"]["evaluate"]} == {"distilled", "initial", "random"}
    assert stamps(out) == trained
    again = call(capsys, "run", file, "--out", out, "--set", "name=second", *COMMON)
    assert again.code == 0, again.err
    assert stamps(out) == trained  # shared between searches


def test_the_cache_is_shown_and_pruned(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    assert "no expert trajectories" in call(capsys, "experts", "--list", "--out", out).out
    call(capsys, "experts", file, "--out", out, *COMMON)
    (one,) = json.loads(call(capsys, "experts", "--list", "--json", "--out", out).out)
    assert (one["whole"], one["epochs"], one["damaged"]) == (3, 2, [])
    (Place(entry(out)).trajectory(1) / TENSORS).write_bytes(b"damaged")
    assert "0001" in call(capsys, "experts", "--list", "--out", out).out
    name = entry(out).name
    wrong = call(capsys, "experts", "--prune", name[:-1], "--out", out)
    assert wrong.code == 2
    assert name in wrong.err
    said = call(capsys, "experts", "--prune", name, "--out", out)
    assert "removed 1 entries" in said.err
    assert call(capsys, "experts", "--out", out).code == 2


def test_damage_is_found_and_mended(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    call(capsys, "experts", file, "--out", out, *COMMON)
    whole, before = bytes_of(out), stamps(out)
    (Place(entry(out)).trajectory(1) / TENSORS).write_bytes(b"damaged")
    assert call(capsys, "experts", file, "--out", out, *COMMON).code == 0
    assert bytes_of(out) == whole
    after = stamps(out)
    assert {name for name in before if before[name] != after[name]} == {"0001"}


def test_longer_trajectories_go_on_and_the_space_says_how_long(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    call(capsys, "experts", file, "--out", out, *COMMON)
    assert call(capsys, "experts", f"{file}:longer", "--out", out, *COMMON).code == 0
    want = expert_stage.wanted(definitions.load(f"{file}:searched"))
    assert want is not None
    assert want.epochs == 4
    known = artifacts.read_json(Place(entry(out)).trajectory(0) / artifacts.MANIFEST)
    assert known["epochs"] == 3


def test_experts_cannot_be_searched(file: Path) -> None:
    search = definitions.load(str(file))
    space = {"distill.experts.recipe.lr": {"kind": "float", "low": 0.01, "high": 0.1}}
    with pytest.raises(ConfigError, match="experts cannot be searched"):
        expert_stage.wanted(search.override({"space": space}))


def test_a_full_disk_is_said_before_the_start(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search: Search = definitions.load(str(file))
    data = load_train(search.data)
    want = expert_stage.wanted(search)
    assert want is not None
    expected = 3 * 3 * 4 * sum(p.numel() for p in expert_stage.build("ConvNetD1", (1, 8, 8), 10, 0).parameters())
    assert expert_stage.disk_bytes(want, data) == expected
    free = type("Usage", (), {"free": expected})
    monkeypatch.setattr(expert_stage.shutil, "disk_usage", lambda path: free)  # type: ignore[attr-defined]
    with pytest.raises(EnvironmentIssue, match=r"lower distill\.experts\.count"):
        expert_stage._check_room(want, data, 3, tmp_path)
    expert_stage._check_room(want, data, 2, tmp_path)


def test_a_method_without_experts_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "experts", write_search(tmp_path), "--out", tmp_path / "runs", *COMMON)
    assert said.code == 2
    assert "DataDAM matches no experts" in said.err


def test_drivers_killed_at_random_moments_end_with_the_same_files(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(capsys, "experts", file, "--out", tmp_path / "whole", *COMMON)
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "raydistill", "experts", str(file), "--out", str(out), *COMMON]
    moments = random.Random(0)
    kills, seen = 0, -1
    while kills < 5:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        try:
            deadline = time.monotonic() + 120
            while process.poll() is None and progress(out) <= seen:  # past where it was killed before
                assert time.monotonic() < deadline, "it does not go on"
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.1))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
            else:
                assert process.returncode == 0, process.communicate()[1]
                break
        finally:
            process.wait()
        now = progress(out)
        assert now >= seen, "something was lost"
        seen = now
    assert kills >= 2
    assert call(capsys, "experts", file, "--out", out, *COMMON).code == 0
    assert bytes_of(out) == bytes_of(tmp_path / "whole")


@pytest.mark.ray
def test_actors_that_are_killed_lose_nothing(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = definitions.load(str(file)).override({"distill.max_start_epoch": 6})
    data = load_train(search.data)
    run_experts(search, tmp_path / "whole" / "run", data, Local(), Progress(quiet=True))
    monkeypatch.setattr(expert_stage, "train_item", train_item_dying)
    run_experts(search, tmp_path / "killed" / "run", data, cluster(), Progress(quiet=True))
    died = sorted(path.name for path in entry(tmp_path / "killed").glob("died-*"))
    assert died == ["died-0", "died-1", "died-2"]
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")


def progress(out: Path) -> int:
    """Epochs that are stored, of all trajectories."""
    parts = len(list((out / store.FOLDER).glob("*/parts/*/[0-9]*")))
    finished = len(list((out / store.FOLDER).glob(f"*/0*/{TENSORS}")))
    scores = len(list((out / store.FOLDER).glob("*/difficulty/0*")))
    return max(parts, 0) + 100 * finished + scores
