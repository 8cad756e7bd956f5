"""Run folders at an address: mirrors, what a kill leaves in the store, and a search that goes on on an empty machine."""

import errno
import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from raydistill import artifacts, definitions, results, storage
from raydistill.artifacts import MANIFEST, TENSORS, Unit
from raydistill.data.distilled import DistilledSet
from raydistill.data.images import Normaliser
from raydistill.distill import loop
from raydistill.errors import ConfigError, EnvironmentIssue, FullDisk
from raydistill.runtime.local import Local
from raydistill.stages import Experiment
from raydistill.track import Progress
from tests.cluster.whole import outcome
from tests.s3 import BUCKET, KEY, SECRET, server
from tests.test_expert_stage import TEXT
from tests.tiny import call, listing, write_search

OLD, NEW = ({"x": torch.full((4,), value)} for value in (1.0, 2.0))


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with server() as environment:
        yield environment


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Turns this process into one on another machine, as far as mirrors are concerned; it begins on ``a``."""
    import fsspec

    fsspec.filesystem("memory").store.clear()

    def become(name: str) -> None:
        monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / name))

    become("a")
    return become


def use(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Talk to this S3; sessions of an earlier one are forgotten."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def stored() -> dict[str, bytes]:
    import fsspec

    return {name: file.getvalue() for name, file in fsspec.filesystem("memory").store.items()}


def test_an_address_has_a_mirror_and_a_mirror_its_address(tmp_path: Path) -> None:
    path = storage.place("s3://bucket/some/runs/")
    assert path == (tmp_path / "a" / "mirror" / "s3" / "bucket" / "some" / "runs").resolve()
    assert storage.address(path / "tiny") == "s3://bucket/some/runs/tiny"
    assert storage.place(storage.address(path)) == path
    assert storage.shown(path) == "s3://bucket/some/runs"
    assert not storage.mirrored(path / ".tiny.tmp" / MANIFEST), "what is being made stays here"
    for folder in ("runs", tmp_path / "runs"):
        assert storage.place(folder) == Path(folder)
        assert storage.address(Path(folder)) == str(Path(folder).absolute())
        assert storage.shown(Path(folder)) == str(folder)


@pytest.mark.parametrize(
    "given",
    [
        "s3://",
        "s3:///runs",
        "s3://bucket/../x",
        "s3://bucket/.x",
        "s3://bucket//x",
        "file:///x",
        "s3://b/x?y",
        "s3://b::x",
    ],
)
def test_other_addresses_are_refused(given: str) -> None:
    with pytest.raises(ConfigError, match=r"SCHEME://BUCKET/PREFIX"):
        storage.place(given)


def test_local_paths_ask_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_ask", None)
    unit = Unit(tmp_path / "units" / "trial" / "0000")
    unit.begin("f", {}, {})
    unit.log(1, {"loss": 2.0})
    artifacts.save_folder(unit.directory / "set", "thing", {}, OLD)
    artifacts.load_folder(unit.directory / "set", "thing")
    storage.check(tmp_path)
    storage.fetch(tmp_path)
    artifacts.remove(unit.directory)
    assert not unit.directory.exists()


def test_two_machines_that_store_the_same_do_not_hinder_each_other(
    machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one has moved what both have put beside the folder under the name of its content."""
    put, folder = storage.put, storage.place("memory://bucket/run/set")

    def meanwhile(path: Path, data: bytes) -> None:
        put(path, data)
        if path == folder / MANIFEST:
            import fsspec

            store = fsspec.filesystem("memory")
            known = (f"/bucket/run/set/{name}" for name in (MANIFEST, TENSORS))
            (waiting,) = {name for name in stored() if "/set/" in name} - set(known)
            store.mv(waiting, f"/bucket/run/set/{TENSORS}")

    monkeypatch.setattr(storage, "put", meanwhile)
    artifacts.save_folder(folder, "thing", {}, NEW)
    assert sorted(stored()) == [f"/bucket/run/set/{MANIFEST}", f"/bucket/run/set/{TENSORS}"]
    machine("b")
    assert torch.equal(artifacts.load_folder(storage.place("memory://bucket/run/set"), "thing")[1]["x"], NEW["x"])


