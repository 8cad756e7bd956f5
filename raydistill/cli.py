"""The command line: ``raydistill STAGE SEARCH``.

Exit codes: 0 done, 1 failed while running, 2 wrong input (one line on stderr), 130 interrupted (go on with --resume).
Heavy imports stay inside the commands, so ``--help`` and mistakes answer at once.
"""

import errno
import json
import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from raydistill import cli_data, cli_jobs, cli_run, storage
from raydistill.cli_options import (
    Address,
    AsJson,
    DataRoot,
    Given,
    Options,
    Out,
    Quiet,
    Resume,
    Seed,
    Set,
    Simulate,
    Stored,
    TrackingUri,
)
from raydistill.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    EnvironmentIssue,
    RaydistillError,
    without_credentials,
)
from raydistill.interrupts import Interrupted, interruptible

app = typer.Typer(
    name="raydistill",
    help="Turn a training set into a tiny synthetic one, and search for the settings that do it best.\n\n"
    "Begin with: raydistill run searches/quickstart.py (real digits, a few minutes, no network).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

# Typer brings its own copy of Click in some versions and uses the package in others; its exceptions lead to the right one.
UsageError: Any = typer.BadParameter.__base__
ClickException: Any = UsageError.__base__

WRONG_INPUT = (ConfigError, DataError, ArtifactError, EnvironmentIssue)

OF_THE_MACHINE = frozenset(
    {errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ELOOP}
)
"A path or a disk, where no closer look has named it; other errors of the system are bugs and keep their traceback."

GivenOrNone = Annotated[
    str | None,
    typer.Argument(metavar="SEARCH", help="searches/FILE.py, searches/FILE.py:NAME, or a run's search.json."),
]


def _stage_command(name: str, stages: tuple[str, ...], doc: str) -> None:
    def command(
        given: Given,
        settings: Set = None,
        seed: Seed = None,
        out: Out = Path("runs"),
        data_root: DataRoot = None,
        address: Address = None,
        resume: Resume = False,
        tracking_uri: TrackingUri = None,
        as_json: AsJson = False,
        quiet: Quiet = False,
    ) -> None:
        from raydistill import definitions

        found = definitions.load(given, settings or [], seed)
        cli_run.one(found, stages, Options(out, data_root, address, resume, tracking_uri, as_json, quiet))

    app.command(name, help=doc)(command)


app.command()(cli_run.run)
_stage_command("search", ("search",), "Only the search over settings; the best is chosen on the validation split.")
_stage_command(
    "distill",
    ("distill",),
    "Only the final set, with the best trial's settings (or the search's own, if it has no space).",
)


@app.command()
def nas(
    given: Given,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="K|all", help="As --set nas.confirm=K: so many are trained on all images."),
    ] = None,
    settings: Set = None,
    seed: Seed = None,
    out: Out = Path("runs"),
    data_root: DataRoot = None,
    address: Address = None,
    resume: Resume = False,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Only the ranking of networks on the distilled set of an earlier `distill`; the best are trained on all images.

    Example: raydistill nas searches/nas_mnist.py --data-root DIR --confirm 3 --resume
    """
    from raydistill import definitions

    more = [] if confirm is None else [f"nas.confirm={confirm}"]
    found = definitions.load(given, [*(settings or []), *more], seed)
    cli_run.one(found, ("nas",), Options(out, data_root, address, resume, tracking_uri, as_json, quiet))


@app.command()
def experts(
    given: GivenOrNone = None,
    show: Annotated[
        bool, typer.Option("--list", help="Show the cache: what each entry is, how large, how whole.")
    ] = False,
    prune: Annotated[
        list[str] | None, typer.Option("--prune", metavar="ENTRY", help="Remove this entry of the cache, or `all`.")
    ] = None,
    settings: Set = None,
    seed: Seed = None,
    out: Out = Path("runs"),
    data_root: DataRoot = None,
    address: Address = None,
    resume: Resume = False,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Only the expert trajectories that trajectory matching (PAD, DATM, MTT) needs; into a cache that searches share.

    Example: raydistill experts searches/pad_mnist.py --data-root DIR, then raydistill experts --list
    """
    if show or prune:
        if given is not None:
            raise ConfigError(f"--list and --prune are about the whole cache, not about {given}; leave it out")
        from raydistill import doctor

        doctor.show_experts(out, prune or [], as_json)
        return
    if given is None:
        raise ConfigError("name a search (searches/pad_mnist.py), or ask for --list or --prune")
    from raydistill import definitions

    found = definitions.load(given, settings or [], seed)
    cli_run.one(found, ("experts",), Options(out, data_root, address, resume, tracking_uri, as_json, quiet))


@app.command()
def plan(
    given: Given,
    settings: Set = None,
    out: Out = Path("runs"),
    data_root: DataRoot = None,
    address: Address = None,
    simulate: Simulate = None,
    as_json: AsJson = False,
) -> None:
    """What a search will cost before it starts: hours, memory and disk, from a few pieces of its work timed here.

    Example: raydistill plan searches/nas_mnist.py:study --data-root DIR --simulate 1,8,64,256,1000
    """
    from raydistill import budget, costs, definitions, results, simulation
    from raydistill.search.definition import Search
    from raydistill.track import Progress

    sizes = simulation.sizes(simulate) if simulate else []
    options = Options(out, data_root, address, False, None, as_json, False)
    load = definitions.load if sizes else definitions.load_any  # one search can be simulated at a time
    found = load(given, settings or [])
    with interruptible(), cli_run.runtime(address) as runtime, closing(Progress(quiet=as_json)) as progress:
        parts = {"": found} if isinstance(found, Search) else cli_run.ready(found, runtime, progress, options)
        for search in parts.values():
            results.fetch(out / search.name)
        settled, forecast = cli_run.forecasts(parts, runtime, progress, options)
        told = {name: forecast(name, search) for name, search in settled.items()}
        handing = simulation.handing(runtime) if sizes else 0.0
    if not isinstance(found, Search):
        stages = budget.stages(settled, told)
        if as_json:
            print(json.dumps({"parts": {n: c.to_json() for n, c in told.items()}, "seconds": sum(stages.values())}))
        else:
            costs.show_parts(told, stages)
        return
    simulated = [simulation.simulate(told[""].costs, found.budget.parallel, size, handing) for size in sizes]
    if as_json:
        rows = [one._asdict() for one in simulated]
        print(json.dumps(told[""].to_json() | ({"driver_seconds": handing, "simulated": rows} if rows else {})))
    else:
        costs.show(told[""])
        simulation.show(simulated, handing)


