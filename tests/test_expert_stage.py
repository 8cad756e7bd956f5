"""The experts stage: parallel, cached, shared, killed at random moments with the same end; and PAD's whole path."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from raydistill import artifacts, definitions, expert_stage, results
from raydistill.artifacts import TENSORS
from raydistill.data.distilled import DistilledSet
from raydistill.data.load import load_train
from raydistill.errors import ConfigError
from raydistill.experts import store
from raydistill.experts.trajectory import Place
from raydistill.runtime.local import Local
from raydistill.search.definition import Search
from raydistill.stages import Experiment
from raydistill.track import Progress
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
        protocol=protocol("fast", epochs=2, augment="none"), students=2, baselines=("initial", "random")
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
    assert "3 expert trajectories are missing or damaged; run `raydistill experts` first" in refused.err
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
    sets = {kind: DistilledSet.load(out / "tiny/units/distill/final" / kind) for kind in ("set", "initial")}
    assert sets["set"].manifest["parents"] == {"experts": entry(out).name}
    for row in results["stages"]["evaluate"]:
        own = {"distilled": sets["set"].student_lr, "initial": sets["initial"].student_lr}.get(row["set"])
        assert (row.get("lr"), row.get("lr_is")) == (own, own and "learned")
    page = (out / "tiny" / "report" / "index.html").read_text(encoding="utf-8")
    told = ("Every expert over its epochs", "3 experts, an epoch is 4 steps", "Loss of the final distillation")
    for words in (*told, "What is learned beside the images", "of 4 steps were skipped"):
        assert words in page
    again = call(capsys, "run", file, "--out", out, "--set", "name=second", *COMMON)
    assert again.code == 0, again.err
    assert stamps(out) == trained  # shared between searches


def test_a_set_that_was_never_changed_is_no_result(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (file, "--out", tmp_path / "runs", "--set", "space={}", "--set", "distill.threshold=1e-9", *COMMON)
    said = call(capsys, "run", *given)
    assert said.code == 1
    assert "the final distillation diverged" in said.err
    assert "4 of 4 steps were skipped" in said.err
    assert "lower syn_lr or raise threshold" in said.err
    assert call(capsys, "report", tmp_path / "runs" / "tiny").code == 0
    page = (tmp_path / "runs" / "tiny" / "report" / "index.html").read_text(encoding="utf-8")
    assert (
        "Its status is diverged. What came of it: the set is what it began with, for 4 of 4 steps were skipped" in page
    )


def test_the_cache_is_shown_and_pruned(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    assert "no expert trajectories" in call(capsys, "experts", "--list", "--out", out).out
    call(capsys, "experts", file, "--out", out, *COMMON)
    (one,) = json.loads(call(capsys, "experts", "--list", "--json", "--out", out).out)
    assert (one["whole"], one["epochs"], one["damaged"]) == (3, 2, [])
    ends = [artifacts.read_json(p / artifacts.MANIFEST)["accuracies"][-1] for p in sorted(entry(out).glob("0*"))]
    assert one["accuracy"] == pytest.approx(sum(ends) / 3)
    shown = call(capsys, "experts", "--list", "--out", out).out
    assert entry(out).name in shown
    assert f"{100 * one['accuracy']:.2f}" in shown
    (Place(entry(out)).trajectory(1) / TENSORS).write_bytes(b"damaged")
    assert "0001" in call(capsys, "experts", "--list", "--out", out).out
    name = entry(out).name
    wrong = call(capsys, "experts", "--prune", name[:-1], "--out", out)
    assert wrong.code == 2
    assert name in wrong.err
    both = call(capsys, "experts", file, "--list", "--out", out)
    assert (both.code, both.out) == (2, "")
    assert "about the whole cache, not about" in both.err
    said = call(capsys, "experts", "--prune", name, "--out", out)
    assert "removed 1 entries" in said.err
    assert call(capsys, "experts", "--out", out).code == 2


def test_damage_is_found_named_and_mended(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, notes = tmp_path / "runs", list[str]()
    monkeypatch.setattr(Progress, "note", lambda self, text: notes.append(text))
    call(capsys, "experts", file, "--out", out, *COMMON)
    whole, before = bytes_of(out), stamps(out)
    (Place(entry(out)).trajectory(1) / TENSORS).write_bytes(b"damaged")
    assert call(capsys, "experts", file, "--out", out, *COMMON).code == 0
    assert bytes_of(out) == whole
    after = stamps(out)
    assert {name for name in before if before[name] != after[name]} == {"0001"}
    assert f"{Place(entry(out)).trajectory(1)} is damaged; it is trained again" in notes


def test_starts_and_lengths_that_only_trials_put_together_are_trained(file: Path) -> None:
    space = {
        "distill.max_start_epoch": {"kind": "int", "low": 1, "high": 4},
        "distill.expert_epochs": {"kind": "int", "low": 1, "high": 3},
    }
    search = definitions.load(str(file)).override({"space": space})
    want = expert_stage.wanted(search)
    assert want is not None
    assert want.epochs == 4 - 1 + 3
    assert expert_stage.wanted(search.override({"distill.experts.epochs": 6})) is not None
    with pytest.raises(ConfigError, match=r"distill\.experts\.epochs=5: the space reaches epoch 6"):
        expert_stage.wanted(search.override({"distill.experts.epochs": 5}))


@pytest.mark.parametrize("setting", ["recipe.sharpness=0.05", "difficulty.score=grand", "storage=bfloat16"])
def test_options_work_from_the_command_line(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str
) -> None:
    out = tmp_path / "runs"
    tiny = ("--set", f"distill.experts.{setting}", "--set", "distill.experts.count=1", "--set", "space={}")
    assert call(capsys, "experts", file, "--out", out, *tiny, *COMMON).code == 0
    said = call(capsys, "distill", file, "--out", out, *tiny, *COMMON)
    assert said.code == 0, said.err
    assert artifacts.Unit(out / "tiny" / "units" / "distill" / "final").status == artifacts.COMPLETED


def test_runs_that_share_a_cache_do_not_all_want_the_same_trajectory(file: Path, tmp_path: Path) -> None:
    class Noting(Local):
        def map(self, function: Any, items: Any, *more: Any, **named: Any) -> Any:
            orders.append([item["index"] for item in items])
            yield from super().map(function, items, *more, **named)

    orders: list[list[int]] = []
    changed = {"space": {}, "distill.experts.count": 8, "distill.experts.epoch_steps": 1}
    search = definitions.load(str(file)).override({**changed, "distill.experts.curriculum": None})
    data = load_train(search.data)
    for run in ("a/one", "b/other", "c/one"):
        expert_stage.run_experts(search, tmp_path / run, data, Noting(), Progress(quiet=True))
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(8))
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


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


def test_epochs_before_the_first_start_epoch_are_not_stored(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, later = tmp_path / "runs", ("--set", "distill.min_start_epoch=1", "--set", "space={}")
    assert call(capsys, "run", file, "--out", out, *later, *COMMON).code == 0
    path = Place(entry(out)).trajectory(0)
    assert artifacts.read_json(path / artifacts.MANIFEST)["first"] == 1
    assert (
        expert_stage.missing(definitions.load(str(file)), out / "x", load_train(definitions.load(str(file)).data)) == 3
    )


def test_experts_cannot_be_searched(file: Path) -> None:
    search = definitions.load(str(file))
    space = {"distill.experts.recipe.lr": {"kind": "float", "low": 0.01, "high": 0.1}}
    with pytest.raises(ConfigError, match="experts cannot be searched"):
        expert_stage.wanted(search.override({"space": space}))


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


class Places(Local):
    """A runtime of which only the size is asked."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self.places = places

    def capacity(self, cpus: float, gpus: float, accelerator: str | None = None) -> int:
        """As told."""
        return self.places


