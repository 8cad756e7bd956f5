"""What the commands do that compute: the stages of a search, or of several searches with one page."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill import storage
from raydistill.cli_options import (
    Address,
    AsJson,
    DataRoot,
    Given,
    Minutes,
    Options,
    Out,
    Quiet,
    Resume,
    Seed,
    Set,
    TrackingUri,
)
from raydistill.errors import ConfigError, DataError, RaydistillError
from raydistill.interrupts import Interrupted, interrupted, interruptible

if TYPE_CHECKING:
    from raydistill.costs import Forecast
    from raydistill.search.definition import Search
    from raydistill.search.reproduction import Reproduction
    from raydistill.stages import Experiment
    from raydistill.track import Delivery, Tracking

STAGES = ("experts", "search", "distill", "evaluate", "nas")
BUDGET = "budget.json"
"Beside a page: the share of their lengths that its parts have."


def run(
    given: Given,
    settings: Set = None,
    budget: Minutes = None,
    seed: Seed = None,
    out: Out = Path("runs"),
    data_root: DataRoot = None,
    address: Address = None,
    resume: Resume = False,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Every stage of a search, then the report: experts, search, distill, evaluate, nas.

    Example: raydistill run searches/datadam_mnist.py --data-root DIR --set distill.iterations=4000
    """
    from raydistill import definitions
    from raydistill.search.definition import Search

    options = Options(out, data_root, address, resume, tracking_uri, as_json, quiet)
    found = definitions.load_any(given, settings or [], seed)
    if not isinstance(found, Search):
        reproduce(found, options, budget, given, _again(options, settings or [], seed, budget))
        return
    whole = definitions.whole_of(given)
    one(found, STAGES, options, budget, None if whole is None else out / whole.name)
    if whole is not None:
        from raydistill import results
        from raydistill.report.seed_report import write_page

        for part in whole.parts.values():
            results.fetch(out / part.name)
        file, name = definitions.parted(given)
        # What is rated is left to the file, so that its commands fill every cell; but for how long networks are trained on
        # all images, since none of them would count at another length.
        words = [(setting, setting.partition("=")[0]) for setting in settings or []]
        kept = [s for s, key in words if not key.startswith(("evaluate.", "nas.")) or key.endswith("_epochs")]
        own = {name: shlex.join(word for setting in kept for word in ("--set", setting))}
        write_page(whole, out, file, _again(options, [], seed, budget), own)


def one(
    search: "Search",
    stages: tuple[str, ...],
    options: Options,
    budget: float | None = None,
    page: Path | None = None,
) -> None:
    """Run stages of one search and say what came of it; ``page``: the folder of the page that it is a part of."""
    from raydistill import artifacts, results
    from raydistill.track import Progress

    _arrive(options, search)
    if budget is not None:  # before minutes of timing
        results.check_fresh(options.out / search.name, options.resume)
    with interruptible(), runtime(options.address) as computes, closing(Progress(options.quiet)) as progress:
        if budget is not None:
            search = fitted({"": search}, budget, computes, progress, options, page, whole=False)[""]
        delivery, ui = _computed(search, stages, options, computes, progress)
    folder = options.out / search.name
    if options.as_json:
        print(json.dumps(artifacts.read_json(folder / results.RESULTS), indent=2))
        return
    _conclude(folder, delivery, ui)


def reproduce(found: "Reproduction", options: Options, budget: float | None, given: str, again: str = "") -> None:
    """Run every part whose data are there, one after another; the page is written after each.

    Args:
        found: the parts.
        options: of the command.
        budget: minutes for all of them.
        given: how their file was named.
        again: options of the commands that the page prints.

    Raises:
        DataError: no part's data are there.
        RaydistillError: parts that failed; the others are done nevertheless.
    """
    from raydistill import definitions, results
    from raydistill.report.seed_report import write_page
    from raydistill.search.reproduction import Reproduction
    from raydistill.track import Progress

    whole = definitions.load_any(given)  # as the file has it: the page says what was changed
    assert isinstance(whole, Reproduction)
    _arrive(options, *found.parts.values())
    for search in found.parts.values():
        results.check_fresh(options.out / search.name, options.resume)
    failed: dict[str, str] = {}
    with interruptible(), runtime(options.address) as computes, closing(Progress(options.quiet)) as progress:
        parts = ready(found, computes, progress, options)
        if budget is not None:
            parts = fitted(parts, budget, computes, progress, options, options.out / found.name, whole=True)
        for name, search in parts.items():
            with closing(Progress(options.quiet)) as own:
                own.note(f"{name}: part {1 + list(parts).index(name)} of {len(parts)}")
                try:
                    _computed(search, STAGES, options, computes, own)
                except RaydistillError as error:
                    failed[name] = str(error)
                    own.note(f"{name} failed: {error}")
            page = write_page(whole, options.out, given, again)
    if options.as_json:
        print(json.dumps({"name": found.name, "page": str(page), "done": [n for n in parts if n not in failed]}))
    else:
        print(f"Page  {page}")
    if failed:
        raise RaydistillError("; ".join(f"{name}: {message}" for name, message in failed.items()))