@app.command()
def settings(
    given: Given,
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="Only settings whose path begins so, such as distill.")
    ] = "",
    changes: Set = None,
    as_json: AsJson = False,
) -> None:
    """Every setting of a search that --set takes: value, type and range, default, meaning; and what is searched where.

    Example: raydistill settings searches/quickstart.py distill
    """
    from raydistill import definitions, settings

    found = settings.settings(definitions.load(given, changes or []), prefix)
    if as_json:
        print(json.dumps([one._asdict() for one in found]))
    else:
        settings.show(found)


app.command()(cli_jobs.submit)
app.command()(cli_jobs.jobs)


@app.command()
def evaluate(
    distilled_set: Stored,
    network: Annotated[
        str | None, typer.Option("--network", help="The students' architecture. [default: the one distilled with]")
    ] = None,
    students: Annotated[int, typer.Option("--students", min=1, help="Networks trained from scratch.")] = 5,
    protocol: Annotated[str, typer.Option("--protocol", help="seed, field or fast.")] = "field",
    precision: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option("--precision", help="What students are trained in; bfloat16 is faster where it is computed in."),
    ] = "float32",
    source: Annotated[
        str | None, typer.Option("--data", help="Data source to test on. [default: the set's own]")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Names the students' networks and draws.")] = 0,
    data_root: DataRoot = None,
    address: Address = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """What a distilled set is worth: students trained on it side by side, tested on the real test images."""
    from raydistill.appraise import Appraisal
    from raydistill.track import Progress

    appraisal = Appraisal(distilled_set, network, students, protocol, precision, source, seed, data_root)
    with interruptible(), cli_run.runtime(address) as runtime, closing(Progress(quiet)) as progress:
        found = appraisal.run(runtime, progress)
    print(json.dumps(found) if as_json else appraisal.sentence(found))


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(parser=storage.place, metavar="RUN…", help="Run folders or their URIs; several are compared."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", parser=storage.place, metavar="DIR|URI", help="Folder of the page. [default: RUN/report]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tables and pictures as one HTML page (and PNG, CSV, Markdown) from run folders alone."""
    from raydistill import results
    from raydistill.report.page import write_report

    for run in runs:
        results.fetch(run)
    page = write_report(runs, out or (runs[0] / "report" if len(runs) == 1 else Path("report")))
    print(json.dumps({"page": str(page), "runs": [storage.shown(run) for run in runs]}) if as_json else page)


@app.command()
def export(
    distilled_set: Stored,
    to: Annotated[Literal["png", "npz", "imagefolder"], typer.Option("--to", help="Format.")] = "png",
    out: Annotated[Path, typer.Option("--out", help="File (png, npz) or folder (imagefolder).")] = Path("distilled"),
    as_json: AsJson = False,
) -> None:
    """A distilled set as a picture, as NumPy arrays, or as one PNG an image."""
    from raydistill.report.export import export as write

    written = write(distilled_set, to, out)
    print(json.dumps({"path": str(written), "format": to}) if as_json else written)


app.command()(cli_data.data)


@app.command(name="doctor")
def check(
    address: Address = None,
    tracking_uri: TrackingUri = None,
    out: Out = Path("runs"),
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """What of this machine works and what does not: PyTorch, GPUs, Ray, MLflow, data, disk."""
    from raydistill import doctor

    if not doctor.examine(address, tracking_uri, out, data_root, as_json):
        raise typer.Exit(1)


def main() -> NoReturn:
    """The console script."""
    sys.exit(guarded(lambda: app(prog_name="raydistill", standalone_mode=False)))


def guarded(command: Callable[[], object]) -> int:
    """Run a command; what users can mend becomes one line on stderr and an exit code."""
    try:
        returned = command()
        sys.stdout.flush()
        return returned if isinstance(returned, int) else 0
    except ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            return 0
        place = error.ctx.command_path if isinstance(error, UsageError) and error.ctx else "raydistill"
        return _say(f"{place}: {' '.join(error.format_message().split())} (see {place} --help)", 2)
    except WRONG_INPUT as error:
        return _say(f"raydistill: {error}", 1 if error.begun else 2)
    except RaydistillError as error:
        return _say(f"raydistill: {error}", 1)
    except (Interrupted, KeyboardInterrupt, typer.Abort) as error:
        return _say(f"raydistill: {str(error) or 'interrupted; go on with --resume'}", 130)
    except (BrokenPipeError, SystemExit):
        # Whoever read our output has gone, which Typer answers with SystemExit; keep Python from complaining at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in OF_THE_MACHINE:
            raise
        place = f"{str(error.filename)[:200]}: " if error.filename else ""
        return _say(f"raydistill: {place}{error.strerror}; mend that, or choose another place for it", 2)


def _say(text: str, code: int) -> int:
    print(without_credentials(text), file=sys.stderr)
    return code