@pytest.mark.parametrize(
    ("first", "todo", "places", "expected"),
    [
        (1, [0, 1, 2, 3, 4, 5], 2, 2),
        (3, [0, 1, 2, 3, 4, 5], 2, 4),
        (3, [2, 4, 5], 2, 2),
        (1, [4, 5], 2, 1),
        (4, [0], 9, 1),
    ],
)
def test_the_set_is_begun_when_as_many_experts_have_ended_as_it_needs(
    file: Path, first: int, todo: list[int], places: int, expected: int
) -> None:
    search = definitions.load(str(file)).override({"distill.experts.count": 6, "distill.first_experts": first})
    assert expert_stage._turn(search, todo, Places(places)) == expected


def test_what_does_not_let_the_set_be_distilled_beside_the_experts(file: Path, tmp_path: Path) -> None:
    plain = definitions.load(str(file))
    data = load_train(plain.data)
    fits = plain.override({"space": {}, "distill.first_experts": 1, "budget.final_cpus": plain.budget.cpus})

    def asked(search: Search, places: int = 2) -> tuple[bool, str]:
        said = Notes()
        possible = expert_stage.overlaps(search, tmp_path / "run", data, Places(places), said)
        return possible, " ".join(said.notes)

    assert asked(fits) == (True, "")
    assert asked(fits.override({"distill.first_experts": None})) == (False, "")
    possible, why = asked(fits, places=1)
    assert not possible
    assert why.endswith("though distill.first_experts=1: only one worker fits")
    for change, word in (({"space": plain.space}, "searched"), ({"budget.final_cpus": 3}, "budget.final_cpus")):
        possible, why = asked(fits.override(change))
        assert not possible
        assert word in why


