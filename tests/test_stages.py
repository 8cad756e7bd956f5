"""Each stage alone, killed and run again, on the digits and in this process."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from raydistill import artifacts, definitions, results, stages
from raydistill.artifacts import Unit
from raydistill.data.distilled import DistilledSet
from raydistill.distill import unit
from raydistill.errors import ArtifactError, ConfigError, RaydistillError
from raydistill.evaluate_stage import EvaluateStage
from raydistill.runtime.local import Local
from raydistill.search.definition import Search
from raydistill.stages import Experiment
from tests.tiny import listing, write_search

ALL = ("search", "distill", "evaluate", "nas")


class Heard:
    """A display that adds up what it is told."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.done: Counter[str] = Counter()
        self.notes: list[str] = []
        self.trials: dict[int, str] = {}

    def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
        self.totals[name] = total
        self.done[name] += done

    def advance(self, stage: str, n: int = 1, text: str = "", share: float | None = None) -> None:
        assert stage in self.totals
        assert n >= 0
        self.done[stage] += n

    def trial(self, number: int, step: int, total: int, numbers: Mapping[str, float], status: str = "running") -> None:
        assert 0 <= step <= total
        self.trials[number] = status

    def note(self, text: str) -> None:
        self.notes.append(text)


class Died(BaseException):
    """A kill."""


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Search:
    return definitions.load(str(write_search(tmp_path_factory.mktemp("search"))))


@pytest.fixture(scope="module")
def whole(search: Search, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Heard]:
    """A run with all stages done."""
    run = tmp_path_factory.mktemp("runs") / "tiny"
    heard = Heard()
    experiment = opened(search, run, heard)
    for stage in ALL:
        getattr(experiment, f"run_{stage}")()
    results.update(run)
    return run, heard


@pytest.fixture
def run(whole: tuple[Path, Heard], tmp_path: Path) -> Path:
    """A copy of that run."""
    return Path(shutil.copytree(whole[0], tmp_path / "runs" / "tiny"))


def opened(search: Search, run: Path, heard: Heard | None = None, resume: bool = False) -> Experiment:
    results.open_run(search, run, resume)
    return Experiment(search, run, Local(), heard or Heard())


def changed(search: Search, **changes: Any) -> Search:
    return search.override({key.replace("__", "."): value for key, value in changes.items()})


def statuses(run: Path, kind: str) -> dict[str, str | None]:
    return {unit.name: unit.status for unit in artifacts.units(run, kind)}


def test_every_stage_leaves_its_units(whole: tuple[Path, Heard]) -> None:
    run, _ = whole
    assert set(statuses(run, "trial").values()) <= {"completed", "stopped"}
    assert len(statuses(run, "trial")) == 2
    assert statuses(run, "distill") == {"final": "completed"}
    arms = ["distilled-ConvNetD1", "random-ConvNetD1", "whole-ConvNetD1"]
    assert statuses(run, "evaluate") == dict.fromkeys(arms, "completed")
    assert statuses(run, "nas") == dict.fromkeys(["distilled-ConvNetD1-0", "distilled-ConvNetD2-0"], "completed")


def test_display_counts_add_up(whole: tuple[Path, Heard]) -> None:
    _, heard = whole
    # The set is the best trial's, so nothing is distilled and no bar moves.
    assert heard.totals["search"] == heard.done["search"] == 2
    assert heard.totals["evaluate"] == heard.done["evaluate"] == 5
    assert heard.totals["nas"] == heard.done["nas"] == 2
    assert heard.done.keys() <= heard.totals.keys()
    assert set(heard.trials) == {0, 1}


def test_display_counts_add_up_where_the_set_is_distilled(search: Search, tmp_path: Path) -> None:
    heard = Heard()
    opened(changed(search, space={}), tmp_path / "tiny", heard).run_distill()
    assert heard.totals["distill"] == heard.done["distill"] == 4


