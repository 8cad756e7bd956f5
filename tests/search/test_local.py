"""A whole search in this process, undisturbed and killed."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raydistill.artifacts import COMPLETED, DIVERGED, FAILED, STOPPED
from raydistill.config import Scalar
from raydistill.data import load, sources
from raydistill.data.load import DataConfig, load_train
from raydistill.distill.datadam import DataDAM
from raydistill.errors import ArtifactError, ConfigError, EnvironmentIssue
from raydistill.evaluate.protocol import protocol
from raydistill.runtime.local import Local
from raydistill.search.definition import Budget, Float, Search
from raydistill.search.local import run_search
from raydistill.search.objective import Engine
from raydistill.search.trials import TrialRecord, best_trial, read_trials
from tests.search import fakes
from tests.search.fakes import FAKE, make_data, make_search


class Heard:
    """Keeps what a listener is told."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def trial_started(self, number: int, params: Mapping[str, Scalar]) -> None:
        self.events.append(("started", number, dict(params)))

    def trial_progress(self, number: int, step: int, numbers: Mapping[str, float]) -> None:
        self.events.append(("progress", number, step, set(numbers)))

    def trial_finished(self, record: TrialRecord) -> None:
        self.events.append(("finished", record.number, record.status))

    def trial_again(self, number: int, why: str) -> None:
        self.events.append(("again", number, why))


def starving(config: Any, data: Any, *, directory: Path, **rest: Any) -> Any:
    """Trial 1 lacks memory."""
    if directory.name == "0001":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB.")
    return fakes.distill(config, data, directory=directory, **rest)


