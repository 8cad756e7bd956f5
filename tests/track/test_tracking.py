"""Tracking against an embedded MLflow store: one run a unit, each step once, whatever was killed when."""

import math
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from raydistill.artifacts import COMPLETED, DIVERGED, FAILED, STOPPED, Unit, read_json, write_json, write_text
from raydistill.data.distilled import DistilledSet
from raydistill.data.images import ImageSet, Normaliser
from raydistill.data.load import DataConfig, TrainData
from raydistill.errors import ConfigError
from raydistill.track import Tracking
from raydistill.track.to_mlflow import LateError, Store, embedded_uri
from tests.track.conftest import Seen, begin, log, trial

Make = Callable[..., Tracking]
Look = Callable[[], Seen]


def test_parent_and_children(run: Path, tracking: Make, seen: Look) -> None:
    trial(run, 1, 10)
    trial(run, 2, 20)
    delivery = tracking().close()
    assert (delivery.delivered, delivery.pending) == (True, 0), delivery.message
    look = seen()
    assert delivery.run_id == look.parent.info.run_id
    assert look.parent.info.run_name == "quick"
    assert look.parent.data.params == {"distill.lr_img": "0.1", "seed": "3"}
    assert look.parent.data.tags["method"] == "DataDAM"
    assert look.parent.data.metrics["best_val_accuracy"] == 0.2
    child = look.child("trial/0002")
    assert child.data.params == {"distill.lr_img": "0.2", "seed": "3"}
    assert child.data.tags["raydistill.kind"] == "trial"
    assert look.steps("trial/0002") == list(range(1, 21))
    assert look.steps("trial/0002", "val_accuracy") == [5, 10, 15, 20]
    assert look.values("trial/0001", "loss") == {s: 1 / (1 + s) for s in range(1, 11)}
    assert "final_val_accuracy" not in child.data.metrics
    assert child.info.artifact_uri.startswith(str(run / "mlartifacts"))
    assert read_json(run / "tracking.json")["run_id"] == delivery.run_id


def test_children_have_the_whole_config_and_where_they_come_from(run: Path, tracking: Make, seen: Look) -> None:
    """The search's settings under their dotted names, with the trial's or the chosen ones in their place; its tags."""
    trial(run, 1)
    final = Unit(run / "units" / "distill" / "final")
    final.begin("p", {"distill.lr_img": 0.5}, {})
    final.finish(COMPLETED, {})
    for kind in ("evaluate", "nas"):
        unit = Unit(run / "units" / kind / "one")
        unit.begin("p", {"network": "ConvNetD3", "name": "fast", "epochs": 2}, {"machine": "of the node"})
        unit.finish(COMPLETED, {})
    origin = {"git_commit": "0b50", "machine": "2 cores", "seed": "3"}
    params = {"name": "quick", "seed": 3, "distill.lr_img": 0.1, "distill.ipc": 10}
    assert tracking(params=params, tags=origin).close().delivered
    whole = {"name": "quick", "seed": "3", "distill.ipc": "10"}
    assert seen().child("trial/0001").data.params == {**whole, "distill.lr_img": "0.1"}
    assert seen().child("distill/final").data.params == {**whole, "distill.lr_img": "0.5"}
    own = {"unit.network": "ConvNetD3", "unit.name": "fast", "unit.epochs": "2"}
    for child in map(seen().child, ("evaluate/one", "nas/one")):
        assert child.data.params == {**whole, "distill.lr_img": "0.5", **own}
        assert {name: child.data.tags[name] for name in origin} == {**origin, "machine": "of the node"}


