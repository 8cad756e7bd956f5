"""``raydistill submit`` and ``raydistill jobs``: a search as a job of a Ray cluster, and what became of it."""

import json
import os
import shlex
import sys
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from raydistill import storage
from raydistill.cli_options import AsJson, Given, Minutes, Resume, Seed, Set
from raydistill.errors import ConfigError, without_credentials
from raydistill.interrupts import Interrupted, interruptible

if TYPE_CHECKING:
    from raydistill.runtime.jobs import Job, Jobs

ADDRESS = "RAY_API_SERVER_ADDRESS"
Head = Annotated[
    str | None,
    typer.Option("--address", help=f"The head's dashboard, http://HOST:8265. [default: ${ADDRESS}]"),
]
RemoteOut = Annotated[
    str,
    typer.Option(
        "--out",
        help="Where run folders are made: a folder of the cluster, relative to the home there, or s3://BUCKET/PREFIX.",
    ),
]
RemoteData = Annotated[
    str | None,
    typer.Option("--data-root", help="Look for data here first: a folder of the cluster, relative to the home there."),
]
RemoteTracking = Annotated[
    str | None,
    typer.Option("--tracking-uri", help="MLflow server as the cluster sees it. [default: mlflow.db in the run folder]"),
]


def submit(
    given: Given,
    address: Head = None,
    settings: Set = None,
    seed: Seed = None,
    out: RemoteOut = "runs",
    data_root: RemoteData = None,
    tracking_uri: RemoteTracking = None,
    resume: Resume = False,
    budget: Minutes = None,
    detach: Annotated[bool, typer.Option("--detach", help="Print the job's id and leave; do not wait.")] = False,
) -> None:
    """`raydistill run SEARCH` as a job of a Ray cluster; the log comes here, the exit code is the job's own.

    The current folder is sent along, without runs, data, .venv and .git; .rayignore and .gitignore are heeded.

    Example: raydistill submit searches/quickstart.py --address http://HEAD:8265
    """
    from raydistill import definitions

    head = _head(address)
    words = [_inside(given)]
    definitions.load_any(given, settings or [], seed)  # a mistake shows here, not on the cluster
    for setting in settings or []:
        words += ["--set", setting]
    words += ["--seed", str(seed)] if seed is not None else []
    words += ["--tracking-uri", _uri(tracking_uri)] if tracking_uri else []
    words += ["--resume"] if resume else []
    words += ["--budget", f"{budget:g}"] if budget is not None else []
    places = f" --out {_there(out)}" + (f" --data-root {_there(data_root)}" if data_root else "")
    with interruptible():
        jobs = _jobs(head)
        name = jobs.submit(f"python -m raydistill run {shlex.join(words)}{places}", Path.cwd())
        if detach:
            print(name)
            return
        print(f"job {name}", file=sys.stderr)
        _follow(jobs, name)


def jobs(
    name: Annotated[str | None, typer.Argument(metavar="ID", help="One job. [default: all]")] = None,
    address: Head = None,
    logs: Annotated[
        bool, typer.Option("--logs", help="Its log up to its end; the exit code is the job's own.")
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End it; `submit --resume` goes on.")] = False,
    as_json: AsJson = False,
) -> None:
    """The jobs of a cluster; the state of one, its log, or its end.

    Example: raydistill jobs ID --logs --address http://HEAD:8265
    """
    head = _head(address)
    if name is None and (logs or stop):
        raise ConfigError(f"{'--logs' if logs else '--stop'} is for one job; name it: raydistill jobs ID")
    if logs and (stop or as_json):
        raise ConfigError("--logs prints a log and waits for the job's end; give it alone")
    with interruptible():
        known = _jobs(head)
        if name is not None and logs:
            _follow(known, name)
        found = known.all() if name is None else [known.stop(name) if stop else known.one(name)]
    if as_json:
        shown = [job._asdict() for job in found]
        print(json.dumps(shown if name is None else shown[0]))
        return
    for job in found:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.started)) if job.started else "not started"
        print(f"{job.id}  {job.status:<9}  {started:<16}  {job.command}")
    if not found:
        print("no jobs yet", file=sys.stderr)


def _follow(known: "Jobs", name: str) -> NoReturn:
    """The job's log on stdout, then its exit code."""

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        job = known.follow(name, write)
    except Interrupted:
        again = f"raydistill jobs {name} --address {known.address}"
        raise Interrupted(f"the job goes on; {again} --logs shows it, --stop ends it") from None
    print(f"job {name} {_outcome(job)}", file=sys.stderr)
    raise typer.Exit(job.exit_code or 0)


def _outcome(job: "Job") -> str:
    if job.status == "STOPPED":
        return "was stopped; submit it again with --resume to go on"
    if job.status == "FAILED":
        return f"failed with exit code {job.exit_code}" + (f": {job.message}" if job.message else "")
    return "succeeded"


def _jobs(head: str) -> "Jobs":
    from raydistill.runtime.jobs import Jobs

    return Jobs(head)


def _head(address: str | None) -> str:
    from raydistill.runtime.jobs import checked

    given = address or os.environ.get(ADDRESS)
    if not given:
        raise ConfigError(f"which cluster? give --address http://HOST:8265, or set {ADDRESS}")
    return checked(given)


def _inside(given: str) -> str:
    """The search as the job sees it: relative to the folder that is sent.

    Raises:
        ConfigError: it is not sent.
    """
    from raydistill.definitions import parted
    from raydistill.runtime.jobs import LEFT_OUT

    name, variable = parted(given)
    path = Path(name)
    if not path.is_absolute():
        path = Path.cwd() / path
    path = Path(os.path.normpath(path))
    try:
        inside = path.relative_to(Path.cwd())
    except ValueError:
        raise ConfigError(
            f"{name}: only the current folder is sent to the cluster; start from a folder above it"
        ) from None
    if f"/{inside.parts[0]}" in LEFT_OUT:
        raise ConfigError(f"{name}: {inside.parts[0]} is not sent to the cluster; copy the file beside your searches")
    return f"{inside.as_posix()}:{variable}" if variable else inside.as_posix()


def _there(folder: str) -> str:
    """A folder of the cluster as its shell reads it. The job runs in a copy of ours that Ray removes, so not there.

    Raises:
        ConfigError: an address of no known form, or with credentials in it.
    """
    if storage.ADDRESS.match(folder):
        return shlex.quote(storage.address(storage.place(folder)))
    path = PurePosixPath(folder.removeprefix("~/"))
    return shlex.quote(str(path)) if path.is_absolute() else f'"$HOME"/{shlex.quote(str(path))}'


def _uri(uri: str) -> str:
    """A tracking address that everybody may read in the list of jobs.

    Raises:
        ConfigError: it holds a password.
    """
    from raydistill.track.to_mlflow import checked_uri

    if without_credentials(uri) != uri:
        raise ConfigError(
            f"tracking_uri={without_credentials(uri)!r}: whoever sees the job sees its password; leave it out and set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD where Ray is started"
        )
    checked_uri(uri)
    return uri