@pytest.mark.ray
def test_a_set_distilled_beside_its_experts_has_the_same_bytes(file: Path, tmp_path: Path) -> None:
    changes = {"distill.first_experts": 1, "distill.all_experts_at": 8, "distill.iterations": 12, "space": {}}
    plain = definitions.load(str(file))
    search = plain.override({**changes, "distill.experts.count": 5, "budget.final_cpus": plain.budget.cpus})
    stages, sets, statuses = ("experts", "distill"), [], []
    for name, runtime in (("before", Local()), ("beside", cluster())):
        run = tmp_path / name / "run"
        experiment = Experiment(search, run, runtime, Progress(quiet=True))
        experiment.check(stages)
        results.open_run(search, run, resume=False)
        experiment.run_experts()
        statuses.append(artifacts.Unit(experiment.set_path.parent).status)
        experiment.run_distill()
        sets.append((experiment.set_path / TENSORS).read_bytes())
    assert statuses == [None, artifacts.COMPLETED]
    assert sets[0] == sets[1]
    assert bytes_of(tmp_path / "before") == bytes_of(tmp_path / "beside")


class Notes(Progress):
    """Keeps what is noted."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """One more."""
        self.notes.append(text)


class Tight(Local):
    """Has no memory for experts and the set at once."""

    def map(self, function: Any, items: Any, *given: Any, told: Any, **how: Any) -> Any:
        """Says so."""
        if any("distillation" in item for item in items):
            told(0, "out of memory with cpus=1; done again with cpus=2")
        return super().map(function, items, *given, told=told, **how)


def test_without_memory_for_both_the_set_comes_after_the_experts(file: Path, tmp_path: Path) -> None:
    plain = definitions.load(str(file))
    search = plain.override({"distill.first_experts": 1, "distill.experts.count": 2, "space": {}})
    data, runtime = load_train(search.data), Tight()
    heard = Notes()
    ended = expert_stage.run_experts(search, tmp_path / "run", data, runtime, heard, {"config": search.distill})
    assert ended is None
    assert expert_stage.missing(search, tmp_path / "run", data) == 0
    assert heard.notes == ["experts and set one after the other: out of memory with cpus=1; done again with cpus=2"]


def progress(out: Path) -> int:
    """Epochs that are stored, of all trajectories."""
    parts = len(list((out / store.FOLDER).glob("*/parts/*/[0-9]*")))
    finished = len(list((out / store.FOLDER).glob(f"*/0*/{TENSORS}")))
    scores = len(list((out / store.FOLDER).glob("*/difficulty/0*")))
    return max(parts, 0) + 100 * finished + scores