def test_the_share_of_an_evaluation_follows_its_work(search: Search, run: Path) -> None:
    class Listening(Heard):
        def advance(self, stage: str, n: int = 1, text: str = "", share: float | None = None) -> None:
            super().advance(stage, n, text, share)
            if stage == "evaluate" and share is not None:
                told.append((text.split(":")[0], share))

    told: list[tuple[str, float]] = []
    larger = search.override({"evaluate.networks": ["ConvNet-D1-W2", "ConvNet-D1-W64"], "evaluate.baselines": []})
    opened(larger, run, Listening(), resume=True).run_evaluate()
    first, last = told[0], told[-1]
    assert first[0] == "distilled on ConvNet-D1-W64", "the largest first, so that workers end together"
    assert first[1] > 0.9 / larger.evaluate.students
    assert [share for _, share in told] == sorted(share for _, share in told)
    assert last[1] == 1.0


def test_display_counts_add_up_after_a_resume(search: Search, run: Path) -> None:
    heard = Heard()
    experiment = opened(search, run, heard, resume=True)
    for stage in ALL:
        getattr(experiment, f"run_{stage}")()
    for stage in heard.totals:
        assert heard.done[stage] == heard.totals[stage]


def test_second_run_computes_nothing(search: Search, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **kwargs: Any) -> Iterator[Any]:
        raise AssertionError("work was done again")

    before = {name: data for name, data in listing(run / "units").items() if not name.endswith(".lock")}
    monkeypatch.setattr(Local, "map", lambda self, function, items, *rest, **more: never() if items else iter(()))
    experiment = opened(search, run, resume=True)
    for stage in ALL:
        getattr(experiment, f"run_{stage}")()
    assert {name: data for name, data in listing(run / "units").items() if not name.endswith(".lock")} == before


def test_best_trials_set_is_taken_as_it_is(whole: tuple[Path, Heard]) -> None:
    run, _ = whole
    best = results.update(run)["stages"]["search"]["best"]
    trial = run / "units" / "trial" / f"{best['trial']:04d}" / "set" / artifacts.TENSORS
    final = run / "units" / "distill" / "final"
    assert (final / "set" / artifacts.TENSORS).read_bytes() == trial.read_bytes()
    assert Unit(final).read()["taken_from"] == f"trial/{best['trial']:04d}"
    assert Unit(final).read()["params"]["distill.lr_img"] == pytest.approx(best["params"]["distill.lr_img"])


def test_set_is_told_what_it_is_worth(whole: tuple[Path, Heard]) -> None:
    run, _ = whole
    noted = DistilledSet.load(run / "units" / "distill" / "final" / "set").manifest["accuracies"]
    unit = Unit(run / "units" / "evaluate" / "distilled-ConvNetD1").read()
    assert noted["distilled-ConvNetD1"] == unit["metrics"]


def test_final_settings_are_distilled_anew(search: Search, run: Path) -> None:
    final = changed(search, final={"distill.iterations": 6})
    experiment = opened(final, run, resume=True)
    experiment.run_distill()
    record = Unit(run / "units" / "distill" / "final").read()
    assert record["step"] == 6
    assert "taken_from" not in record
    best = results.update(run)["stages"]["search"]["best"]["params"]
    assert record["params"]["distill.lr_img"] == pytest.approx(best["distill.lr_img"])


def test_what_an_earlier_set_was_worth_goes_with_it(search: Search, run: Path) -> None:
    earlier = (run / "units/distill/final/set/tensors.safetensors").read_bytes()
    experiment = opened(changed(search, final={"distill.iterations": 6}), run, resume=True)
    experiment.run_distill()
    (kept,) = (run / "replaced").iterdir()
    assert (kept / "tensors.safetensors").read_bytes() == earlier
    assert DistilledSet.load(kept).manifest["step"] == 4
    known = results.update(run)["stages"]
    assert {row["set"] for row in known["evaluate"]} == {"random", "whole"}
    assert "nas" not in known
    experiment.run_evaluate()
    assert {row["set"] for row in results.update(run)["stages"]["evaluate"]} == {"distilled", "random", "whole"}


