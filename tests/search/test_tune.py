"""A whole search on Ray Tune: the same trials as in one process, whatever dies meanwhile."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raydistill.artifacts import COMPLETED, DIVERGED, FAILED, STOPPED
from raydistill.data.load import TrainData
from raydistill.distill.datadam import DataDAM
from raydistill.errors import ConfigError, EnvironmentIssue
from raydistill.evaluate.protocol import protocol
from raydistill.runtime.local import Local
from raydistill.runtime.on_ray import OnRay
from raydistill.search import local, tune
from raydistill.search.definition import Budget, Float, Search
from raydistill.search.ledger import Ledger
from raydistill.search.trials import SILENT, read_trials
from tests.search import fakes
from tests.search.fakes import FAKE, make_data, make_search
from tests.search.test_local import Heard, assert_nothing_finished_was_repeated, essence

pytestmark = [pytest.mark.timeout(600), pytest.mark.ray]


def test_ray_and_one_process_give_the_same_trials_in_silence(
    on_ray: OnRay, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard = Heard()
    tune.run_search(make_search(), tmp_path / "ray", make_data(), on_ray, heard, FAKE)
    assert capfd.readouterr() == ("", "")
    local.run_search(make_search(), tmp_path / "local", make_data(), Local(), engine=FAKE)
    assert essence(tmp_path / "ray") == essence(tmp_path / "local")
    assert [e[1] for e in heard.events if e[0] == "started"] == list(range(8))
    assert sorted(e[1] for e in heard.events if e[0] == "finished") == list(range(8))
    assert ("progress", 0, 4, {"loss", "val_accuracy", "seconds"}) in heard.events
    assert list((tmp_path / "ray" / "tune" / "0000").glob("events.out.tfevents.*"))
    assert len({line["pid"] for line in fakes.read_work(tmp_path / "ray")}) <= 2  # processes outlive their trials
    tune.run_search(make_search(), tmp_path / "ray", make_data(), on_ray, heard, FAKE)
    assert len(heard.events) == len([e for e in heard.events if e[0] == "progress"]) + 16


def test_a_trial_that_lasts_does_not_cost_the_others_their_processes(on_ray: OnRay, tmp_path: Path) -> None:
    """Trial 3 waits for trial 1, trial 2 ends long before: then both processes are idle at once, and both go on."""
    search = make_search(trials=5, stopping="none")
    tune.run_search(search, tmp_path, make_data(), on_ray, engine=fakes.LASTING)
    assert len({line["pid"] for line in fakes.read_work(tmp_path)}) <= 2


def test_real_distillations_give_the_same_bytes(on_ray: OnRay, tmp_path: Path, digits_data: TrainData) -> None:
    search = Search(
        name="real",
        distill=DataDAM.Config(method="DataDAM", network="ConvNetD1", iterations=4, ipc=1, batch_real=8),
        space={"distill.lr_img": Float(low=0.1, high=1.0)},
        budget=Budget(trials=3, grace=2, reduction=2, validation=protocol("fast", epochs=2)),
    )
    tune.run_search(search, tmp_path / "ray", digits_data, on_ray)
    local.run_search(search, tmp_path / "local", digits_data, Local())
    assert essence(tmp_path / "ray") == essence(tmp_path / "local")
    assert {r.status for r in read_trials(tmp_path / "ray")} <= {COMPLETED, STOPPED}
    for tensors in (tmp_path / "local").glob("units/trial/*/set/tensors.safetensors"):
        twin = tmp_path / "ray" / tensors.relative_to(tmp_path / "local")
        assert twin.read_bytes() == tensors.read_bytes()


def test_exceptions_divergence_and_dying_processes_do_not_end_the_search(on_ray: OnRay, tmp_path: Path) -> None:
    heard = Heard()
    search = make_search(trials=6, max_failures=1, stopping="none")
    tune.run_search(search, tmp_path, make_data(), on_ray, heard, fakes.TEMPERAMENTAL)
    records = read_trials(tmp_path)
    assert [r.status for r in records] == [COMPLETED, FAILED, DIVERGED, COMPLETED, FAILED, COMPLETED]
    assert [r.message for r in records if r.status != COMPLETED] == [
        "ValueError: no good",
        "loss inf at step 5",
        "its process died 2 times; out of memory?",
    ]
    visits = [line["number"] for line in fakes.read_work(tmp_path) if line["what"] == "visit"]
    assert [visits.count(number) for number in (3, 4)] == [2, 2]
    assert sorted(e[1:] for e in heard.events if e[0] == "finished") == [(r.number, r.status) for r in records]


DRIVER = """
import sys
from pathlib import Path
from raydistill.runtime.on_ray import connect
runtime = connect(sys.argv[1])
from raydistill.search import tune
from tests.search.fakes import FAKE, make_data, make_search
tune.run_search(make_search(), Path(sys.argv[2]), make_data(), runtime, engine=FAKE)
"""


def test_a_process_that_dies_before_it_says_anything_is_a_failed_trial(tmp_path: Path) -> None:
    search = make_search(trials=2)
    ledger = Ledger(search, tmp_path)
    searcher = tune.FromLedger(ledger, SILENT, set())
    assert searcher.suggest("a")["number"] == 0
    searcher.on_trial_complete("a", error=True)
    assert searcher.failure is None
    (record,) = read_trials(tmp_path)
    assert (record.status, record.params) == (FAILED, ledger.assign(0).params)
    assert "its process died" in record.message
    assert Ledger(search, tmp_path).remaining() == [1]


def test_a_killed_driver_loses_nothing(on_ray: OnRay, tmp_path: Path) -> None:
    import ray

    on_ray.ready()
    address = ray.get_runtime_context().gcs_address
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, address, str(tmp_path / "cut")],
        cwd=Path(__file__).parents[2],
        env={**os.environ, fakes.PAUSE: "0.1"},
    )
    deadline = time.monotonic() + 200
    while len(fakes.read_work(tmp_path / "cut")) < 45 and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    settled = {r.number: r for r in read_trials(tmp_path / "cut") if r.settled}
    assert len(settled) < 8
    tune.run_search(make_search(), tmp_path / "cut", make_data(), on_ray, engine=FAKE)
    local.run_search(make_search(), tmp_path / "whole", make_data(), Local(), engine=FAKE)
    assert essence(tmp_path / "cut") == essence(tmp_path / "whole")
    assert_nothing_finished_was_repeated(tmp_path / "cut")
    assert {n: r for n, r in settled.items() if read_trials(tmp_path / "cut")[n] != r} == {}


def test_what_no_machine_has_is_refused_before_anything_is_tried(on_ray: OnRay, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gpus=0\.5: no machine of this cluster has more than 0"):
        tune.run_search(make_search(gpus=0.5), tmp_path, make_data(), on_ray, engine=FAKE)
    assert not list(tmp_path.iterdir())


def test_nodes_that_do_not_share_the_run_folder_are_named(
    on_ray: OnRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    on_ray.ready()
    monkeypatch.setattr(ray, "nodes", lambda nodes=ray.nodes: nodes() * 2)
    on_ray.require_shared(tmp_path)
    monkeypatch.setattr("raydistill.artifacts.write_text", lambda path, text: None)
    with pytest.raises(
        EnvironmentIssue, match=r"not seen by node 127\.0\.0\.1; put --out on a disk that all nodes share"
    ):
        on_ray.require_shared(tmp_path / "elsewhere")