def ready(found: "Reproduction", computes: Any, progress: Any, options: Options) -> "dict[str, Search]":
    """Its parts whose data are there; what the others lack is told.

    Raises:
        DataError, ConfigError: no part can be run.
    """
    from raydistill.stages import Experiment

    parts = {}
    for name, search in found.parts.items():
        try:
            Experiment(search, options.out / search.name, computes, progress, options.data_root).check(STAGES)
            parts[name] = search
        except (DataError, ConfigError) as error:
            progress.note(f"{name} is left out: {error}")
            lacking = error
    if not parts:
        raise lacking
    return parts


def _again(options: Options, settings: Sequence[str], seed: int | None, budget: float | None) -> str:
    """The options without which a command would look somewhere else, or compute something else."""
    words = ["--data-root", str(options.data_root)] if options.data_root else []
    words += ["--out", storage.shown(options.out)] if options.out != Path("runs") else []
    words += ["--seed", str(seed)] if seed is not None else []
    for setting in settings:
        words += ["--set", setting]
    words += ["--budget", f"{budget:g}"] if budget is not None else []
    return shlex.join(words)


def fitted(
    searches: "Mapping[str, Search]",
    minutes: float,
    computes: Any,
    progress: Any,
    options: Options,
    page: Path | None,
    whole: bool,
) -> "dict[str, Search]":
    """The searches at the lengths that fit into the time; those begun earlier keep the lengths that they began with.

    Args:
        searches: name → search.
        minutes: of wall time, for all of them.
        computes: where they would run.
        progress: told the lengths.
        options: of the command.
        page: folder of the page that they share; what was found for all of its parts holds for later starts too.
        whole: whether these are all of its parts.
    """
    from raydistill import artifacts, results
    from raydistill.search.lengths import lengths, shortened, with_lengths

    known: dict[str, Any] = {}
    if page is not None and options.resume:
        storage.fetch(page / BUDGET)
        known = artifacts.read_json(page / BUDGET) if (page / BUDGET).exists() else {}
    begun = {n: s for n, s in searches.items() if options.resume and results.begun(options.out / s.name)}
    fresh = {name: search for name, search in searches.items() if name not in begun}
    share = known.get("share") if known.get("minutes") == minutes else None
    if share is None:
        share = _share(fresh, minutes, computes, progress, options) if fresh else 1.0
        if page is not None and whole:
            artifacts.write_json(page / BUDGET, {"minutes": minutes, "share": share})
    found = {}
    for name, search in searches.items():
        full, own = lengths(search), lengths(shortened(search, share))
        if name in begun:
            stored = lengths(results.stored(options.out / search.name))
            own = {path: stored.get(path, n) for path, n in own.items()}
        told = ", ".join(f"{path} {own[path]} of {full[path]}" for path in full)
        why = "as it began" if name in begun else f"within {minutes:g} minutes"
        progress.note(f"{search.name}, {why}: {told}")
        found[name] = with_lengths(search, own)
    return found


def _share(searches: "Mapping[str, Search]", minutes: float, computes: Any, progress: Any, options: Options) -> float:
    """The share of these searches' lengths that fits into the time."""
    from raydistill import budget

    settled, forecast = forecasts(searches, computes, progress, options)
    return budget.share_within(minutes, settled, forecast)


def forecasts(
    searches: "Mapping[str, Search]", computes: Any, progress: Any, options: Options
) -> "tuple[dict[str, Search], Callable[[str, Search], Forecast]]":
    """The searches as they will be run, and what each would cost, also at other lengths; what is alike is timed once."""
    from raydistill import expert_stage, plan
    from raydistill.stages import Experiment

    known: plan.Known = {}
    experiments: dict[str, Experiment] = {}
    untrained: dict[str, int] = {}
    for name, search in searches.items():
        experiment = Experiment(search, options.out / search.name, computes, progress, options.data_root)
        experiment.check(STAGES)
        experiment.settle()
        experiments[name] = experiment
        untrained[name] = expert_stage.missing(experiment.search, experiment.run, experiment.data)

    def forecast(name: str, search: "Search") -> "Forecast":
        if search == experiments[name].search:
            progress.note(f"timing pieces of {search.name}")
        return plan.forecast(search, experiments[name].data, computes, options.data_root, known, untrained[name])

    return {name: one.search for name, one in experiments.items()}, forecast


