"""``raydistill run`` on a file that holds several searches: each part a run folder, one page, goes on where it was."""

import json
import shlex
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from raydistill import cli_run, definitions, results
from raydistill.artifacts import read_json
from raydistill.errors import ConfigError, UnknownNameError
from raydistill.runtime import on_ray
from raydistill.runtime.local import Local
from raydistill.search.definition import Search
from raydistill.search.reproduction import Reproduction
from tests.tiny import TEXT, call, listing, write_search

SEVERAL = (
    TEXT
    + """
from raydistill.search.reproduction import Reproduction

plain = search.override({"space": {}, "nas": None, "evaluate.baselines": ["random"], "evaluate.students": 1})
search = Reproduction(
    name="both",
    parts={
        "mnist_datadam": plain.override({"name": "both_real"}),
        "mnist_datadam_noise": plain.override({"name": "both_noise", "distill.init": "noise"}),
        "mhist_datadam": plain.override({"name": "both_absent", "data.source": "KMNIST"}),
    },
)
"""
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from raydistill.data.sources import Downloaded

    def refuse(*args: object) -> None:
        raise OSError("no downloads in tests")

    monkeypatch.setattr(Downloaded, "download", refuse)
    monkeypatch.setenv("RAYDISTILL_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "several.py"
    path.write_text(SEVERAL, encoding="utf-8")
    return path


def test_what_all_parts_cost(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("plan", file, "--out", tmp_path / "runs", "--address", "in-process")
    said = call(capsys, *args, "--json")
    assert said.code == 0, said.err
    document = json.loads(said.out)
    assert list(document["parts"]) == ["mnist_datadam", "mnist_datadam_noise"], "the data of the third are not there"
    assert document["seconds"] == pytest.approx(sum(part["seconds"] for part in document["parts"].values()))
    shown = call(capsys, *args)
    assert (shown.code, "mhist_datadam is left out: " in shown.err) == (0, True)
    assert "together" in shown.out
    refused = call(capsys, *args, "--simulate", "8")
    assert (refused.code, "name one of them" in refused.err) == (2, True)
    assert not (tmp_path / "runs").exists(), "nothing is written before a search starts"


def test_a_file_of_several_searches(file: Path) -> None:
    found = definitions.load_any(str(file), ["distill.iterations=2"], seed=3)
    assert isinstance(found, Reproduction)
    assert {(part.distill.iterations, part.seed) for part in found.parts.values()} == {(2, 3)}
    assert Reproduction.parse(found.to_json()) == found
    one = definitions.load_any(f"{file}:mnist_datadam_noise")
    assert isinstance(one, Search)
    assert one == definitions.load(f"{file}:mnist_datadam_noise")
    with pytest.raises(ConfigError, match=r"holds several searches, .*several.py:mnist_datadam, "):
        definitions.load(str(file))
    with pytest.raises(UnknownNameError, match="did you mean mnist_datadam"):
        definitions.load(f"{file}:mnist_datadamm")


def test_two_parts_of_one_name_are_refused(file: Path) -> None:
    part = definitions.load(f"{file}:mnist_datadam")
    with pytest.raises(ConfigError, match="two parts have one name"):
        Reproduction(name="both", parts={"a": part, "b": part})


def test_run_does_what_can_be_done_and_goes_on(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    args = ("run", file, "--address", "in-process", "--out", out)
    said = call(capsys, *args, "--json", "--budget", "60")
    assert said.code == 0, said.err
    assert json.loads(said.out) == {
        "name": "both",
        "page": str(out / "both" / "index.html"),
        "done": ["mnist_datadam", "mnist_datadam_noise"],
    }
    assert "mhist_datadam is left out: " in said.err
    assert "both_real, within 60 minutes: distill.iterations 4 of 4, evaluate.students " in said.err
    assert read_json(out / "both_noise" / "results.json")["stages"]["distill"]["outcome"] == "completed"
    assert not (out / "both_absent").exists()
    text = (out / "both" / "report.md").read_text()
    assert f"raydistill run {file}:mhist_datadam --resume --out {out}" in text
    before = {name: listing(out / name / "units") for name in ("both_real", "both_noise")}
    again = call(capsys, *args)
    assert (again.code, "both_real holds a run already; add --resume" in again.err) == (2, True)
    said = call(capsys, *args, "--resume", "--quiet")
    assert (said.code, said.out) == (0, f"Page  {out / 'both' / 'index.html'}\n")
    assert {name: listing(out / name / "units") for name in before} == before


def test_the_pages_commands_go_on_with_what_was_run(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Printed options are those that were given: run again, a command finds the same search, and its set done."""
    out = tmp_path / "runs"
    given = ("--seed", "3", "--set", "distill.iterations=2", "--set", 'evaluate.baselines=["random"]', "--budget", "60")
    said = call(capsys, "run", file, "--address", "in-process", "--out", out, "--quiet", *given)
    assert said.code == 0, said.err
    text = (out / "both" / "report.md").read_text()
    (line,) = {line.strip() for line in text.splitlines() if f"{file}:mnist_datadam " in line and "cross" not in line}
    assert shlex.split(line) == ["raydistill", "run", f"{file}:mnist_datadam", "--resume", "--out", str(out), *given]
    before = listing(out / "both_real")
    said = call(capsys, *shlex.split(line)[1:], "--address", "in-process", "--quiet", "--json")
    assert said.code == 0, said.err
    after = listing(out / "both_real")
    kept = [name for name in before if name.startswith(("units/", "search.json"))]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert not (out / "both_real" / "replaced").exists()
    own = f"{file}:mnist_datadam --resume --out {out} --seed 3 --budget 60 --set distill.iterations=2"
    assert f"raydistill run {own}\n" in (out / "both" / "report.md").read_text()


def test_parts_begun_later_have_the_share_of_the_first_start(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever goes on within the same minutes has sets of like lengths side by side, and is told so."""
    from raydistill import budget

    timed = list[float]()

    def half(minutes: float, searches: Any, forecast: Any) -> float:
        timed.append(minutes)
        return 0.5

    monkeypatch.setattr(budget, "share_within", half)
    out = tmp_path / "runs"
    args = ("--address", "in-process", "--out", out, "--json")
    said = call(capsys, "run", f"{file}:mnist_datadam", *args, "--budget", "60")
    assert said.code == 0, said.err
    said = call(capsys, "run", file, *args, "--resume", "--budget", "60")
    assert said.code == 0, said.err
    assert timed == [60, 60]  # one part's share is not that of all
    assert "both_real, as it began: distill.iterations 2 of 4" in said.err
    assert "both_noise, within 60 minutes: distill.iterations 2 of 4" in said.err
    assert "| mnist_datadam | 2 | 4 |" in (out / "both" / "report.md").read_text()
    shutil.rmtree(out / "both_noise")
    said = call(capsys, "run", f"{file}:mnist_datadam_noise", *args, "--resume", "--budget", "60")
    assert (said.code, timed) == (0, [60, 60]), said.err
    assert read_json(out / "both_noise" / "search.json")["distill"]["iterations"] == 2


def test_experts_that_the_cache_has_cost_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from raydistill import budget
    from tests.test_expert_stage import TEXT

    epochs = list[float]()

    def noted(minutes: float, searches: Any, forecast: Any) -> float:
        costs = forecast("", searches[""]).costs
        epochs.append(sum(cost.times for cost in costs if cost.stage == "experts"))
        raise ConfigError("enough")

    monkeypatch.setattr(budget, "share_within", noted)
    file, out = write_search(tmp_path, TEXT), tmp_path / "runs"
    args = (file, "--address", "in-process", "--quiet", "--out", out)
    disks = []
    for count in (None, 2, 3):
        if count is not None:
            given = ("--set", f"distill.experts.count={count}")
            assert call(capsys, "experts", *args, *given).code == 0
        assert call(capsys, "run", *args, "--set", "name=other", "--budget", "60").code == 2
        said = call(capsys, "plan", *args[:3], "--out", out, "--set", "name=other", "--json")
        disks.append(json.loads(said.out)["disk_bytes"])
    assert epochs == [3 * epochs[1], epochs[1], 0]  # three to train, then one, then none
    assert epochs[1] > 0
    assert disks == [disks[0], disks[0] // 3, 0]


def test_what_fails_after_it_has_begun_exits_with_1_whatever_else_fails_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from raydistill import results
    from raydistill.errors import EnvironmentIssue
    from raydistill.stages import Experiment

    def full(*args: Any, **more: Any) -> None:
        raise EnvironmentIssue("the disk is full")

    given = ("run", f"{write_search(tmp_path)}:other", "--address", "in-process", "--quiet", "--out", tmp_path / "runs")
    monkeypatch.setattr(Experiment, "run_distill", full)
    monkeypatch.setattr(results, "update", full)
    said = call(capsys, *given)
    assert (said.code, said.err) == (1, "raydistill: the disk is full\n")
    monkeypatch.setattr(Experiment, "check", full)
    assert call(capsys, *given, "--resume").code == 2


def test_one_part_brings_the_page_up_to_date(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs"
    said = call(capsys, "run", f"{file}:mnist_datadam", "--address", "in-process", "--out", out, "--quiet", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["name"] == "both_real"
    text = (out / "both" / "report.md").read_text()
    assert f"raydistill run {file}:mnist_datadam_noise --resume" in text
    assert "| mnist_datadam | 4 | 4 |" in text
    # What is set for one part is its own; what is rated is left to the file, so that every cell is filled.
    sets = ("distill.iterations=2", "evaluate.students=1", "evaluate.whole_epochs=1")
    given = ("--resume", *(word for setting in sets for word in ("--set", setting)), "--seed", "3")
    said = call(capsys, "run", f"{file}:mnist_datadam", "--address", "in-process", "--out", out, "--quiet", *given)
    assert said.code == 0, said.err
    lines = {line.strip() for line in (out / "both" / "report.md").read_text().splitlines()}
    where = f"--resume --out {out} --seed 3"
    own = f"{where} --set distill.iterations=2 --set evaluate.whole_epochs=1"  # networks on all images are not trained again
    assert f"raydistill run {file}:mnist_datadam {own}" in lines
    assert f"raydistill run {file}:mnist_datadam_noise {where}" in lines
    assert not any("evaluate.students" in line for line in lines)


def test_two_processes_do_not_work_in_one_run_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search, out = write_search(tmp_path), tmp_path / "runs"
    command = ("distill", f"{search}:other", "--address", "in-process", "--quiet", "--out", out)
    assert call(capsys, *command).code == 0
    with results.only_one(out / "other"):
        said = call(capsys, *command)
    assert (said.code, "another raydistill is at work there" in said.err) == (2, True)
    assert call(capsys, *command).code == 0


def test_a_report_that_cannot_be_written_is_a_failed_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search, out = write_search(tmp_path), tmp_path / "runs"
    (out / "other").mkdir(parents=True)
    (out / "other" / "report").write_text("in the way")
    said = call(capsys, "distill", f"{search}:other", "--address", "in-process", "--quiet", "--out", out)
    assert said.code == 1
    assert said.err.count("\n") == 1
    with closing(sqlite3.connect(out / "other" / "mlflow.db")) as database:
        assert "RUNNING" not in {row[0] for row in database.execute("select status from runs")}
    assert "report" not in json.loads((out / "other" / "results.json").read_text())


def test_what_ray_says_is_kept_from_stdout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(on_ray, "connect", lambda *_, **__: Local())
    with cli_run.runtime("auto"):
        print("a node died")
    print("{}")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("{}\n", "a node died\n")