def test_a_trial_that_lacks_memory_fails_and_the_others_go_on(tmp_path: Path) -> None:
    run_search(make_search(trials=3), tmp_path, make_data(), Local(), engine=Engine(starving, fakes.rate))
    found = read_trials(tmp_path)
    assert [r.status == FAILED for r in found] == [False, True, False]
    assert found[1].message == "out of memory: CUDA out of memory. Tried 2 GiB."


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            EnvironmentIssue("cannot write x: No space left on device; free space"),
            "No space left on device; free space",
        ),
        (OSError(5, "Input/output error"), "Input/output error"),
        (ArtifactError("0003 is gone; train it again"), "0003 is gone; train it again"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_trial_whose_surroundings_fail_is_not_settled_and_goes_on_later(
    error: Exception, said: str, tmp_path: Path
) -> None:
    failed = []

    def distill(config: Any, data: Any, *, directory: Path, **rest: Any) -> Any:
        if directory.name == "0001" and not failed:
            failed.append(directory)
            raise error
        return fakes.distill(config, data, directory=directory, **rest)

    engine = Engine(distill, fakes.rate)
    with pytest.raises(EnvironmentIssue, match=f"^trial 1: .*{said}; then go on with --resume$"):
        run_search(make_search(trials=3), tmp_path / "run", make_data(), Local(), engine=engine)
    assert [(r.number, r.settled) for r in read_trials(tmp_path / "run")] == [(0, True), (1, False)]
    run_search(make_search(trials=3), tmp_path / "run", make_data(), Local(), engine=engine)
    run_search(make_search(trials=3), tmp_path / "whole", make_data(), Local(), engine=FAKE)
    assert essence(tmp_path / "run") == essence(tmp_path / "whole")


def essence(run: Path) -> list[tuple[Any, ...]]:
    """All of a search's trials but the clock."""
    return [(r.number, r.params, r.status, r.values, r.val_accuracy, r.iterations, r.message) for r in read_trials(run)]


def test_a_search_runs_all_trials_and_finds_good_settings(tmp_path: Path) -> None:
    heard = Heard()
    run_search(make_search(trials=12), tmp_path, make_data(), Local(), heard, FAKE)
    records = read_trials(tmp_path)
    assert [r.number for r in records] == list(range(12))
    assert {r.status for r in records} == {COMPLETED, STOPPED}
    best = best_trial(records)
    assert best is not None
    assert best.val_accuracy is not None
    assert best.val_accuracy >= max(r.val_accuracy or 0 for r in records)
    kinds = Counter(event[0] for event in heard.events)
    assert kinds["started"] == kinds["finished"] == 12
    assert ("progress", 0, 4, {"loss", "val_accuracy", "seconds"}) in heard.events
    assert heard.events[-1] == ("finished", 11, records[11].status)


def test_the_same_search_gives_the_same_trials_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run_search(make_search(), tmp_path / name, make_data(), Local(), engine=FAKE)
    assert essence(tmp_path / "a") == essence(tmp_path / "b")
    done = len(fakes.read_work(tmp_path / "a"))
    heard = Heard()
    run_search(make_search(), tmp_path / "a", make_data(), Local(), heard, FAKE)
    assert len(fakes.read_work(tmp_path / "a")) == done
    assert heard.events == []


def test_a_longer_budget_goes_on_where_the_shorter_ended(tmp_path: Path) -> None:
    run_search(make_search(trials=3), tmp_path / "a", make_data(), Local(), engine=FAKE)
    run_search(make_search(trials=6), tmp_path / "a", make_data(), Local(), engine=FAKE)
    run_search(make_search(trials=6), tmp_path / "b", make_data(), Local(), engine=FAKE)
    assert essence(tmp_path / "a") == essence(tmp_path / "b")


def test_exceptions_and_divergence_do_not_end_the_search(tmp_path: Path) -> None:
    def harmless(config: Any, data: Any, *, directory: Path, **rest: Any) -> Any:
        work = fakes.temperamental if int(directory.name) <= 2 else fakes.distill
        if int(directory.name) == 0:
            work = fakes.distill
        return work(config, data, directory=directory, **rest)

    run_search(make_search(), tmp_path, make_data(), Local(), engine=Engine(harmless, fakes.rate))
    assert [r.status for r in read_trials(tmp_path)][:3] == [COMPLETED, FAILED, DIVERGED]
    assert len(read_trials(tmp_path)) == 8


def test_an_interrupt_leaves_the_trial_running_and_the_search_goes_on_later(tmp_path: Path) -> None:
    def interrupted(config: Any, data: Any, *, directory: Path, report: Any, **rest: Any) -> Any:
        def until(step: int, numbers: Any, images: Any) -> bool:
            if directory.name == "0002" and step == 3:
                raise KeyboardInterrupt
            return bool(report(step, numbers, images))

        return fakes.distill(config, data, directory=directory, report=until, **rest)

    with pytest.raises(KeyboardInterrupt):
        run_search(make_search(), tmp_path / "a", make_data(), Local(), engine=Engine(interrupted, fakes.rate))
    assert [r.status for r in read_trials(tmp_path / "a")][2] == "running"
    run_search(make_search(), tmp_path / "a", make_data(), Local(), engine=FAKE)
    run_search(make_search(), tmp_path / "b", make_data(), Local(), engine=FAKE)
    assert essence(tmp_path / "a") == essence(tmp_path / "b")


# Imports once; then each line read is a run folder, in which a forked child runs the search.
SERVER = """
import os, sys
from pathlib import Path
from raydistill.runtime.local import Local
from raydistill.search.local import run_search
import raydistill.search.study
from tests.search.fakes import FAKE, make_data, make_search
print("up", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        run_search(make_search(), Path(line.strip()), make_data(), Local(), engine=FAKE)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def test_a_search_killed_at_any_moments_ends_as_if_undisturbed(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, fakes.PAUSE: "0.01"},
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == "up\n"

        def attempt(folder: Path, seconds: float | None) -> int:
            server.stdin.write(f"{folder}\n")  # type: ignore[union-attr]
            server.stdin.flush()  # type: ignore[union-attr]
            child = int(server.stdout.readline())  # type: ignore[union-attr]
            if seconds is not None:
                begun, deadline = len(fakes.read_work(folder)), time.monotonic() + 30
                while len(fakes.read_work(folder)) < begun + 3 and time.monotonic() < deadline:
                    time.sleep(0.005)
                time.sleep(seconds)
                with suppress(ProcessLookupError):  # it may have come to its end
                    os.kill(child, signal.SIGKILL)
            return int(server.stdout.readline())  # type: ignore[union-attr]

        assert attempt(whole, None) == 0
        rng = np.random.default_rng()
        for moment in rng.uniform(0, 0.4, 5):
            attempt(cut, float(moment))
        assert attempt(cut, None) == 0
    finally:
        server.kill()
        server.wait()
    assert essence(cut) == essence(whole)
    assert_nothing_finished_was_repeated(cut)


def assert_nothing_finished_was_repeated(run: Path) -> None:
    """Every step is done, and again only if no checkpoint had it: a trial goes on from its last multiple of three."""
    reached: dict[int, int] = {}
    for line in fakes.read_work(run):
        number, step = line["number"], line["step"]
        if line["what"] == "start":
            assert step >= (reached.get(number, 0) - 1) // 3 * 3, line
        elif line["what"] == "step":
            reached[number] = step
    assert reached == {r.number: r.iterations for r in read_trials(run)}


def test_a_search_never_reads_the_test_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: Any, **named: Any) -> Any:
        raise AssertionError("the test set was read")

    monkeypatch.setattr(load, "load_test", forbidden)
    monkeypatch.setattr(sources.Digits, "test", forbidden)
    with pytest.raises(AssertionError, match="test set"):
        sources.Digits().test(None)
    search = Search(
        name="blind",
        distill=DataDAM.Config(method="DataDAM", network="ConvNetD1", iterations=3, ipc=1, batch_real=8),
        space={"distill.lr_img": Float(low=0.1, high=1.0)},
        budget=Budget(trials=2, grace=1, reduction=2, validation=protocol("fast", epochs=2)),
    )
    run_search(search, tmp_path, load_train(DataConfig(source="digits")), Local())
    assert next((r.status, r.message) for r in read_trials(tmp_path)) == (COMPLETED, "")
    assert all(r.status in (COMPLETED, STOPPED) for r in read_trials(tmp_path))


def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"gpus=1: .*set it to 0"):
        run_search(make_search(gpus=1), tmp_path, make_data(), Local(), engine=FAKE)