def _arrive(options: Options, *searches: "Search") -> None:
    """Find out before anything is computed whether it can be stored and tracked, and bring here what is stored already."""
    from raydistill import results
    from raydistill.track.to_mlflow import checked_uri

    if options.tracking_uri:
        checked_uri(options.tracking_uri)
    storage.check(options.out)
    for search in searches:
        results.fetch(options.out / search.name)


def _computed(
    search: "Search", stages: tuple[str, ...], options: Options, computes: Any, progress: Any
) -> "tuple[Delivery, str]":
    """Run stages of a search in its run folder; what tracking has delivered, and how to look at it."""
    from raydistill import results
    from raydistill.stages import Experiment

    folder = options.out / search.name
    earlier = stages not in (STAGES, ("search",)) and os.path.exists(folder / results.SEARCH)
    experiment = Experiment(search, folder, computes, progress, options.data_root)
    search = experiment.search
    if stages != STAGES:
        results.check_same(search, folder, *stages)
    experiment.check(stages)
    experiment.settle(stages)
    with results.only_one(folder):
        known = results.open_run(search, folder, options.resume or earlier, experiment.data.digest())
        return _tracked(experiment, stages, options, computes, progress, known)


def _tracked(
    experiment: "Experiment", stages: tuple[str, ...], options: Options, computes: Any, progress: Any, known: Any
) -> "tuple[Delivery, str]":
    """Run the stages with a tracker that hears of them."""
    from raydistill import results
    from raydistill.track import Tracking, ui_command

    search, folder = experiment.search, experiment.run
    tracking = Tracking(
        folder,
        run_key=known["run_id"],
        experiment=search.name,
        tracking_uri=options.tracking_uri,
        params=search.flat(),
        tags=results.tags(search) | {"git_commit": known["git_commit"], "machine": known["machine"]},
        data=experiment.data,
        data_root=options.data_root,
    )
    try:
        with metered(computes, progress, search.name) as experiment.display:
            _perform(experiment, stages, tracking, progress)
    except RaydistillError as error:
        error.begun = True
        raise
    except Interrupted:
        words = ["raydistill", *sys.argv[1:], *(() if options.resume else ("--resume",))]
        raise Interrupted(f"interrupted; go on with: {shlex.join(words)}") from None
    return tracking.close(0.0), ui_command(tracking.tracking_uri)


def _perform(experiment: "Experiment", stages: tuple[str, ...], tracking: "Tracking", progress: Any) -> None:
    """Run the stages; whatever happens, the results file and the tracker learn what was done."""
    from raydistill import results
    from raydistill.report.page import write_report

    tracking.start()
    status, folder = "FAILED", experiment.run
    try:
        for stage in stages:
            getattr(experiment, f"run_{stage}")()
            results.update(folder)
        progress.note("writing the report")
        write_report([folder], folder / "report")
        results.update(folder, report="report/index.html")
        status = "FINISHED"
    except BaseException as error:
        if not interrupted(error):
            raise
        status = "KILLED"
        raise Interrupted("interrupted") from error
    finally:
        delivery = tracking.close(timeout=60.0 if status == "FINISHED" else 15.0, status=status)
        if (folder / "mlflow.db").exists():
            storage.send(folder / "mlflow.db")
        mlflow = {"tracking_uri": delivery.tracking_uri, "experiment": delivery.experiment, "run_id": delivery.run_id}
        results.update(folder, mlflow=mlflow)


def _conclude(folder: Path, delivery: "Delivery", ui: str) -> None:
    from rich.console import Console

    from raydistill.report.tables import print_accuracy

    print_accuracy(folder, Console())
    print(f"Report  {folder / 'report' / 'index.html'}")
    if storage.mirrored(folder):
        print(f"Stored  {storage.shown(folder)}")
    if not delivery.delivered:
        print(f"MLflow  {delivery.message}")
    print(f"MLflow  {ui}")


@contextmanager
def runtime(address: str | None) -> Iterator[Any]:
    """Where work runs, see ``--address``; closed at the end."""
    from raydistill.runtime.base import worker_environment

    if address == "in-process":
        from raydistill.runtime.local import Local

        yield Local()
        return
    from raydistill.runtime.on_ray import connect

    # Ray says on stdout which node died, and that is for results.
    with redirect_stdout(sys.stderr), closing(connect(address, environment=worker_environment())) as computes:
        yield computes


@contextmanager
def metered(computes: Any, progress: Any, search: str) -> Iterator[Any]:
    """The display, on Ray with the cluster's metrics beside it."""
    from raydistill.runtime.local import Local

    if isinstance(computes, Local):
        yield progress
        return
    from raydistill.display import Several
    from raydistill.runtime.gauges import Gauges

    with closing(Gauges(search)) as gauges:
        yield Several(progress, gauges)
