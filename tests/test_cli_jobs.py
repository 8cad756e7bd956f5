"""`raydistill submit` and `raydistill jobs`, against a dashboard of the test's own."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from raydistill.runtime import jobs as module
from tests.runtime import cluster
from tests.runtime.dashboard import TOKEN, Dashboard, serving
from tests.tiny import call, shell, write_search


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a search, and nothing that says where or who."""
    cluster.end()
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    (tmp_path / "project" / "searches").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    write_search(tmp_path / "project" / "searches")
    return tmp_path / "project"


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    with serving(Dashboard(token=TOKEN)) as served:
        monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", served.address)
        yield served


def test_submit_waits_shows_the_log_and_ends_as_the_job(
    dashboard: Dashboard, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = call(capsys, "submit", "searches/tiny.py", "--address", dashboard.address)
    assert (said.code, said.out) == (0, "working\n")
    assert said.err.splitlines() == ["job raysubmit_1", "job raysubmit_1 succeeded"]
    [request] = dashboard.submitted
    assert request["entrypoint"] == 'python -m raydistill run searches/tiny.py --out "$HOME"/runs'
    dashboard.add("raysubmit_2", "RUNNING", ("oh\n",), status="FAILED", driver_exit_code=3)
    assert call(capsys, "submit", folder / "searches" / "tiny.py").code == 3
    assert dashboard.submitted[1]["entrypoint"] == request["entrypoint"]


def test_options_arrive_as_they_were_given(dashboard: Dashboard, capsys: pytest.CaptureFixture[str]) -> None:
    said = call(
        capsys,
        *(
            "submit",
            "searches/tiny.py:other",
            "--detach",
            "--resume",
            "--budget",
            90,
            "--seed",
            4,
            "--out",
            "/mnt/my runs",
        ),
        *("--data-root", "~/data", "--tracking-uri", "http://mlflow:5000"),
        *("--set", 'evaluate.baselines=["random"]', "--set", "distill.iterations=5"),
    )
    assert said == (0, "raysubmit_1\n", "")
    assert dashboard.submitted[0]["entrypoint"] == (
        "python -m raydistill run searches/tiny.py:other --set 'evaluate.baselines=[\"random\"]' "
        "--set distill.iterations=5 --seed 4 --tracking-uri http://mlflow:5000 --resume --budget 90 "
        "--out '/mnt/my runs' --data-root \"$HOME\"/data"
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["submit", "searches/tiny.py"],
            "which cluster? give --address http://HOST:8265, or set RAY_API_SERVER_ADDRESS",
        ),
        (["jobs", "--address", "head:8265"], "address='head:8265': jobs go to a dashboard; write http://head:8265"),
        (["jobs", "--logs"], "--logs is for one job; name it: raydistill jobs ID"),
        (["jobs", "--stop"], "--stop is for one job; name it: raydistill jobs ID"),
        (["jobs", "ID", "--logs", "--stop"], "--logs prints a log and waits for the job's end; give it alone"),
        (["submit", "../tiny.py"], "../tiny.py: only the current folder is sent to the cluster; start from a folder"),
        (["submit", "runs/search.json"], "runs/search.json: runs is not sent to the cluster; copy the file beside"),
        (["submit", "searches/none.py"], "no search file 'searches/none.py'; there is searches/tiny.py"),
        (["submit", "searches/tiny.py", "--set", "distill.lr_imgs=1"], "did you mean 'distill.lr_img'?"),
        (["submit", "searches/tiny.py", "--tracking-uri", "ftp://x"], "tracking_uri='ftp://x': MLflow records to"),
        (["submit", "searches/tiny.py", "--tracking-uri", "http://me:pw@x"], "sees its password; leave it out and set"),
    ],
)
def test_wrong_input_is_one_line_before_the_cluster_is_asked(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    write_search(folder.parent)
    given = args if "--address" in args or "which" in message else [*args, "--address", "http://127.0.0.1:9"]
    said = call(capsys, *given)
    assert (said.code, said.out) == (2, ""), said
    assert len(said.err.splitlines()) == 1
    assert message in said.err
    assert "pw" not in said.err


def test_jobs_one_job_its_log_and_its_end(dashboard: Dashboard, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "jobs") == (0, "", "no jobs yet\n")
    dashboard.add("a", "FAILED", ("broken\n",), message="no such environment")
    dashboard.add("b", "RUNNING", start=2)
    lines = call(capsys, "jobs").out.splitlines()
    assert [line.split()[:2] for line in lines] == [["a", "FAILED"], ["b", "RUNNING"]]
    assert lines[1].endswith("command of b")
    assert json.loads(call(capsys, "jobs", "--json").out)[0]["exit_code"] == 1
    again = call(capsys, "jobs", "a", "--logs")
    assert again == (1, "broken\n", "job a failed with exit code 1: no such environment\n")
    stopped = call(capsys, "jobs", "b", "--stop", "--json")
    assert (stopped.code, json.loads(stopped.out)["status"]) == (0, "STOPPED")
    unknown = call(capsys, "jobs", "zz")
    assert (unknown.code, unknown.err) == (2, "raydistill: unknown job 'zz'; known: a, b\n")


def test_leaving_does_not_end_the_job(dashboard: Dashboard) -> None:
    dashboard.add("a", "RUNNING", ("first\n",))
    command, environment = shell("jobs", "a", "--logs")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "first\n"
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    again = f"raydistill jobs a --address {dashboard.address}"
    assert process.returncode == 130
    assert err == f"raydistill: the job goes on; {again} --logs shows it, --stop ends it\n"
    assert dashboard.stopped == []