def test_what_one_machine_writes_another_reads(machine: Callable[[str], None]) -> None:
    run = storage.place("memory://bucket/run")
    unit = Unit(run / "units" / "trial" / "0000")
    unit.begin("f", {}, {})
    unit.log(1, {"loss": 2.0})
    artifacts.save_folder(unit.directory / "set", "thing", {}, OLD)
    assert "/bucket/run/units/trial/0000/set/tensors.safetensors" in stored(), "as in a run folder on a disk"
    assert not [name for name in stored() if "/." in name]

    machine("b")
    there = storage.place("memory://bucket/run")
    assert there != run
    storage.fetch(there)
    other = Unit(there / "units" / "trial" / "0000")
    assert (other.status, other.history()) == ("running", [{"step": 1, "loss": 2.0}])
    assert artifacts.folder_exists(other.directory / "set")
    assert not (other.directory / "set" / TENSORS).exists(), "tensors come when they are read"
    assert torch.equal(artifacts.load_folder(other.directory / "set", "thing")[1]["x"], OLD["x"])
    artifacts.save_folder(other.directory / "set", "thing", {}, NEW)
    other.rewind(0)
    other.finish(artifacts.COMPLETED, {})

    machine("a")
    storage.fetch(run)
    assert unit.status == artifacts.COMPLETED
    assert torch.equal(artifacts.load_folder(unit.directory / "set", "thing")[1]["x"], NEW["x"])
    artifacts.copy_folder(unit.directory / "set", run / "copy")
    artifacts.remove(unit.directory)
    assert sorted(stored()) == ["/bucket/run/copy/manifest.json", "/bucket/run/copy/tensors.safetensors"]

    machine("b")
    storage.fetch(there)
    assert not other.directory.exists(), "what another machine has removed"
    assert torch.equal(artifacts.load_folder(there / "copy", "thing")[1]["x"], NEW["x"])


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), FullDisk, "No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "x"), FullDisk, "Disk quota exceeded"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), FullDisk, "No space left on device"),
        (SafetensorError("header too large"), EnvironmentIssue, "header too large"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), EnvironmentIssue, "Permission denied"),
    ],
)
def test_a_full_disk_is_told_in_the_same_words_whoever_met_it(
    error: Exception, kind: type[EnvironmentIssue], reason: str
) -> None:
    said = storage.unwritable(storage.place(f"s3://{BUCKET}/runs/x"), error)
    assert type(said) is kind
    assert f"runs/x: {reason}; free space on " in str(said)
    with_a_disk_of_all = storage.unwritable(Path("/runs/x"), error)
    assert type(with_a_disk_of_all) is EnvironmentIssue
    assert str(with_a_disk_of_all) == f"cannot write /runs/x: {reason}; free space or choose another --out"


def test_fetching_leaves_what_is_this_machines_own() -> None:
    unit = Unit(storage.place("memory://bucket/units/trial/0000"))
    unit.log(1, {"loss": 2.0})
    with open(unit.history_file, "ab") as file:
        file.write(b'{"step": 2}\n')
    (unit.directory / ".lock").touch()
    artifacts.write_json(unit.file, {})
    unit.file.write_text("damaged here")
    (unit.directory / "gone.txt").touch()
    storage.fetch(unit.directory)
    assert len(unit.history()) == 2, "a process here is ahead"
    assert unit.read() == {}
    assert sorted(path.name for path in unit.directory.iterdir()) == [".lock", "history.jsonl", "unit.json"]