@pytest.mark.parametrize("where", ["there", "gone"])
def test_the_real_data_are_the_input(
    run: Path, tracking: Make, seen: Look, tiny_images: ImageSet, tmp_path: Path, where: str
) -> None:
    path = tmp_path / "mine"
    if where == "there":
        for part in ("train/a", "train/b", "test/a", "test/b"):
            (path / part).mkdir(parents=True)
            Image.new("L", (8, 8)).save(path / part / "0.png")
    train, val = tiny_images.subset(np.arange(40)), tiny_images.subset(np.arange(40, 60))
    data = TrainData(train, val, Normaliser(mean=(0.5,), std=(0.5,)), DataConfig(source="folder", path=path))
    for _ in range(2):
        delivery = tracking(data=data).close()
        assert delivery.delivered, delivery.message
    noted = {one.tags[0].value: one.dataset for one in seen().inputs()}
    assert {context: one.digest for context, one in noted.items()} == {
        "training": train.digest()[:16],
        "validation": val.digest()[:16],
    }
    assert train.digest() != val.digest()
    assert {one.name for one in noted.values()} == {"folder"}
    assert len(seen().inputs()) == 2, "a later start adds nothing"
    assert "[-1, 1, 8, 8]" in str(noted["training"].schema)
    assert (str(path) in noted["training"].source) == (where == "there")


def test_statuses(run: Path, tracking: Make, seen: Look) -> None:
    trial(run, 1, status=COMPLETED)
    trial(run, 2, status=STOPPED)
    trial(run, 3, status=DIVERGED, message="loss is nan at step 10")
    trial(run, 4, status=FAILED)
    log(begin(run, 5), range(1, 4))
    tracking().close(status="KILLED")
    look = seen()
    assert look.statuses() == {
        "": "KILLED",
        "trial/0001": "FINISHED",
        "trial/0002": "FINISHED",
        "trial/0003": "FAILED",
        "trial/0004": "FAILED",
        "trial/0005": "KILLED",
    }
    tags = look.child("trial/0003").data.tags
    assert (tags["raydistill.status"], tags["raydistill.step"]) == ("diverged", "10")
    assert tags["raydistill.message"] == "loss is nan at step 10"
    assert look.child("trial/0002").data.tags["raydistill.status"] == "stopped"


def test_resumed_unit_runs_again_and_ends(run: Path, tracking: Make, seen: Look) -> None:
    unit = begin(run, 1)
    log(unit, range(1, 8))
    tracking().close(status="KILLED")
    assert seen().statuses() == {"": "KILLED", "trial/0001": "KILLED"}

    unit.rewind(5)  # the checkpoint is older than what was delivered
    unit.begin("print-1", {"distill.lr_img": 0.1}, {})
    again = tracking()
    again.sync()
    assert seen().statuses() == {"": "RUNNING", "trial/0001": "RUNNING"}
    log(unit, range(6, 13))
    unit.finish(COMPLETED, {"val_accuracy": 0.1}, step=12)
    assert again.close().delivered
    look = seen()
    assert look.statuses() == {"": "FINISHED", "trial/0001": "FINISHED"}
    assert look.steps("trial/0001") == list(range(1, 13))
    assert look.steps("trial/0001", "val_accuracy") == [5, 10]


@pytest.mark.parametrize("sidecar", ["kept", "deleted"])
def test_every_kill_leaves_one_run_and_unbroken_steps(
    run: Path, tracking: Make, seen: Look, monkeypatch: pytest.MonkeyPatch, sidecar: str
) -> None:
    """The store dies after 1, 2, 3, … calls, each time for good; the next start goes on from there."""
    first, second = begin(run, 1), begin(run, 2)
    calls, allowed = [0], [0]
    client: Callable[[Store], MlflowClient] = Store._client.fget  # type: ignore[attr-defined]

    def mortal(self: Store) -> MlflowClient:
        calls[0] += 1
        if calls[0] > allowed[0]:
            raise LateError("killed")
        return client(self)

    monkeypatch.setattr(Store, "_client", property(mortal))
    step = 0
    while True:
        log(first, range(step + 1, step + 4))
        log(second, range(step + 1, step + 3))
        step += 3
        second.rewind(step - 1)
        calls[0], allowed[0] = 0, allowed[0] + 1
        if allowed[0] > 12:
            break
        tracking().sync()
        if sidecar == "deleted":
            (run / "tracking.json").unlink(missing_ok=True)
    first.finish(COMPLETED, {"val_accuracy": 0.5, "extra": 1.0}, step=step)
    second.finish(STOPPED, {}, step=step)
    for limit in (*range(4, 20), 1000):
        calls[0], allowed[0] = 0, limit
        tracking().sync()
    assert tracking().close().delivered
    look = seen()
    assert look.statuses() == {"": "FINISHED", "trial/0001": "FINISHED", "trial/0002": "FINISHED"}
    assert look.steps("trial/0001") == list(range(1, step + 1))
    assert look.steps("trial/0001", "extra") == [step]
    kept = [line["step"] for line in second.history() if "loss" in line]
    assert look.steps("trial/0002") == kept


