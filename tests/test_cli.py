"""The command line as people and machines use it, on a search that takes seconds."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from raydistill import artifacts
from raydistill.errors import EnvironmentIssue
from raydistill.interrupts import Interrupted, interruptible
from tests.tiny import TEXT, call, listing, shell, write_search

COMMANDS = ("run", "search", "distill", "evaluate", "nas", "report", "export", "data", "doctor", "settings")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """``raydistill run --json --quiet`` in a process of its own: the run folder, and what the process gave back."""
    folder = tmp_path_factory.mktemp("first")
    command, environment = shell(*run_args(write_search(folder), folder / "runs"), "--json", "--quiet")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "tiny", done


@pytest.fixture
def run(first: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run in a folder of the test's own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(first[0], tmp_path / "runs" / "tiny"))


def run_args(search: Path, out: Path) -> list[object]:
    return ["run", search, "--address", "in-process", "--out", out]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, command, "--help")
    assert said.code == 0
    assert said.err == ""
    assert command in said.out


def test_help_begins_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "--help")
    assert said.code == 0
    assert "raydistill run searches/quickstart.py" in " ".join(said.out.split())
    assert all(command in said.out for command in COMMANDS)
    assert "Example" in call(capsys, "run", "--help").out


def test_nothing_asked_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys)
    assert said.code == 0
    assert "quickstart" in said.out
    assert said.err == ""


def test_json_is_one_document_with_the_contracts_fields(first: tuple[Path, Any]) -> None:
    folder, done = first
    document = json.loads(done.stdout)
    assert document == json.loads((folder / "results.json").read_text())
    check_contract(document, folder, trials=2)
    assert document["name"] == "tiny"


def test_mlflow_has_the_commit_the_settings_and_the_data(first: tuple[Path, Any]) -> None:
    folder, done = first
    document = json.loads(done.stdout)
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        tags = "select value from tags where key = ?"
        count = len(list(database.execute("select * from runs")))
        assert count > 8
        for name in ("git_commit", "machine", "seed", "ipc", "init"):
            found = [row[0] for row in database.execute(tags, (name,))]
            assert len(found) == count, name
        assert {row[0] for row in database.execute(tags, ("git_commit",))} == {document["git_commit"]}
        settings = database.execute("select value from params where key = 'distill.iterations'").fetchall()
        assert settings == [("4",)] * count
        ((rate,),) = set(
            database.execute(
                "select params.value from params join tags using (run_uuid) where params.key = "
                "'distill.lr_img' and tags.key = 'raydistill.kind' and tags.value in ('distill', 'evaluate', 'nas')"
            )
        )
        assert float(rate) == document["stages"]["search"]["best"]["params"]["distill.lr_img"]
        assert [row[0] for row in database.execute("select name from datasets")].count("digits") == 2


def check_contract(document: dict[str, Any], folder: Path, trials: int) -> None:
    """The fields that machines may rely on."""
    assert document["schema"] == 1
    assert {"name", "run_id", "seed", "versions", "dataset", "method", "stages", "mlflow", "report"} <= document.keys()
    assert (document["dataset"], document["method"]) == ("digits", "DataDAM")
    stages = document["stages"]
    search = stages["search"]
    assert search["trials"] == trials == sum(search[s] for s in ("completed", "diverged", "stopped", "failed"))
    assert search["seconds"] > 0
    assert 0 <= search["best"]["val_accuracy"] <= 1
    assert "distill.lr_img" in search["best"]["params"]
    assert {"directory", "iterations", "seconds", "outcome"} <= stages["distill"].keys()
    assert stages["distill"]["outcome"] == "completed"
    assert (folder / stages["distill"]["directory"] / "manifest.json").is_file()
    for row in stages["evaluate"]:
        assert {
            "set",
            "network",
            "protocol",
            "students",
            "accuracy",
            "balanced_accuracy",
            "auc",
            "seconds",
        } <= row.keys()
        accuracy = row["accuracy"]
        assert {"mean", "std", "ci95", "runs"} <= accuracy.keys()
        assert len(accuracy["runs"]) == row["students"]
        assert accuracy["mean"] == pytest.approx(sum(accuracy["runs"]) / row["students"])
        assert all(0 <= value <= 1 for value in accuracy["runs"])
    nas = stages["nas"]
    assert {"names", "distinct", "ranking", "best", "seconds"} <= nas.keys()
    assert [entry["accuracy"] for entry in nas["ranking"]] == sorted(
        (e["accuracy"] for e in nas["ranking"]), reverse=True
    )
    assert nas["best"] == nas["ranking"][0]["name"]
    assert {"tracking_uri", "experiment", "run_id"} <= document["mlflow"].keys()
    assert document["mlflow"]["run_id"]
    assert (folder / document["report"]).is_file()


def test_quiet_says_nothing(first: tuple[Path, Any]) -> None:
    assert first[1].stderr == ""


def test_second_run_does_nothing_again(run: Path, first: tuple[Path, Any], capsys: pytest.CaptureFixture[str]) -> None:
    before = json.loads((run / "results.json").read_text())
    units = {k: v for k, v in listing(run / "units").items() if not k.endswith(".lock")}
    said = call(capsys, *run_args(write_search(Path()), Path("runs")), "--resume", "--json")
    assert said.code == 0, said.err
    after = json.loads(said.out)
    assert {k: v for k, v in listing(run / "units").items() if not k.endswith(".lock")} == units
    assert after["run_id"] == before["run_id"]
    for stage in ("distill", "evaluate", "nas"):
        assert after["stages"][stage] == before["stages"][stage]
    assert after["stages"]["search"]["best"] == before["stages"]["search"]["best"]


def test_stored_search_goes_on_in_place_of_the_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, *run_args(run / "search.json", Path("runs")), "--resume", "--json", "--quiet")
    assert said.code == 0, said.err
    assert json.loads(said.out)["stages"]["search"]["trials"] == 2


def test_stages_one_by_one(first: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = write_search(tmp_path)
    for stage in ("search", "distill", "nas"):
        given = [stage, search, "--address", "in-process", "--out", tmp_path / "runs", "--json", "--quiet"]
        said = call(capsys, *given)
        assert said.code == 0, said.err
        assert stage in json.loads(said.out)["stages"]
    run, whole = tmp_path / "runs" / "tiny", first[0]
    final = Path("units/distill/final/set") / artifacts.TENSORS
    assert (run / final).read_bytes() == (whole / final).read_bytes()


def test_person_reads_the_table_the_report_and_where_mlflow_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, *run_args(write_search(Path()), Path("runs")), "--resume")
    assert said.code == 0
    assert "runs/tiny/report/index.html" in said.out.replace("\n", "")
    assert "mlflow ui --backend-store-uri" in said.out
    assert "distilled" in said.out
    assert "%" in said.out
    assert "Traceback" not in said.err


def test_evaluate(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["evaluate", run, "--network", "ConvNetD1", "--students", "2", "--protocol", "seed", "--quiet"]
    args += ["--address", "in-process"]
    said = call(capsys, *args, "--json")
    document = json.loads(said.out)
    assert said.code == 0
    assert said.err == ""
    assert (document["network"], document["protocol"], document["students"]) == ("ConvNetD1", "seed", 2)
    assert document["accuracy"]["mean"] == pytest.approx(sum(document["accuracy"]["runs"]) / 2)
    assert document["accuracy"]["ci95"][0] <= document["accuracy"]["mean"] <= document["accuracy"]["ci95"][1]
    assert len(set(document["accuracy"]["runs"])) == 2, "two students are two networks"
    assert json.loads(call(capsys, *args, "--json").out) == document
    told = call(capsys, *args).out
    assert f"{100 * document['accuracy']['mean']:.2f} %" in told
    assert "355 test images" in told
    narrow = json.loads(call(capsys, *args, "--json", "--precision", "bfloat16").out)
    assert (document["precision"], narrow["precision"]) == ("float32", "bfloat16")


def test_evaluate_takes_the_sets_folder_too(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--network", "ConvNetD1", "--students", "1", "--protocol", "seed", "--quiet", "--json"]
    args += ["--address", "in-process"]
    inner = call(capsys, "evaluate", run / "units" / "distill" / "final" / "set", *args)
    assert inner.out == call(capsys, "evaluate", run, *args).out
    assert json.loads(inner.out)["accuracy"]["ci95"] is None


def test_export(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for to, made in (("png", "picture.png"), ("npz", "arrays.npz"), ("imagefolder", "images/train")):
        said = call(capsys, "export", run, "--to", to, "--out", made.removesuffix("/train"))
        assert (said.code, said.err) == (0, "")
        assert said.out.strip() == made
        assert Path(made).exists()


def test_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(run / "report")
    said = call(capsys, "report", "runs/tiny")
    assert said.code == 0
    assert said.out.strip() == "runs/tiny/report/index.html"
    assert (run / "report" / "index.html").is_file()
    shutil.copytree(run, "runs/again")
    said = call(capsys, "report", "runs/tiny", "runs/again")
    assert said.out.strip() == "report/index.html"
    assert Path("report/index.html").is_file()


def test_report_and_export_as_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "report", run, "--out", "page", "--json")
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out) == {"page": "page/index.html", "runs": [str(run)]}
    said = call(capsys, "export", run, "--to", "npz", "--out", "set", "--json")
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out) == {"path": "set.npz", "format": "npz"}


def test_data(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in json.loads(call(capsys, "data", "--json").out)}
    assert {"digits", "MNIST", "CIFAR10", "folder"} <= rows.keys()
    assert (rows["digits"]["status"], rows["digits"]["images"], rows["digits"]["shape"]) == ("found", 1797, [1, 8, 8])
    [row] = json.loads(call(capsys, "data", "digits", "--json").out)
    assert row == rows["digits"]
    assert "digits" in call(capsys, "data").out


def test_doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "doctor", "--address", "in-process", "--out", tmp_path, "--json")
    findings = {finding["name"]: finding for finding in json.loads(said.out)}
    assert {"versions", "machine", "GPU", "disk", "digits", "Ray", "MLflow"} <= findings.keys()
    assert findings["MLflow"]["works"] is True
    assert listing(tmp_path) == {}


def test_doctor_ends_with_1_where_something_does_not_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "doctor", "--address", "in-process", "--out", tmp_path, "--tracking-uri", "http://127.0.0.1:9")
    assert said.code == 1
    assert "FAIL  MLflow" in said.out
    assert "does not answer" in said.out


def test_diverging_search_ends_with_1_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = write_search(tmp_path, TEXT.replace("low=0.01, high=1.0, log=True", "low=1e29, high=1e30"))
    said = call(capsys, *run_args(search, tmp_path / "runs"), "--quiet")
    assert (said.code, said.out) == (1, "")
    assert len(said.err.splitlines()) == 1
    assert "2 diverged" in said.err
    assert "lower lr_img" in said.err
    document = json.loads((tmp_path / "runs" / "tiny" / "results.json").read_text())
    assert document["stages"]["search"]["diverged"] == 2
    assert document["mlflow"]["run_id"], "a failed run is tracked too"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_and_resumed(number: signal.Signals, first: tuple[Path, Any], tmp_path: Path) -> None:
    search = write_search(tmp_path)
    # Longer trials, so that there is something to interrupt; the first two agree with those of the short search.
    args = [*run_args(search, tmp_path / "runs"), "--set", "budget.trials=400", "--set", "budget.stopping=none"]
    command, environment = shell(*args)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run = tmp_path / "runs" / "tiny"
    ended = wait_for(process, lambda: sum(u.status == "completed" for u in artifacts.units(run, "trial")) >= 2)
    assert not ended, process.communicate()
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    words = " ".join(str(arg) for arg in args)
    assert last == f"raydistill: interrupted; go on with: raydistill {words} --resume"
    done = [unit.name for unit in artifacts.units(run, "trial") if unit.status == "completed"]
    shorter = [*args, "--resume", "--set", f"budget.trials={len(done) + 1}", "--json", "--quiet"]
    command, environment = shell(*shorter)
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout)["stages"]["search"]["completed"] >= len(done)
    assert (run / "report" / "index.html").is_file()


def test_signal_that_arrives_twice_is_one_signal() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted), interruptible():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_signal_that_c_code_turns_into_another_error_stays_an_interruption() -> None:
    with pytest.raises(Interrupted), interruptible():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Interrupted:
            raise SystemError("returned a result with an exception set") from None
    with pytest.raises(EnvironmentIssue), interruptible():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Interrupted:
            raise EnvironmentIssue("no disk") from None
    with pytest.raises(SystemError), interruptible():  # no signal came
        raise SystemError("of its own")


def wait_for(process: subprocess.Popen[str], there: Any, seconds: float = 120.0) -> bool:
    """Wait until ``there()``; returns whether the process ended before."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            return True
        if there():
            return False
        time.sleep(0.05)
    process.kill()
    raise TimeoutError(process.communicate())


@pytest.mark.parametrize("args", [["data", "--json"], ["--help"]])
def test_reader_that_has_gone(args: Sequence[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    command, environment = shell(*args)
    done = subprocess.run(command, env=environment, stdout=write, stderr=subprocess.PIPE, timeout=120, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