@pytest.mark.parametrize("request_number", range(1, 6))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_request_leaves_the_old_folder_or_the_new_one(
    machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, request_number: int, after: bool
) -> None:
    path = storage.place("memory://bucket/state")
    artifacts.save_folder(path, "thing", {"step": 1}, OLD)
    real, seen = storage._ask, 0

    def mortal(*arguments: Any, **options: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == request_number and not after:
            raise KeyboardInterrupt
        answer = real(*arguments, **options)
        if seen == request_number:
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(storage, "_ask", mortal)
    killed = True
    try:
        artifacts.save_folder(path, "thing", {"step": 2}, NEW)
        killed = False
    except KeyboardInterrupt:
        pass
    monkeypatch.setattr(storage, "_ask", real)
    assert killed == (request_number <= 4), "four requests: the tensors, the manifest, the tensors' usual name, the end"
    for name in ("b", "a"):
        machine(name)
        manifest, tensors = artifacts.load_folder(storage.place("memory://bucket/state"), "thing")
        assert torch.equal(tensors["x"], {1: OLD, 2: NEW}[manifest["step"]]["x"])
    artifacts.save_folder(path, "thing", {"step": 3}, OLD)
    machine("b")
    assert artifacts.load_folder(storage.place("memory://bucket/state"), "thing")[0]["step"] == 3


def test_a_store_that_does_not_answer_is_asked_again_and_then_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    real, left = MemoryFileSystem.pipe_file, 3

    def flaky(self: Any, path: str, value: bytes, **options: Any) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise OSError("Please reduce your request rate. http://me:password@host/x")
        real(self, path, value, **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", flaky)
    file = storage.place("memory://bucket/results.json")
    artifacts.write_json(file, {"a": 1})
    assert pauses == [1.0, 2.0, 4.0]
    assert artifacts.read_json(file) == {"a": 1}
    left = 100
    with pytest.raises(EnvironmentIssue) as refused:
        artifacts.write_json(file, {"a": 2})
    assert str(refused.value) == (
        "memory://bucket/results.json: Please reduce your request rate. http://host/x; "
        "check the network and the endpoint (s3: AWS_ENDPOINT_URL); what was stored before is whole"
    )
    assert artifacts.read_json(file) == {"a": 1}, "the mirror is never ahead of its store"


@pytest.fixture
def forbidding() -> Iterator[str]:
    """The address of a server that knows nobody."""

    class Refuse(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            text = b"<Error><Code>InvalidAccessKeyId</Code><Message>The key does not exist in our records.</Message></Error>"
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(403)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()


def test_what_cannot_be_stored_is_not_begun(
    s3: dict[str, str],
    forbidding: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    search = write_search(tmp_path)
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    cases: list[tuple[str, dict[str, str], str]] = [
        ("gs://bucket/runs", {}, "pip install 'raydistill[s3]', for gs:// 'raydistill[gcs]'"),
        ("nosuch://bucket/runs", {}, "Protocol not known: nosuch; use s3://, gs:// or another"),
        ("s3://missing/runs", {}, "The specified bucket does not exist; make the bucket first"),
        (f"s3://{BUCKET}/runs", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "check the network and the endpoint"),
        (f"s3://{BUCKET}/runs", {"AWS_ENDPOINT_URL": forbidding}, "does not exist in our records.; set credentials"),
        (f"s3://{BUCKET}/runs", nobody, "Unable to locate credentials; set credentials that may write there"),
    ]
    for out, environment, told in cases:
        use(s3 | environment, monkeypatch)
        said = call(capsys, "run", search, "--out", out, "--address", "in-process")
        assert said.code == 2, said
        assert len(said.err.splitlines()) == 1, said.err
        assert told in said.err, said.err
        assert out.split("/runs")[0] in said.err
        assert KEY not in said.err + said.out
        assert SECRET not in said.err + said.out
    assert sorted(path.name for path in tmp_path.iterdir()) == [search.name]


def computed(file: Path, out: str) -> Path:
    """Experts, trials and the set of a search, in this process; with a checkpoint after each iteration."""
    search = definitions.load(str(file))
    run = storage.place(out) / search.name
    results.fetch(run)
    experiment = Experiment(search, run, Local(), Progress(quiet=True))
    stages = ("experts", "search", "distill")
    experiment.check(stages)
    results.open_run(search, run, resume=True)
    assert loop.distill.__kwdefaults__ is not None
    loop.distill.__kwdefaults__["checkpoint_seconds"] = 0.0
    try:
        for stage in stages:
            getattr(experiment, f"run_{stage}")()
            results.update(run)
    finally:
        loop.distill.__kwdefaults__["checkpoint_seconds"] = 30.0
    return run


def killed(file: Path, out: str) -> None:
    """``computed`` in a process that ends (SIGKILL) in the middle of the second trial's second checkpoint."""
    done = subprocess.run([sys.executable, "-m", "tests.test_storage", file, out], check=False, timeout=300)
    assert done.returncode == -signal.SIGKILL


def test_a_search_that_was_killed_goes_on_from_the_bucket_alone(
    s3: dict[str, str],
    tmp_path: Path,
    machine: Callable[[str], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import fsspec

    use(s3, monkeypatch)
    out, search = f"s3://{BUCKET}/runs", write_search(tmp_path, TEXT)
    still = computed(search, str(tmp_path / "still"))
    killed(search, out)
    shutil.rmtree(tmp_path / "a")
    bucket = fsspec.filesystem("s3", use_listings_cache=False)
    before = {name: about["LastModified"] for name, about in bucket.find(BUCKET, detail=True).items()}
    assert f"{BUCKET}/runs/tiny/units/trial/0001/state/{MANIFEST}" in before

    machine("b")
    run = computed(search, out)
    assert outcome(run) == outcome(still)
    after = {name: about["LastModified"] for name, about in bucket.find(BUCKET, detail=True).items()}
    finished = [name for name in before if "/_experts/" in name or "/trial/0000/" in name]
    assert len(finished) > 10
    assert [name for name in finished if after[name] != before[name]] == [
        f"{BUCKET}/runs/_experts/{entry(after)}/entry.json"
    ]
    mirrors = listing(tmp_path / "still" / "tiny" / "units" / "trial")
    kept = [name.removeprefix(f"{BUCKET}/runs/tiny/units/trial/") for name in after if "/units/trial/" in name]
    assert kept == sorted(name for name in mirrors if "/." not in name), (
        "the bucket holds the run folder, and nothing else"
    )

    machine("c")
    assert torch.equal(DistilledSet.load(f"{out}/tiny").pixels, DistilledSet.load(still).pixels)
    said = call(capsys, "export", f"{out}/tiny", "--to", "npz", "--out", tmp_path / "set.npz")
    assert (said.code, said.err) == (0, "")
    said = call(capsys, "report", f"{out}/tiny")
    assert said.code == 0, said.err
    assert bucket.exists(f"{BUCKET}/runs/tiny/report/index.html")
    said = call(capsys, "experts", "--list", "--json", "--out", out)
    assert '"whole": 3' in said.out
    said = call(capsys, "run", search, "--out", out, "--address", "in-process")
    assert (said.code, said.out) == (2, "")
    assert f"{out}/tiny holds a run already; add --resume" in said.err
    said = call(capsys, "evaluate", f"s3://{BUCKET}/other")
    assert (said.code, said.out) == (2, "")
    assert f"no distilled set at s3://{BUCKET}/other" in said.err


def entry(names: dict[str, Any]) -> str:
    (only,) = {name.split("/")[3] for name in names if "/_experts/" in name}
    return str(only)


def test_sets_are_saved_and_annotated_at_an_address(machine: Callable[[str], None]) -> None:
    grey = Normaliser(mean=(0.5,), std=(0.5,))
    DistilledSet(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), grey, ("a", "b")).save("memory://bucket/set")
    machine("b")
    assert len(DistilledSet.load("memory://bucket/set")) == 2
    DistilledSet.annotate("memory://bucket/set", accuracies={"x": 0.5})
    machine("c")
    assert DistilledSet.load("memory://bucket/set").manifest["accuracies"] == {"x": 0.5}


def _die(file: str, out: str) -> None:
    real, seen = storage.put, 0

    def mortal(path: Path, data: bytes) -> None:
        nonlocal seen
        real(path, data)
        seen += path.parts[-3:] == ("0001", "state", MANIFEST)
        if seen == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    storage.put = mortal
    computed(Path(file), out)


if __name__ == "__main__":
    _die(*sys.argv[1:])
