"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

Given = Annotated[
    str, typer.Argument(metavar="SEARCH", help="searches/FILE.py, searches/FILE.py:NAME, or a run's search.json.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change one setting, e.g. distill.iterations=200; may be repeated."
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Replace the search's seed.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in the run folder; what is done stays done.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document on stdout.")]
Out = Annotated[Path, typer.Option("--out", help="Where run folders are made.")]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", help="Look for data here first (then $RAYDISTILL_DATA, then ~/.cache/raydistill)."),
]
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