def test_test_images_are_read_in_evaluate_alone(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raydistill.data.sources import Digits

    read = []
    real = Digits.test
    monkeypatch.setattr(Digits, "test", lambda self, root=None: read.append(1) or real(self, root))
    experiment = opened(search, tmp_path / "tiny")
    experiment.check(ALL)
    experiment.run_search()
    experiment.run_distill()
    experiment.run_nas()
    assert not read
    experiment.run_evaluate()
    assert len(read) == 1


def test_other_protocol_begins_evaluations_anew(search: Search, run: Path) -> None:
    other = changed(search, evaluate__protocol__epochs=1)
    opened(other, run, resume=True).run_evaluate()
    record = Unit(run / "units" / "evaluate" / "distilled-ConvNetD1").read()
    assert (record["status"], record["epochs"]) == ("completed", 1)
    assert len(record["runs"]) == 2


def test_coresets_of_another_size_are_rated_anew_and_the_whole_set_is_not(search: Search, run: Path) -> None:
    units = {arm: Unit(run / "units" / "evaluate" / f"{arm}-ConvNetD1") for arm in ("distilled", "random", "whole")}
    before = {arm: unit.read()["fingerprint"] for arm, unit in units.items()}
    experiment = opened(changed(search, final={"distill.ipc": 2}), run, resume=True)
    experiment.run_distill()
    experiment.run_evaluate()
    changes = [arm for arm, unit in units.items() if unit.read()["fingerprint"] != before[arm]]
    assert changes == ["distilled", "random"]


def test_more_students_keep_those_that_are_done(search: Search, run: Path) -> None:
    unit = Unit(run / "units" / "evaluate" / "distilled-ConvNetD1")
    before = unit.read()["runs"]
    opened(changed(search, evaluate__students=3), run, resume=True).run_evaluate()
    assert unit.read()["runs"][:2] == before
    assert unit.read()["students"] == len(unit.read()["runs"]) == 3


def test_killed_between_students(
    search: Search, whole: tuple[Path, Heard], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(run / "units" / "evaluate")
    log, count = Unit.log, Counter[str]()

    def dying(self: Unit, step: int, numbers: Mapping[str, float]) -> None:
        count["lines"] += 1
        if count["lines"] == 4:
            raise Died
        log(self, step, numbers)

    with monkeypatch.context() as patched:
        patched.setattr(Unit, "log", dying)
        with pytest.raises(Died):
            opened(search, run, resume=True).run_evaluate()
    opened(search, run, resume=True).run_evaluate()
    assert accuracies(run) == accuracies(whole[0])


def test_killed_between_the_last_student_and_the_conclusion(
    search: Search, whole: tuple[Path, Heard], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(run / "units" / "evaluate")
    with monkeypatch.context() as patched:
        patched.setattr(EvaluateStage, "_conclude", lambda *args: None)
        opened(search, run, resume=True).run_evaluate()
    assert "running" in statuses(run, "evaluate").values()
    opened(search, run, resume=True).run_evaluate()
    assert accuracies(run) == accuracies(whole[0])


def accuracies(run: Path) -> dict[str, list[float]]:
    return {unit.name: unit.read()["runs"] for unit in artifacts.units(run, "evaluate")}


def test_killed_within_nas(
    search: Search, whole: tuple[Path, Heard], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(run / "units" / "nas")
    finish, count = Unit.finish, Counter[str]()

    def dying(self: Unit, *args: Any, **details: Any) -> None:
        count["ended"] += 1
        if count["ended"] == 2:
            raise Died
        finish(self, *args, **details)

    with monkeypatch.context() as patched:
        patched.setattr(Unit, "finish", dying)
        with pytest.raises(Died):
            opened(search, run, resume=True).run_nas()
    assert Counter(statuses(run, "nas").values()) == {"completed": 1, "running": 1}
    opened(search, run, resume=True).run_nas()
    found, expected = (
        [(u.name, u.read()["metrics"]["accuracy"]) for u in artifacts.units(r, "nas")] for r in (run, whole[0])
    )
    assert found == expected


def test_killed_within_the_final_distillation(search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = changed(search, space={})
    opened(plain, tmp_path / "a" / "tiny").run_distill()

    def dying(*args: Any, **kwargs: Any) -> Any:
        real = kwargs["report"]

        def report(step: int, *rest: Any) -> bool:
            if step == 3:
                raise Died
            return bool(real(step, *rest))

        return distill(*args, **{**kwargs, "report": report})

    distill = unit.distill
    run = tmp_path / "b" / "tiny"
    with monkeypatch.context() as patched:
        patched.setattr(unit, "distill", dying)
        with pytest.raises(Died):
            opened(plain, run).run_distill()
    assert statuses(run, "distill") == {"final": "running"}
    assert "distill" not in results.update(run)["stages"]
    opened(plain, run, resume=True).run_distill()
    one, two = (tmp_path / x / "tiny" / "units" / "distill" / "final" for x in "ab")
    assert (one / "set" / artifacts.TENSORS).read_bytes() == (two / "set" / artifacts.TENSORS).read_bytes()
    assert [line["step"] for line in Unit(two).history()] == [1, 2, 3, 4]


def test_stages_say_what_they_lack(search: Search, tmp_path: Path) -> None:
    experiment = opened(search, tmp_path / "tiny")
    for stage, lack in (("distill", "no completed trial"), ("evaluate", "no distilled set"), ("nas", "no distilled")):
        with pytest.raises(ArtifactError, match=lack):
            getattr(experiment, f"run_{stage}")()
        with pytest.raises(ArtifactError, match=lack):
            experiment.check((stage,))


def test_search_without_a_space_has_nothing_to_do(search: Search, tmp_path: Path) -> None:
    experiment = opened(changed(search, space={}), tmp_path / "tiny")
    experiment.run_search()
    experiment.check(ALL)
    with pytest.raises(ConfigError, match="empty space"):
        experiment.check(("search",))


def test_search_without_nas_leaves_it_out(search: Search, run: Path) -> None:
    shutil.rmtree(run / "units" / "nas")
    opened(changed(search, nas=None), run, resume=True).run_nas()
    assert not (run / "units" / "nas").exists()
    assert "nas" not in results.update(run)["stages"]


def test_final_distillation_that_diverges(search: Search, tmp_path: Path) -> None:
    run = tmp_path / "tiny"
    with pytest.raises(RaydistillError, match=r"final distillation diverged: loss .* lower lr_img") as caught:
        opened(changed(search, space={}, distill__lr_img=1e30), run).run_distill()
    assert type(caught.value) is RaydistillError  # exit code 1: the input was well formed
    assert results.update(run)["stages"]["distill"]["outcome"] == "diverged"


def test_all_trials_diverge(search: Search, tmp_path: Path) -> None:
    space = {"distill.lr_img": {"kind": "float", "low": 1e29, "high": 1e30}}
    run, heard = tmp_path / "tiny", Heard()
    with pytest.raises(RaydistillError, match=r"no trial of .*2 diverged; .*lower lr_img") as caught:
        opened(changed(search, space=space), run, heard).run_search()
    assert type(caught.value) is RaydistillError
    assert results.update(run)["stages"]["search"]["diverged"] == 2
    assert [note.startswith(f"trial {i} diverged") for i, note in enumerate(heard.notes)] == [True, True]


def test_conditional_values_are_checked_under_their_condition(search: Search, tmp_path: Path) -> None:
    space = {
        "distill.init": {"kind": "choice", "values": ["real", "noise"]},
        "distill.ipc": {"kind": "int", "low": 1, "high": 500, "when": {"path": "distill.init", "values": ["noise"]}},
    }
    loose = changed(search, space=space, evaluate__baselines=["whole"])
    Experiment(loose, tmp_path / "tiny", Local(), Heard()).check(ALL)
    with pytest.raises(ConfigError, match=r"distill.ipc=500: the smallest class has \d+"):
        Experiment(changed(loose, evaluate__baselines=["random"]), tmp_path / "tiny", Local(), Heard()).check(ALL)
    assert not (tmp_path / "tiny").exists()


def test_seconds_of_a_stage_sum_over_its_starts(search: Search, run: Path) -> None:
    before = json.loads((run / "results.json").read_text())["stages"]["search"]["seconds"]
    assert before > 0
    opened(search, run, resume=True).run_search()
    assert results.update(run)["stages"]["search"]["seconds"] >= before


@pytest.mark.parametrize(
    ("has", "wanted", "notes"), [(False, "bfloat16", 1), (True, "bfloat16", 0), (False, "float32", 0)]
)
def test_a_processor_without_bfloat16_is_told_of_once(
    has: bool, wanted: str, notes: int, search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "has_bfloat16", lambda kind: has)
    heard = Heard()
    opened(changed(search, **{"distill.precision": wanted}), tmp_path / "run", heard).settle()
    assert len([text for text in heard.notes if "bfloat16, which distill.precision asks for" in text]) == notes
