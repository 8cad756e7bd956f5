"""Ray jobs: a command sent to a cluster's head, watched, found again and stopped there."""

import asyncio
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from raydistill.errors import ConfigError, EnvironmentIssue, UnknownNameError
from raydistill.runtime.on_ray import REACH_SECONDS

LEFT_OUT = ("/runs", "/data", "/.venv", "/.git", "/.env", "/mlruns", "/mlflow.db", "__pycache__", ".*_cache")
"What of the current folder is not sent, as in .gitignore; with a slash in front, for ``raydistill/data`` is code."

STOP_SECONDS = 30
"From asking a job to end to ending it: time to say so to MLflow, for which Ray's 3 seconds are too few."

AGAIN_SECONDS = 60.0
"How long a head that has fallen silent is asked again for a log."

POLL_SECONDS = 0.5
DASHBOARD_PORT = 8265
STOPPED = 130
"Exit code of a job that was stopped: as a run's that was interrupted."

ROADS = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"Ray lets these win against the address that it is given."


TALKATIVE = {
    "ray.dashboard.modules.job.sdk": logging.WARNING,
    "ray.dashboard.modules.dashboard_sdk": logging.WARNING,
    "ray._private.runtime_env.packaging": logging.WARNING,
    "ray._private.runtime_env.working_dir": logging.ERROR,  # it warns that .git is left out, which is what we want
}
"Loggers of Ray that would tell each step of a submission on stderr, and from where they are of use."


class Job(NamedTuple):
    """One job as the cluster knows it."""

    id: str
    status: str
    "PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."
    command: str
    started: float | None
    "Seconds since 1970."
    exit_code: int | None
    "0 for a job that succeeded; ``None`` while it has none."
    message: str
    "Why it never started; what a job that ran has to say is in its log."

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ("STOPPED", "SUCCEEDED", "FAILED")


class Jobs:
    """The jobs of the cluster whose dashboard is at ``address``; no time limit but for finding nobody there.

    Args:
        address: ``http://HOST:8265``.

    Raises:
        ConfigError: an address of another form, or a token file that is none.
        EnvironmentIssue: nobody answers there, or does not admit us.
    """

    def __init__(self, address: str) -> None:
        self.address = checked(address)
        _reach(self.address)
        token = _token()
        from ray.dashboard.modules.job import sdk

        for logger, level in TALKATIVE.items():
            logging.getLogger(logger).setLevel(level)
        headers = {"Authorization": f"Bearer {token}"} if token else None
        with _without(ROADS), self._mendable():
            self._client = sdk.JobSubmissionClient(self.address, headers=headers)

    def submit(self, command: str, folder: Path) -> str:
        """Send ``folder`` and run a shell command in the copy of it; returns the job's id.

        Raises:
            ConfigError: the folder is too large.
            EnvironmentIssue: the cluster does not take it.
        """
        environment = {
            "working_dir": str(folder),
            "excludes": list(LEFT_OUT),
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
        }
        with self._mendable():
            try:
                return str(self._client.submit_job(entrypoint=command, runtime_env=environment))
            except RuntimeError as error:
                if "Package size" not in str(error):
                    raise
                raise ConfigError(
                    f"{folder} is too large for the cluster: {_last(error)}; start from the folder of your searches, "
                    "or name what is not needed in .rayignore"
                ) from None

    def all(self) -> list[Job]:
        """The jobs that were submitted, the latest last."""
        with self._mendable():
            found = [_job(one) for one in self._client.list_jobs() if one.submission_id]
        return sorted(found, key=lambda job: job.started or 0.0)

    def one(self, name: str) -> Job:
        """How a job fares.

        Raises:
            UnknownNameError: no such job.
        """
        with self._mendable(name):
            return _job(self._client.get_job_info(name))

    def stop(self, name: str) -> Job:
        """Ask a job to end and wait until it has; one that has ended stays as it is."""
        self.one(name)
        with self._mendable(name):
            self._client.stop_job(name)
        while not (job := self.one(name)).ended:
            time.sleep(POLL_SECONDS)
        return job

    def follow(self, name: str, write: Callable[[str], object]) -> Job:
        """Hand a job's log to ``write``, from its beginning and as it comes; returns when the job has ended.

        Raises:
            EnvironmentIssue: the head has fallen silent; the job may go on.
        """
        job, written = self.one(name), 0
        silent_since: float | None = None
        while True:
            try:
                position = 0
                for text in self._tail(name):
                    # A new connection brings the whole log again.
                    new = text[max(0, written - position) :]
                    position += len(text)
                    if new:
                        write(new)
                        written = position
                        silent_since = None
                if (job := self.one(name)).ended:
                    return job
            except (_BrokenError, EnvironmentIssue) as error:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > AGAIN_SECONDS:
                    raise EnvironmentIssue(
                        f"{self.address} has fallen silent ({_line(error)}); the job may go on: "
                        f"raydistill jobs {name} --address {self.address} --logs"
                    ) from None
            time.sleep(POLL_SECONDS)

    def _tail(self, name: str) -> Iterator[str]:
        """The log in pieces. Received in a thread: what a signal handler raises would get lost in an event loop."""
        came: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()

        async def receive() -> None:
            async for text in self._client.tail_job_logs(name):
                came.put(text)

        def work() -> None:
            try:
                asyncio.run(receive())
                came.put(None)
            except BaseException as error:
                came.put(error)

        threading.Thread(target=work, name="job-log", daemon=True).start()
        while isinstance(got := came.get(), str):
            yield got
        if got is not None:
            raise _BrokenError(_line(got))

    @contextmanager
    def _mendable(self, name: str | None = None) -> Iterator[None]:
        """Make one line of what the SDK raises; ``name`` is the job that is asked for."""
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            answer = "asks for its token" if "required" in error.message else "has another token"
            raise EnvironmentIssue(
                f"the cluster at {self.address} {answer}; set RAY_AUTH_TOKEN_PATH to the file that holds it, or RAY_AUTH_TOKEN"
            ) from None
        except (requests.exceptions.JSONDecodeError, KeyError):
            raise EnvironmentIssue(f"{self.address} answers, but is no Ray dashboard; {_WHERE}") from None
        except (requests.exceptions.RequestException, ConnectionError) as error:
            raise EnvironmentIssue(f"no Ray dashboard answers at {self.address}: {_line(error)}; {_WHERE}") from None
        except RuntimeError as error:
            if name is not None and "404" in str(error):
                known = [job.id for job in self.all()]
                raise UnknownNameError("job", name, known or ["none"]) from None
            way_out = _NO_AGENT if "No available agent" in str(error) else ""
            raise EnvironmentIssue(f"the cluster at {self.address} refused: {_last(error)}{way_out}") from None


