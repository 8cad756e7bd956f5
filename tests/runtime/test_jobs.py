"""Ray jobs through the real SDK, against a dashboard of the test's own."""

import io
import os
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from raydistill.errors import ConfigError, EnvironmentIssue, UnknownNameError
from raydistill.runtime import jobs as module
from raydistill.runtime.jobs import Jobs, checked
from tests.runtime import cluster
from tests.runtime.dashboard import TOKEN, Dashboard, serving


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, and nothing that says where or who."""
    cluster.end()
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    return tmp_path / "home"


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    with serving(Dashboard()) as served:
        yield served


def test_what_is_sent_is_the_folder_without_runs_data_and_secrets(dashboard: Dashboard, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    sent = ("searches/mine.py", "raydistill/data/load.py", "raydistill/runs.py")
    kept = ("runs/a/results.json", "data/MNIST/raw", ".git/config", ".venv/bin/python", ".env", "a/__pycache__/b.pyc")
    for name in (*sent, *kept, "big/file"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")
    (folder / ".rayignore").write_text("/big\n", encoding="utf-8")
    name = Jobs(dashboard.address).submit("echo it", folder)
    assert name == "raysubmit_1"
    [package] = dashboard.packages.values()
    names = zipfile.ZipFile(io.BytesIO(package)).namelist()
    assert {one for one in names if not one.endswith("/")} == {*sent, ".rayignore"}
    [request] = dashboard.submitted
    assert request["entrypoint"] == "echo it"
    assert request["runtime_env"]["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "30"}


def test_a_log_is_followed_to_the_end_and_the_exit_code_is_the_jobs_own(dashboard: Dashboard) -> None:
    dashboard.add("good", "RUNNING", ("one\n", "two\n"), status="SUCCEEDED", driver_exit_code=0)
    dashboard.add("bad", "PENDING", ("oh\n",), status="FAILED", driver_exit_code=3, message="the log again")
    dashboard.add("never", "FAILED", message="no such\n runtime environment")
    known = Jobs(dashboard.address)
    seen: list[str] = []
    assert known.follow("good", seen.append).exit_code == 0
    assert "".join(seen) == "one\ntwo\n"
    bad = known.follow("bad", seen.append)
    assert (bad.status, bad.exit_code, bad.message) == ("FAILED", 3, "")
    never = known.follow("never", seen.append)
    assert (never.exit_code, never.message) == (1, "no such runtime environment")


def test_a_log_whose_connection_breaks_is_taken_up_where_it_was(dashboard: Dashboard) -> None:
    dashboard.add("long", "RUNNING", ("one\n", "two\n", "three\n"), status="SUCCEEDED", driver_exit_code=0)
    dashboard.breaks = 2
    seen: list[str] = []
    assert Jobs(dashboard.address).follow("long", seen.append).status == "SUCCEEDED"
    assert "".join(seen) == "one\ntwo\nthree\n"
    assert dashboard.breaks == 0


def test_a_head_that_stays_silent_is_given_up_with_the_way_back(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.2)
    dashboard.add("long", "RUNNING", ("",))
    dashboard.breaks = 10**6
    again = f"raydistill jobs long --address {dashboard.address} --logs$"
    with pytest.raises(EnvironmentIssue, match=f"has fallen silent .*; the job may go on: {again}"):
        Jobs(dashboard.address).follow("long", print)


def test_stopping_and_listing(dashboard: Dashboard) -> None:
    dashboard.add("late", "RUNNING", start=20)
    dashboard.add("early", "SUCCEEDED", start=10)
    dashboard.jobs["driver"] = {
        "type": "DRIVER",
        "job_id": "01",
        "status": "RUNNING",
        "entrypoint": "",
        "start_time": 1,
    }
    known = Jobs(dashboard.address)
    assert [(job.id, job.started, job.ended) for job in known.all()] == [("early", 10, True), ("late", 20, False)]
    stopped = known.stop("late")
    assert (stopped.status, stopped.exit_code) == ("STOPPED", 130)
    assert dashboard.stopped == ["late"]


def test_a_job_that_nobody_knows(dashboard: Dashboard) -> None:
    dashboard.add("raysubmit_abc", "SUCCEEDED")
    for ask in (Jobs(dashboard.address).one, Jobs(dashboard.address).stop):
        with pytest.raises(UnknownNameError, match=r"^unknown job 'raysubmit_abd'; did you mean raysubmit_abc\?$"):
            ask("raysubmit_abd")


@pytest.mark.parametrize("place", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "home"])
def test_the_token_is_taken_from_where_ray_takes_it(
    place: str, dashboard: Dashboard, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dashboard.token = TOKEN
    path = home / ".ray" / "auth_token"
    path.parent.mkdir(parents=True)
    path.write_text("x" if place != "home" else f"{TOKEN}\n", encoding="utf-8")
    if place == "RAY_AUTH_TOKEN_PATH":
        (home / "mine").write_text(TOKEN, encoding="utf-8")
        monkeypatch.setenv(place, str(home / "mine"))
    elif place == "RAY_AUTH_TOKEN":
        monkeypatch.setenv(place, TOKEN)
    assert Jobs(dashboard.address).all() == []


def test_without_the_token_one_is_not_admitted(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    dashboard.token = TOKEN
    with pytest.raises(EnvironmentIssue, match="asks for its token; set RAY_AUTH_TOKEN_PATH to the file"):
        Jobs(dashboard.address)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong" * 12)
    with pytest.raises(EnvironmentIssue, match="has another token") as caught:
        Jobs(dashboard.address)
    assert "wrong" not in str(caught.value)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "none"))
    with pytest.raises(ConfigError, match=r"RAY_AUTH_TOKEN_PATH=.*cannot be read"):
        Jobs(dashboard.address)


def test_the_address_that_was_given_wins(dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    assert Jobs(f"{dashboard.address}/").all() == []
    assert os.environ["RAY_ADDRESS"] == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("head:6379", "address='head:6379': jobs go to a dashboard; write http://head:8265"),
        ("auto", "address='auto': jobs go to a dashboard; write http://HOST:8265"),
        ("ray://head:10001", "address='ray://head:10001': write the address of the head's dashboard, http://HOST:8265"),
        ("http://head:port", "address='http://head:port': write the address of the head's dashboard, http://HOST:8265"),
        ("http://", "address='http://': write the address of the head's dashboard, http://HOST:8265"),
        ("http://me:secret@head", "address: it holds a name or password, which others could read; leave them out"),
    ],
)
def test_addresses_of_another_form(address: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(address)
    assert str(caught.value) == message


def test_nobody_there_or_somebody_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(
        EnvironmentIssue, match=f"nobody answers at http://127.0.0.1:{port}: .*refused; give --address as"
    ):
        Jobs(f"http://127.0.0.1:{port}")
    with serving(Stranger()) as stranger, pytest.raises(EnvironmentIssue, match="answers, but is no Ray dashboard"):
        Jobs(stranger.address)


class Stranger(Dashboard):
    """Some other web server."""

    async def _version(self, request: object) -> object:  # type: ignore[override]
        from aiohttp import web

        return web.Response(text="<html>hello</html>", content_type="text/html")


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        ("No disk\nleft", EnvironmentIssue, r"refused: Request failed with status code 500: No disk left\.$"),
        ("No available agent to submit job.", EnvironmentIssue, r"has the port of its agent: start it with `ray start"),
        ("Traceback:\n  here\nOSError: no disk\n", EnvironmentIssue, r"refused: OSError: no disk$"),
        (
            "Traceback:\n  here\nValueError: Package size (9MiB) exceeds the maximum size of 5MiB.\n",
            ConfigError,
            r"project is too large for the cluster: ValueError: Package size \(9MiB\) .* in \.rayignore$",
        ),
    ],
)
def test_a_cluster_that_does_not_take_the_folder(
    answer: str, kind: type[Exception], message: str, dashboard: Dashboard, tmp_path: Path
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "file").write_text("a", encoding="utf-8")
    dashboard.refuses = answer
    with pytest.raises(kind, match=message):
        Jobs(dashboard.address).submit("true", tmp_path / "project")
    assert dashboard.submitted == []
