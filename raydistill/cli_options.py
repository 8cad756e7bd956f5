"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from raydistill import storage
from raydistill.errors import ConfigError


def local(context: typer.Context, option: typer.CallbackParam, folder: Path | None) -> Path | None:
    """The folder of an option, unless it is an address: a path of that name would be made, credentials and all.

    Raises:
        ConfigError: it is an address such as ``s3://BUCKET``.
    """
    if folder is not None and storage.ADDRESS.match(str(folder)):
        raise ConfigError(f"{option.opts[0]}: {str(folder).split(':')[0]}://… is an address; give a folder")
    return folder


Out = Annotated[
    Path,
    typer.Option(
        "--out",
        parser=storage.place,
        metavar="DIR|URI",
        help="Where run folders are made: a folder, or s3://BUCKET/PREFIX (gs://…, needs raydistill[s3] or [gcs]).",
    ),
]
Stored = Annotated[
    Path, typer.Argument(parser=storage.place, metavar="SET", help="A distilled set's folder, or a run's; or its URI.")
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        callback=local,
        help="Look for data here first (then $RAYDISTILL_DATA, then ~/.cache/raydistill).",
    ),
]
Given = Annotated[
    str, typer.Argument(metavar="SEARCH", help="searches/FILE.py, searches/FILE.py:NAME, or a run's search.json.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one setting, e.g. distill.iterations=200; may be repeated. `raydistill settings SEARCH` lists them.",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Replace the search's seed.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in the run folder; what is done stays done.")
]
Simulate = Annotated[
    str | None,
    typer.Option(
        "--simulate",
        metavar="N,N,…",
        help="How it would go on so many workers (GPUs, or shares of budget.gpus), by a simulated clock.",
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        "--budget",
        metavar="MINUTES",
        min=0.1,
        help="Lower iterations, students and epochs on all images of what is not begun until the forecast fits.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document on stdout.")]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="local: Ray on this machine, loopback only. auto or HOST:PORT: join a cluster. "
        "in-process: no Ray. [default: $RAY_ADDRESS, else local]",
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", help="MLflow server or database. [default: mlflow.db in the run folder]"),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress display.")]


class Options(NamedTuple):
    """What the commands that compute have in common; each is the option of its name."""

    out: Path
    data_root: Path | None
    address: str | None
    resume: bool
    tracking_uri: str | None
    as_json: bool
    quiet: bool
