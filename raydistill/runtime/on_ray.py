"""Work on Ray: the cores of this machine, or a cluster.

A private cluster of this machine listens on the loopback address alone, admits only who knows its random token, ends
with this process and prints nothing. It starts in a thread, so that PyTorch and the data load meanwhile.
"""

import atexit
import fcntl
import importlib
import importlib.util
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from raydistill import storage
from raydistill.errors import ConfigError, EnvironmentIssue, FullDisk, RaydistillError
from raydistill.runtime import room
from raydistill.runtime.base import Result, Share, Told
from raydistill.runtime.pool import Pool

logger = logging.getLogger(__name__)

IMPORTING_WORKERS = 16
"Ray starts a worker for each core; where that is more, they import when they are called, not before."

REACH_SECONDS = 5.0
"For a cluster's head to answer."

JOIN_SECONDS = 60.0
"For the first machine with cores to join a cluster that has none."

KILL_AFTER_MS = 500
"From asking a worker to end to ending it: what is interrupted goes on from its checkpoint anyway."

SOCKET_ROOM = 25
"A longer temporary directory would make the paths of Ray's sockets longer than the system allows (107 characters)."


LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"The name notwithstanding, on Linux too this makes Ray bind 127.0.0.1; its default is every interface."

SAME_PYTHON = {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
"Under ``uv run`` Ray would pack the current folder and have each worker make an environment of its own from it."


class OnRay:
    """A Ray cluster: this machine's own, or one that runs already; made by ``connect``."""

    def __init__(
        self, address: str, environment: Mapping[str, str], imports: Sequence[str], dashboard: bool, cpus: int | None
    ) -> None:
        self.address = address
        self._failure: BaseException | None = None
        self._closed = False
        self._session: Path | None = None
        self.full = set[str]()
        "Ids of nodes whose own disks are full: nothing is sent there any more."
        self._pool = Pool(self.full)
        self._up, self._end = threading.Event(), threading.Event()
        self._undo = ExitStack()
        self._owned = "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
        if not self._owned:
            self._up.set()
            return
        # Ray gives its processes 30 s to start, too few on a machine that is busy and has not cached its files.
        attempts = 2 if address == "local" else 1
        if address == "local":
            settings = self._private(environment, imports, dashboard, cpus)
        else:
            settings = {"runtime_env": {"env_vars": dict(environment)} if environment else None}
        import ray  # noqa: F401 - before the thread, lest two threads import at once

        threading.Thread(target=self._start, args=(settings, attempts), name="ray-start", daemon=True).start()
        atexit.register(self.close)

    def ready(self) -> None:
        """Wait until the cluster is up.

        Raises:
            EnvironmentIssue: it did not start, or did not answer.
        """
        self._up.wait()
        if self._failure is not None:
            raise EnvironmentIssue(_why_not(self.address, self._failure)) from self._failure
        handler = signal.getsignal(signal.SIGTERM)
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(signal.SIGTERM, handler)  # Ray has put one before it that prints a stack

    def capacity(self, cpus: float, gpus: float, accelerator: str | None = None) -> int:
        """How many calls of these resources can run at once.

        Raises:
            ConfigError: not even one.
            EnvironmentIssue: only on machines whose disks are full.
        """
        self.ready()
        room.await_cores(JOIN_SECONDS)
        share = Share(cpus, gpus, accelerator)
        places = room.places(share, self.full)
        if places == 0:
            room.refuse(share, self.full)
        return places

    def map(
        self,
        function: Callable[..., Result],
        items: Sequence[Mapping[str, Any]],
        shared: Mapping[str, Any],
        cpus: float = 1,
        gpus: float = 0,
        accelerator: str | None = None,
        told: Told = lambda index, text: None,
    ) -> Iterator[tuple[int, Result]]:
        """As ``Runtime.map``; results come as they are done."""
        self.capacity(cpus, gpus, accelerator)
        yield from self._pool.run(function, items, shared, Share(cpus, gpus, accelerator), told)

    def require_shared(self, folder: Path) -> None:
        """As ``Runtime.require_shared``; a file is written there and every node looks for it."""
        import ray

        self.ready()
        alive = [node for node in room.alive() if node["NodeID"] not in self.full]
        if len(alive) < 2:
            return
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from raydistill.artifacts import write_text  # loads PyTorch, which is to come while Ray starts

        marker = folder / "shared.txt"  # a hidden name has no address in object storage
        write_text(marker, "Read by every node before work begins, to see that they share this folder.\n")
        look, seen = ray.remote(_problem), []
        for node in alive:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            asked = look.options(num_cpus=0, scheduling_strategy=there).remote(storage.address(marker))
            seen.append((node, asked))
        blind = {}
        for node, asked in seen:
            name, (problem, full) = node["NodeManagerAddress"], _answer(asked)
            if full:
                self.full.add(node["NodeID"])
                logger.warning("nothing is sent to node %s: %s", name, problem)
            elif problem:
                blind[name] = problem
        if blind and storage.mirrored(folder):
            raise EnvironmentIssue(f"node {', '.join(sorted(blind))}: {next(iter(blind.values()))}")
        if blind:
            raise EnvironmentIssue(
                f"{folder}: not seen by node {', '.join(sorted(blind))}; put --out on a disk that all nodes share, "
                "or in object storage: --out s3://BUCKET/PREFIX"
            )

    def release(self) -> None:
        """End the worker processes that wait for the next ``map``; others can have their cores."""
        self._pool.release()

    def close(self) -> None:
        """Disconnect; a private cluster ends, and one that is still starting will when it has."""
        if self._closed or not self._owned:
            return
        self._closed = True
        atexit.unregister(self.close)
        import ray

        if self._up.is_set():
            ray.shutdown()
            if self._session is not None:
                shutil.rmtree(self._session, ignore_errors=True)
        self._end.set()
        self._undo.close()

    def _private(
        self, environment: Mapping[str, str], imports: Sequence[str], dashboard: bool, cpus: int | None
    ) -> dict[str, Any]:
        """What ``ray.init`` is told; the rest goes into the environment, which Ray's processes inherit.

        Workers whose variables come from there, not from a runtime environment, are the ones that Ray starts in advance.
        """
        session = self._session = _session_folder(self._undo)
        changes: dict[str, str | None] = {
            "RAY_USAGE_STATS_ENABLED": "0",
            **LOOPBACK,
            **SAME_PYTHON,
            **environment,
        }
        if "RAY_AUTH_MODE" not in os.environ:  # then Ray asks for a token, and would keep one in the home folder
            changes |= {"RAY_AUTH_MODE": None, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        if sys.dont_write_bytecode and sys.pycache_prefix is None and not compiled():
            # Else each of a dozen processes compiles Ray and PyTorch anew, more than half of what importing them takes.
            prefix = str(session / "bytecode")
            changes |= {"PYTHONDONTWRITEBYTECODE": None, "PYTHONPYCACHEPREFIX": prefix}
            _set(self._undo, sys, "dont_write_bytecode", False)
            _set(self._undo, sys, "pycache_prefix", prefix)
        self._undo.callback(_change_environment, {name: os.environ.get(name) for name in changes})
        _change_environment(changes)
        from ray._private import ray_constants

        raylet = importlib.import_module("ray._raylet")  # its stub does not know the loader
        raylet.AuthenticationTokenLoader.instance().reset_cache()  # else the token of a cluster that this process had before
        # For who imported Ray before.
        _set(self._undo, ray_constants, "ENABLE_RAY_CLUSTER", False)
        _set(self._undo, ray_constants, "RAY_ENABLE_UV_RUN_RUNTIME_ENV", False)
        return {
            "address": "local",
            "num_cpus": cpus,
            "include_dashboard": dashboard,
            "_temp_dir": str(session),
            "_system_config": {
                "kill_worker_timeout_milliseconds": KILL_AFTER_MS,
                "preload_python_modules": list(imports) if (cpus or os.cpu_count() or 1) <= IMPORTING_WORKERS else [],
            },
        }

    def _start(self, settings: dict[str, Any], attempts: int) -> None:
        import ray

        try:
            if self.address != "local":
                settings["address"] = _reach(self.address)
            ray.init(logging_level=logging.ERROR, log_to_driver=False, **settings)
            if self._closed:
                ray.shutdown()
        except BaseException as error:  # handed to whoever waits
            if attempts > 1:
                again = (settings, attempts - 1)
                threading.Thread(target=self._start, args=again, name="ray-start", daemon=True).start()
                return
            self._failure = error
        self._up.set()
        self._end.wait()  # Ray's processes end with the thread that started them


def compiled() -> bool:
    """Whether what is installed has been compiled already."""
    torch = importlib.util.find_spec("torch")
    return torch is not None and torch.cached is not None and Path(torch.cached).is_file()


def connect(
    address: str | None = None,
    environment: Mapping[str, str] | None = None,
    imports: Sequence[str] = ("torch",),
    dashboard: bool = False,
    cpus: int | None = None,
) -> OnRay:
    """Begin to start or join a Ray cluster; returns at once, what needs the cluster waits for it.

    Ray that runs in this process already is used as it is.

    Args:
        address: ``local`` starts a private cluster of this machine; ``auto`` joins the one that runs here; HOST:PORT
            joins that one. ``None``: what ``RAY_ADDRESS`` says, else ``local``.
        environment: variables for the workers, such as ``GLIBC_TUNABLES``, which count only from a process's start.
        imports: modules that the work needs; the workers of a private cluster import them before they are called.
        dashboard: serve Ray's dashboard on the loopback address (private cluster only).
        cpus: of the private cluster; ``None``: all cores.

    Raises:
        ConfigError: an address of no known form.
    """
    given = address or os.environ.get("RAY_ADDRESS") or "local"
    if given == "auto":
        given = os.environ.get("RAY_ADDRESS") or "auto"
    host, _, port = given.rpartition(":")
    if given not in ("local", "auto") and ("/" in given or not host or not port.isdigit()):
        raise ConfigError(
            f"address={given!r}: must be local, auto or HOST:PORT; http://… addresses are for `raydistill submit`"
        )
    return OnRay(given, environment or {}, imports, dashboard, cpus)


def _problem(address: str) -> tuple[str, bool]:
    """Why a node does not see a file, empty where it does; and whether its disk is full."""
    path = storage.place(address)
    try:
        storage.fetch(path)
    except RaydistillError as error:
        return str(error), isinstance(error, FullDisk)
    return "" if path.exists() else f"{address} is not there", False


def _answer(asked: Any) -> tuple[str, bool]:
    import ray

    try:
        answer: tuple[str, bool] = ray.get(asked)
    except ray.exceptions.RayTaskError as error:  # such as a node without this package
        return f"it cannot answer: {error.cause or error}".splitlines()[0], False
    except ray.exceptions.RayError:
        return "", False  # the node has died since: nothing will be written from there
    return answer


def _session_folder(undo: ExitStack) -> Path:
    """A folder for what Ray writes; those are removed whose processes are gone and could not do it themselves."""
    place = _short_directory()
    for left in Path(place).glob("rd-*/alive"):
        with suppress(OSError), open(left, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent, ignore_errors=True)
    session = Path(tempfile.mkdtemp(prefix="rd-", dir=place))
    alive = os.open(session / "alive", os.O_CREAT | os.O_WRONLY)
    undo.callback(os.close, alive)
    fcntl.flock(alive, fcntl.LOCK_EX)
    return session


def _change_environment(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _set(undo: ExitStack, owner: Any, name: str, value: Any) -> None:
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def _reach(address: str) -> str:
    """HOST:PORT as Ray would connect to it, if something listens there: Ray itself would try for minutes."""
    from ray._private import services

    # Not Ray's own "auto", which would also find the private clusters of others.
    named = services.find_bootstrap_address(None) if address == "auto" else address
    if named is None:
        raise ConnectionError("none was started on this machine")
    found = str(services.canonicalize_bootstrap_address(named))
    host, port = found.rsplit(":", 1)
    socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    return found


def _short_directory() -> str:
    usual = tempfile.gettempdir()
    return usual if len(usual) <= SOCKET_ROOM else "/tmp"


def _why_not(address: str, failure: BaseException) -> str:
    reason = " ".join(str(failure).split())[:200] or type(failure).__name__
    if address == "local":
        return f"Ray did not start on this machine: {reason}; free memory and disk in {_short_directory()}, or run without Ray"
    return f"no Ray cluster answers at --address {address}: {reason}; start one with `ray start --head`, or use --address local"