def test_answers_that_are_lost(run: Path, tracking: Make, seen: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked of MLflow happens, but every answer is lost and the process dies: nothing is done twice."""
    trial(run, 1)
    passes = 0
    with monkeypatch.context() as patch:
        for name in ("create_experiment", "create_run", "log_batch", "update_run", "set_terminated"):
            patch.setattr(MlflowClient, name, losing_answers(getattr(MlflowClient, name)))
        while not tracking().sync().delivered:
            passes += 1
            assert passes < 30
    assert passes >= 6
    assert tracking().close().delivered
    look = seen()
    assert look.statuses() == {"": "FINISHED", "trial/0001": "FINISHED"}
    assert look.steps("trial/0001") == list(range(1, 11))


def losing_answers(method: Callable[..., object]) -> Callable[..., None]:
    def call(*args: object, **kwargs: object) -> None:
        method(*args, **kwargs)
        raise ConnectionError("the answer was lost")

    return call


def test_a_run_made_twice_by_a_late_server_is_removed(run: Path, tracking: Make, seen: Look) -> None:
    trial(run, 1)
    tracking().sync()
    look = seen()
    for original in (look.parent, look.child("trial/0001")):
        tags = {k: v for k, v in original.data.tags.items() if k.startswith("raydistill.") or k == "mlflow.parentRunId"}
        look.client.create_run(original.info.experiment_id, tags=tags)
    assert tracking().close().delivered
    assert seen().child("trial/0001").info.run_id == look.child("trial/0001").info.run_id
    assert seen().parent.info.run_id == look.parent.info.run_id
    assert len(seen().runs) == 2


def test_units_whose_folder_is_gone_do_not_stay_running(run: Path, tracking: Make, seen: Look) -> None:
    unit = begin(run, 1)
    tracking().sync()
    shutil.rmtree(unit.directory)
    tracking().close()
    assert seen().statuses() == {"": "FINISHED", "trial/0001": "KILLED"}


def test_other_work_under_the_same_name_replaces_the_run(run: Path, tracking: Make, seen: Look) -> None:
    unit = trial(run, 1)
    tracking().close()
    old = seen().child("trial/0001").info.run_id
    shutil.rmtree(unit.directory)
    unit.begin("another-print", {"distill.lr_img": 9.0}, {})
    unit.finish(COMPLETED, {"val_accuracy": 0.7})
    assert tracking().close().delivered
    child = seen().child("trial/0001")
    assert child.info.run_id != old
    assert child.data.params["distill.lr_img"] == "9.0"


def test_a_finished_search_is_not_delivered_again(
    run: Path, tracking: Make, seen: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial(run, 1)
    tracking().close()
    batches: list[str] = []
    monkeypatch.setattr(MlflowClient, "log_batch", lambda self, run_id, **_: batches.append(run_id))
    assert tracking().close().delivered
    assert batches == []


def test_batches(run: Path, tracking: Make, seen: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = begin(run, 1)
    write_text(unit.history_file, "".join(f'{{"step": {s}, "loss": 0.5, "loss_sam": 0.25}}\n' for s in range(1250)))
    sizes: list[int] = []
    plain = MlflowClient.log_batch

    def counting(self: MlflowClient, run_id: str, metrics: object = (), **rest: object) -> None:
        sizes.append(len(metrics))  # type: ignore[arg-type]
        plain(self, run_id, metrics, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(MlflowClient, "log_batch", counting)
    tracker = tracking()
    tracker.sync()
    assert [n for n in sizes if n] == [1000, 1000, 500]
    sizes.clear()
    tracker.sync()
    assert sizes == []
    unit.log(1250, {"loss": 0.1})
    tracker.sync()
    assert sizes == [1]
    assert seen().steps("trial/0001") == list(range(1251))


def test_many_and_long_params(run: Path, tracking: Make, seen: Look) -> None:
    params = {f"p{i}": i for i in range(250)} | {"long": "x" * 9000}
    assert tracking(params=params).close().delivered
    found = seen().parent.data.params
    assert len(found) == 251
    assert found["long"] == "x" * 6000


def test_a_changed_setting_becomes_a_tag(run: Path, tracking: Make, seen: Look) -> None:
    tracking(params={"budget.trials": 4}).close()
    assert tracking(params={"budget.trials": 8}).close().delivered
    assert seen().parent.data.params["budget.trials"] == "4"
    assert seen().parent.data.tags["budget.trials"] == "8"


def test_secrets_do_not_appear(run: Path, tracking: Make) -> None:
    unit = begin(run, 1)
    unit.begin("p", {"store.access_key": "PLANTED-1"}, {"api_token": "PLANTED-2", "from": "s3://me:PLANTED-3@host/x"})
    unit.finish(FAILED, {}, message="no answer from http://me:PLANTED-4@host")
    shown = tracking(
        params={"db.password": "PLANTED-5", "mirror": "https://u:PLANTED-6@host/a?token=PLANTED-7"},
        tags={"SECRET_THING": "PLANTED-8"},
    ).close()
    assert shown.delivered
    content = (run / "mlflow.db").read_bytes() + (run / "tracking.json").read_bytes()
    assert b"PLANTED" not in content
    assert b"no answer from http://host" in content


def test_final_metrics(run: Path, tracking: Make, seen: Look) -> None:
    unit = begin(run, 1)
    log(unit, range(1, 11))
    unit.log(11, {"loss": math.inf})
    unit.finish(COMPLETED, {"val_accuracy": 0.4, "students": 3.0, "seconds": 5.01}, step=11)
    tracking().close()
    look = seen()
    assert look.values("trial/0001", "seconds")[10] == 5.0
    assert "final_seconds" not in look.child("trial/0001").data.metrics
    assert look.values("trial/0001", "final_val_accuracy") == {11: 0.4}
    assert look.values("trial/0001", "students") == {11: 3.0}
    assert math.isnan(look.values("trial/0001", "loss")[11])


def test_summary_and_files(run: Path, tracking: Make, seen: Look) -> None:
    for number, steps in enumerate((10, 20, 5), start=1):
        trial(run, number, steps)
    final = Unit(run / "units" / "distill" / "final")
    final.begin("p", {}, {})
    pixels = torch.rand(6, 1, 8, 8)
    made = DistilledSet(pixels, torch.arange(6) // 2, Normaliser(mean=(0.5,), std=(0.5,)), ("a", "b", "c"))
    made.save(final.directory / "set")
    (final.directory / "images.png").write_bytes(b"png")
    final.finish(COMPLETED, {"loss": 0.1})
    rated = Unit(run / "units" / "evaluate" / "distilled-ConvNet")
    rated.begin("p", {}, {})
    rated.finish(COMPLETED, {"accuracy_mean": 0.91, "accuracy_std": 0.01}, students=5, runs=[0.9, 0.92])
    write_json(run / "search.json", {"name": "quick"})
    (run / "report" / "img").mkdir(parents=True)
    (run / "report" / "index.html").write_text("<p>")
    (run / "report" / "img" / "a.png").write_bytes(b"png")
    delivery = tracking().close()
    assert delivery.delivered, delivery.message
    look = seen()
    history = look.client.get_metric_history(look.parent.info.run_id, "best_val_accuracy")
    assert [(m.step, m.value) for m in history] == [(1, 0.1), (2, 0.2), (3, 0.2)]
    assert look.parent.data.metrics["accuracy/distilled-ConvNet"] == 0.91
    assert look.child("evaluate/distilled-ConvNet").data.tags["raydistill.runs"] == "0.9,0.92"
    stored = {f"distilled/final/{name}" for name in ("manifest.json", "tensors.safetensors")}
    assert look.files(look.parent) == {"search.json", "report/index.html", "report/img/a.png", *stored}
    child_files = {"images.png", "set/manifest.json", "set/tensors.safetensors"}
    assert look.files(look.child("distill/final")) == child_files
    (dataset,) = look.inputs()
    assert dataset.tags[0].value == "distilled"
    assert dataset.dataset.name == "distilled-final"
    assert "[-1, 1, 8, 8]" in str(dataset.dataset.schema)

    write_json(run / "results.json", {"schema": 1})
    assert tracking().close().delivered
    assert "results.json" in seen().files(seen().parent)
    assert len(seen().inputs()) == 1


def test_a_damaged_unit_does_not_hold_up_the_others(run: Path, tracking: Make, seen: Look) -> None:
    trial(run, 1)
    broken = begin(run, 2)
    trial(run, 3)
    broken.file.write_text("{")
    delivery = tracking().close()
    assert not delivery.delivered
    assert delivery.pending == 1
    assert "unit.json is damaged" in delivery.message
    assert seen().statuses() == {"": "FINISHED", "trial/0001": "FINISHED", "trial/0003": "FINISHED"}


def test_the_thread_delivers_while_work_goes_on(
    run: Path, tracking: Make, seen: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raydistill.track.tracking.PERIOD", 0.05)
    tracker = tracking()
    tracker.start()
    unit = begin(run, 1)
    for step in range(1, 31):
        log(unit, range(step, step + 1))
        time.sleep(0.01)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        time.sleep(0.1)
        known = seen()
        # The parent may be there before its child.
        if "trial/0001" in known.statuses() and known.steps("trial/0001")[-1:] == [30]:
            break
    assert seen().statuses() == {"": "RUNNING", "trial/0001": "RUNNING"}
    unit.finish(COMPLETED, {"val_accuracy": 0.3}, step=30)
    assert tracker.close().delivered
    assert seen().steps("trial/0001") == list(range(1, 31))
    assert set(seen().statuses().values()) == {"FINISHED"}


@pytest.fixture
def stalled() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                kept.append(listener.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://me:PLANTED@127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for connection in kept:
        connection.close()


def test_a_stalling_server_costs_no_more_than_the_timeout(run: Path, tracking: Make, seen: Look, stalled: str) -> None:
    trial(run, 1)
    tracker = tracking(tracking_uri=stalled)
    tracker.start()
    began = time.monotonic()
    delivery = tracker.close(timeout=1.0)
    assert time.monotonic() - began < 1.5
    assert not delivery.delivered
    assert delivery.pending == 1
    assert "PLANTED" not in repr(delivery)
    assert "no answer within 1 s" in delivery.message

    assert tracking().close().delivered
    assert seen().steps("trial/0001") == list(range(1, 11))


def test_an_unreachable_server_is_said_and_delivered_later(run: Path, tracking: Make, seen: Look) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    trial(run, 1)
    tracker = tracking(tracking_uri=f"http://me:PLANTED@127.0.0.1:{closed}")
    first = tracker.sync()
    assert not first.delivered
    assert first.pending == 1
    assert "(Connection refused)" in first.message
    assert not tracker.close(timeout=10).delivered
    assert b"PLANTED" not in (run / "tracking.json").read_bytes()
    trial(run, 2)
    later = tracking().close()
    assert later.delivered
    assert set(seen().statuses()) == {"", "trial/0001", "trial/0002"}


def test_the_run_is_named_while_its_store_is_away(run: Path, tracking: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    known = tracking().close().run_id

    def away(self: Store) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(Store, "open", away)
    delivery = tracking().close(timeout=5)
    assert (delivery.delivered, delivery.run_id) == (False, known)


def test_a_file_store_is_refused_at_once(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"tracking_uri='mlruns'.*sqlite:////"):
        Tracking(run, run_key="k", experiment="e", tracking_uri="mlruns")


def test_a_shared_database_keeps_files_beside_itself(run: Path, tracking: Make, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shutil.copy(run / "mlflow.db", shared / "all.db")
    write_json(run / "search.json", {})
    delivery = tracking(tracking_uri=f"sqlite:///{shared}/all.db").close()
    assert delivery.delivered
    look = Seen(f"sqlite:///{shared}/all.db")
    assert look.parent.info.artifact_uri.startswith(str(shared / "mlartifacts"))
    assert not (run / "mlartifacts").exists()
    assert embedded_uri(run) != delivery.tracking_uri