class _BrokenError(Exception):
    """The connection that a log came through has ended before the log."""


_NO_AGENT = (
    " A head that has just started needs some seconds; if it stays so, another Ray on that machine has the port of its agent: "
    "start it with `ray start --head --dashboard-agent-listen-port=PORT`"
)
_WHERE = f"give --address as `ray start --head` printed it, its port is {DASHBOARD_PORT} as a rule"


def checked(address: str) -> str:
    """``address`` without a slash at its end.

    Raises:
        ConfigError: it is not http://HOST:PORT.
    """
    way_out = f"write the address of the head's dashboard, http://HOST:{DASHBOARD_PORT}"
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if parts.username is not None or parts.password is not None:
        raise ConfigError("address: it holds a name or password, which others could read; leave them out")
    if "://" not in address:
        known = host if host and address not in ("local", "auto", "in-process") else "HOST"
        raise ConfigError(f"address={address!r}: jobs go to a dashboard; write http://{known}:{DASHBOARD_PORT}")
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"address={address!r}: {way_out}")
    return address.rstrip("/")


def _reach(address: str) -> None:
    """Look whether somebody listens there: the SDK would wait for minutes."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise EnvironmentIssue(f"nobody answers at {address}: {_line(error)}; {_WHERE}") from None


def _token() -> str | None:
    """The token from where Ray itself would take it. Ray would leave it at home unless RAY_AUTH_MODE says ``token``."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return None
    if os.environ.get("RAY_AUTH_TOKEN"):
        return os.environ["RAY_AUTH_TOKEN"].strip()
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        if not named:
            return None
        raise ConfigError(f"RAY_AUTH_TOKEN_PATH={named!r}: cannot be read ({_line(error)})") from None
    if named and not token:
        raise ConfigError(f"RAY_AUTH_TOKEN_PATH={named!r}: the file is empty; it must hold the cluster's token")
    return token or None


def _job(details: Any) -> Job:
    code = details.driver_exit_code
    status = str(details.status.value)
    if status == "STOPPED":
        code = STOPPED
    elif status == "FAILED":
        code = code or 1  # what never started has none
    return Job(
        id=details.submission_id,
        status=status,
        command=details.entrypoint,
        started=details.start_time / 1000 if details.start_time else None,
        exit_code=code,
        message=_line(details.message or "") if details.driver_exit_code is None else "",
    )


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _last(error: object) -> str:
    """What is said in the end, where the cluster answers with a whole traceback."""
    text = str(error)
    return _line(text.rstrip(". \n").rsplit("\n", 1)[-1] if "Traceback" in text else text)


def _line(text: object) -> str:
    return " ".join(str(text).split())[:300] or type(text).__name__
