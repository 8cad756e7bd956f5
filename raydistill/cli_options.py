"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

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
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", help="Look for data here first (then $RAYDISTILL_DATA, then ~/.cache/raydistill)."),
]
