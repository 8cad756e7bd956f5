"""The stages of a search, each a step from the run folder to the run folder: experts → search → distill → evaluate → nas.

Each stage looks at what is done, does the rest, and records it in units; ``results.json`` is written after each. So any
stage can be killed and run again, alone or as part of ``run``.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

from raydistill import artifacts, expert_stage, nas_stage, registry, results, sharing, storage
from raydistill.artifacts import COMPLETED, DIVERGED, Unit
from raydistill.checks import check_fit
from raydistill.config import Scalar
from raydistill.data.distilled import OF_RUN, DistilledSet
from raydistill.data.load import TrainData, expect_test, load_train, named
from raydistill.display import Display, ToDisplay, noted, watched
from raydistill.distill.method import MethodConfig, work_done
from raydistill.distill.unit import ENDED, distil_item
from raydistill.errors import ArtifactError, ConfigError, EnvironmentIssue, RaydistillError
from raydistill.evaluate_stage import EvaluateStage
from raydistill.experts import store
from raydistill.precision import has_bfloat16
from raydistill.runtime.base import Runtime
from raydistill.search.definition import Search, Stage
from raydistill.search.ledger import Ledger
from raydistill.search.trials import best_trial, read_trials
from raydistill.seeding import derive

STAGES = get_args(Stage)
Result = TypeVar("Result")


class Experiment:
    """A search, its run folder, and where it computes.

    Args:
        search: the resolved search.
        run: its run folder, opened by ``results.open_run``.
        runtime: where work runs.
        display: told what happens.
        data_root: where real data are looked for first.
    """

    def __init__(
        self, search: Search, run: Path, runtime: Runtime, display: Display, data_root: Path | None = None
    ) -> None:
        self.search = search.model_copy(update={"data": named(search.data, data_root)})
        self.run = run
        self.runtime = runtime
        self.display = display
        self.data_root = data_root
        self._data: TrainData | None = None
        self._stages: Sequence[str] = ()

    @property
    def data(self) -> TrainData:
        """Training and validation images, read once."""
        if self._data is None:
            self._data = load_train(self.search.data, self.data_root)
        return self._data

    @property
    def set_path(self) -> Path:
        """Where the run's distilled set is."""
        return self.run / OF_RUN

    def check(self, stages: Sequence[str] = STAGES) -> None:
        """Find what would go wrong later, before anything is written: data, networks, sizes, resources, earlier stages.

        Raises:
            RaydistillError: the data are missing, settings do not fit them or the machine, or a stage has nothing to do.
        """
        self._stages = stages
        self._check_earlier(stages)
        check_fit(self.search, self.data.train, with_coresets="evaluate" in stages)
        if "evaluate" in stages or ("nas" in stages and self.search.nas is not None and self.search.nas.confirm):
            expect_test(self.search.data, self.data_root)
        self._check_resources(stages)

    def settle(self, stages: Sequence[str] = STAGES) -> None:
        """Find the GPUs of these stages' work where the search leaves that open; for the search that it is from now on.

        Raises:
            RaydistillError: no machine has what is asked for.
        """
        wanted = [stage for stage in STAGES if stage in stages]
        self.search = sharing.settled(self.search, self.data, self.runtime, wanted, self.display.note)
        if "nas" in stages:
            nas_stage.check_workers(self.search, self.runtime)
        self._check_precision()

    def _check_precision(self) -> None:
        wanted = [
            path for path, value in self.search.flat().items() if value == "bfloat16" and path.endswith("precision")
        ]
        if wanted and not any(self.search.budget.of(stage).gpus for stage in STAGES) and not has_bfloat16("cpu"):
            self.display.note(
                f"this processor has no bfloat16, which {wanted[0]} asks for: it is computed in float32, about twice as long"
            )

    def _check_earlier(self, stages: Sequence[str]) -> None:
        if "experts" in stages:
            if expert_stage.wanted(self.search) is None and tuple(stages) == ("experts",):
                raise ConfigError(f"{self.search.distill.method} matches no experts; run `raydistill run` instead")
        elif "distill" in stages or "search" in stages:
            lacking = expert_stage.missing(self.search, self.run, self.data)
            if lacking:
                raise ArtifactError(
                    f"{lacking} expert trajectories are missing or damaged; run `raydistill experts` first"
                )
        if "search" in stages and self.search.space:
            Ledger(self.search, self.run)
        elif tuple(stages) == ("search",):
            raise ConfigError(f"search {self.search.name!r} has an empty space; run `raydistill distill` instead")
        if "distill" not in stages:
            if "evaluate" in stages or "nas" in stages:
                self.distilled()
        elif "search" not in stages:
            self.chosen()
        if tuple(stages) == ("nas",) and self.search.nas is None:
            raise ConfigError(f"search {self.search.name!r} has nas=None; add a NASConfig, or --set nas={{}}")

    def _check_resources(self, stages: Sequence[str]) -> None:
        if "search" in stages and self.search.space:
            self._searcher()  # imports Tune while Ray still starts
        for share in dict.fromkeys(self.search.budget.of(stage) for stage in STAGES if stage in stages):
            self.runtime.capacity(*share)
        if "nas" in stages:
            nas_stage.check_workers(self.search, self.runtime)

    def _searcher(self) -> Callable[..., None]:
        from raydistill.runtime.local import Local

        if isinstance(self.runtime, Local):
            from raydistill.search.local import run_search
        else:
            from raydistill.search.tune import run_search  # type: ignore[assignment]
        return run_search

    def run_experts(self) -> None:
        """Train the experts that the cache lacks, with ``first_experts`` while the set is distilled; see ``PADConfig``."""
        if expert_stage.wanted(self.search) is None:
            return
        given = (self.search, self.run, self.data, self.runtime)
        with self._timed("experts"):
            beside = "distill" in self._stages and expert_stage.overlaps(*given, self.display)
            if beside and (unit := self._begin_distill()):
                work = self._distillation(unit)
                with self._watched(unit):
                    try:
                        ended = expert_stage.run_experts(*given, self.display, work)
                    except ArtifactError as error:  # damage that the distillation has met
                        self.display.note(f"{error}; experts and set go on one after the other")
                        ended = expert_stage.run_experts(*given, self.display)
                if ended is not None:
                    self._end_distill(unit, ended)
            else:
                expert_stage.run_experts(*given, self.display)

    def _mended(self, work: Callable[[], Result]) -> Result:
        """Do the work; if it ends because an expert was damaged meanwhile, train that again and let the work go on."""
        try:
            return work()
        except (ArtifactError, EnvironmentIssue) as error:
            if not expert_stage.missing(self.search, self.run, self.data):
                raise
            self.display.note(f"{error}; it is trained now")
            expert_stage.run_experts(self.search, self.run, self.data, self.runtime, self.display)
            return work()

    def run_search(self) -> None:
        """Try settings until the budget is spent; nothing to do for an empty space."""
        if not self.search.space:
            return
        with self._timed("search"):
            settled = [record for record in read_trials(self.run) if record.settled]
            self.display.stage("search", self.search.budget.trials, "trials", len(settled))
            listener = ToDisplay(self.search, self.display)
            for record in settled:
                listener.trial_found(record)
            run_search = self._searcher()
            self._mended(lambda: run_search(self.search, self.run, self.data, self.runtime, listener))
        if best_trial(read_trials(self.run)) is None:
            raise RaydistillError(f"no trial of {self.run} completed; {_how_trials_ended(self.run)}")

    def chosen(self) -> tuple[MethodConfig, int | None]:
        """The final distillation's settings (the best trial's by validation accuracy, then ``final``), and which trial's.

        Raises:
            ArtifactError: there is a space but no completed trial.
        """
        found: dict[str, Scalar] = {}
        number = None
        if self.search.space:
            best = best_trial(read_trials(self.run))
            if best is None:
                raise ArtifactError(f"{self.run} has no completed trial; run `raydistill search` first")
            found, number = dict(best.params), best.number
        return self.search.without_space().override({**found, **self.search.final}).distill, number

    def run_distill(self) -> None:
        """Make the set with the chosen settings; a trial that computed just that is taken as it is."""
        unit = self._begin_distill()
        if unit is None:
            return
        number = self.chosen()[1]
        trial = None if number is None else self.run / "units" / "trial" / f"{number:04d}"
        if trial is not None and not self.search.final and artifacts.folder_exists(trial / "set"):
            self._take(trial, unit)
            return
        with self._watched(unit):
            self.runtime.require_shared(self.run)
            share, told = self.search.budget.of("distill"), noted(self.display, lambda index: unit)
            work = [self._distillation(unit)]

            def distil() -> dict[str, Any]:
                ((_, ended),) = self.runtime.map(distil_item, work, {"data": self.data}, *share, told=told)
                return ended

            ended = self._mended(distil)
        self._end_distill(unit, ended)

    def _begin_distill(self) -> Unit | None:
        """The final distillation's unit, begun; ``None`` where it is done."""
        config, _ = self.chosen()
        unit = Unit(self.run / "units" / "distill" / "final")
        seed = derive(self.search.seed, "distill")
        fingerprint = artifacts.fingerprint_of(config.fingerprint(), self.search.data.fingerprint(), seed)
        known = unit.read()
        if known.get("fingerprint") == fingerprint and known.get("status") == COMPLETED:
            return None
        if known and known.get("fingerprint") != fingerprint:
            self._forget()
        self.display.stage("distill", config.iterations, "iterations")
        unit.begin(fingerprint, {f"distill.{k}": v for k, v in config.flat().items()}, results.tags(self.search))
        return unit

    def _watched(self, unit: Unit) -> AbstractContextManager[None]:
        config, _ = self.chosen()
        pace = registry.resolve("method", config.method).pace(config, self.data.train.num_classes)
        return watched(unit, "distill", self.display, lambda step: work_done(pace, step))

    def _distillation(self, unit: Unit) -> dict[str, Any]:
        """What ``distil_item`` is told."""
        return {
            "config": self.chosen()[0],
            "seed": derive(self.search.seed, "distill"),
            "directory": storage.address(unit.directory),
            "cache": storage.address(store.beside(self.run)),
        }

    def _end_distill(self, unit: Unit, ended: Mapping[str, Any]) -> None:
        storage.fetch(unit.directory)
        details = {name: ended[name] for name in ("step", "seconds", "message")}
        unit.finish(ended["status"], ended["metrics"], **details)
        storage.delete(unit.directory / ENDED)
        (unit.directory / ENDED).unlink(missing_ok=True)
        if ended["status"] == DIVERGED:
            raise RaydistillError(f"the final distillation diverged: {ended['message']}")
        if ended["message"]:
            self.display.note(f"the final distillation: {ended['message']}")

    def _forget(self) -> None:
        """Remove an earlier set and all that was measured on it; the set itself, which took longest, is kept apart."""
        earlier = Unit(self.run / "units" / "distill" / "final")
        if artifacts.folder_exists(earlier.directory / "set"):
            kept = self.run / "replaced" / artifacts.fingerprint_of(earlier.read().get("fingerprint", ""))
            artifacts.copy_folder(earlier.directory / "set", kept)
            self.display.note(
                f"the set is made anew, for settings have changed; the earlier one is kept in {storage.shown(kept)}"
            )
        for stale in ("distill/final", "*/distilled-*", "*/initial-*"):
            for directory in (self.run / "units").glob(stale):
                artifacts.remove(directory)

    def _take(self, trial: Path, unit: Unit) -> None:
        for name in ("initial", "set"):
            artifacts.copy_folder(trial / name, unit.directory / name)
        source = Unit(trial)
        artifacts.write_text(unit.history_file, source.history_file.read_text(encoding="utf-8"))
        record = source.read()
        self.display.advance("distill", record["step"], f"the set of trial {source.name}")
        unit.finish(
            COMPLETED,
            record["metrics"],
            step=record["step"],
            seconds=record["seconds"],
            message=record.get("message", ""),
            taken_from=f"trial/{source.name}",
        )

    def run_evaluate(self) -> None:
        """Train students on the set and on what stands beside it (``evaluate_stage``)."""
        given = (self.search, self.run, self.data, self.runtime, self.display, self.data_root)
        EvaluateStage(*given).do(self.set_path, self.distilled())

    def run_nas(self) -> None:
        """Rank networks by what they learn from the distilled set, and train the best on all images (``nas_stage``)."""
        if self.search.nas is not None:
            images, runtime = self.distilled(), self.runtime
            nas_stage.run_nas(self.search, self.run, self.data, images, runtime, self.display, self.data_root)

    def distilled(self) -> DistilledSet:
        """The run's result.

        Raises:
            ArtifactError: there is none yet.
        """
        if not artifacts.folder_exists(self.set_path):
            raise ArtifactError(f"{self.run} has no distilled set yet; run `raydistill distill` first")
        return DistilledSet.load(self.set_path)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            results.add_seconds(self.run, stage, time.monotonic() - started)


def _how_trials_ended(run: Path) -> str:
    records = read_trials(run)
    counts = {status: sum(r.status == status for r in records) for status in sorted({r.status for r in records})}
    told = ", ".join(f"{n} {status}" for status, n in counts.items())
    message = next((r.message for r in records if r.message), "")
    return f"{told}; {message or 'see units/trial/*/unit.json'}"
