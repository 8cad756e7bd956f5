"""Planted secrets turn up nowhere, and what others made is read without running or following anything."""

import io
import json
import os
import pickle
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from raydistill import artifacts, definitions
from raydistill.data.distilled import DistilledSet
from raydistill.data.images import Normaliser
from raydistill.errors import ArtifactError, RaydistillError, without_credentials
from raydistill.evaluate import trained
from raydistill.nas.summary import confirmed
from raydistill.report.page import write_report
from raydistill.search.definition import Search
from raydistill.track.records import files_below
from tests.tiny import call, shell, write_search

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTEDPLANTED00",
    "AWS_SECRET_ACCESS_KEY": "planted/aws+secret",
    "MLFLOW_TRACKING_USERNAME": "planted-user-of-mlflow",
    "MLFLOW_TRACKING_PASSWORD": "planted-password-of-mlflow",
    "MLFLOW_TRACKING_TOKEN": "planted-token-of-mlflow",
    "HF_TOKEN": "planted-token-of-hf",
    "RAY_AUTH_TOKEN": "planted" * 8,
}
PASSWORD = "planted-in-the-address"
NOBODY = f"http://me:{PASSWORD}@127.0.0.1:9"
BUCKET = f"s3://AKIAPLANTEDPLANTED00:{PASSWORD}@bucket/runs"
GREY = Normaliser(mean=(0.5,), std=(0.5,))
PLANTED = [*SECRETS.values(), PASSWORD]


def leaks(folder: Path) -> list[str]:
    """Where below a folder a planted secret stands, in a file (also of an archive) or in a file's name."""
    found = []
    for path in folder.rglob("*"):
        texts = [str(path).encode()]
        if path.is_file():
            texts.append(path.read_bytes())
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    texts += [archive.read(name) for name in archive.namelist()]
        found += [f"{path}: {word}" for word in PLANTED for text in texts if word.encode() in text]
    return found


def said_nothing(*texts: str) -> bool:
    return not any(word in text for word in PLANTED for text in texts)


def test_a_run_keeps_no_secret_and_shows_none(tmp_path: Path) -> None:
    """First towards a server that is not there, with a password in its address; then on into the run's own database."""
    out = tmp_path / "runs"
    base = ["run", f"{write_search(tmp_path)}:other", "--out", out, "--address", "in-process"]
    environment = os.environ | SECRETS
    for rest in (["--tracking-uri", NOBODY], ["--resume", "--set", "evaluate.students=3"]):
        command, _ = shell(*base, *rest)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        assert said_nothing(done.stdout, done.stderr)
        if rest[0] == "--tracking-uri":
            assert "http://127.0.0.1:9" in done.stdout, "where the numbers were to go is said"
            noted = json.loads((out / "other" / "results.json").read_text())["mlflow"]["tracking_uri"]
            assert noted == "http://127.0.0.1:9"
    assert (out / "other" / "mlflow.db").stat().st_size > 0
    assert (out / "other" / "report" / "index.html").is_file()
    assert leaks(tmp_path) == []


@pytest.mark.parametrize(
    "args",
    [
        ("doctor", "--address", "in-process", "--tracking-uri", NOBODY),
        ("doctor", "--address", "in-process", "--tracking-uri", NOBODY, "--json"),
        ("doctor", "--address", NOBODY),
        ("run", "SEARCH", "--address", f"http://me:{PASSWORD}@127.0.0.1:8265"),
        ("run", "SEARCH", "--tracking-uri", f"ftp://me:{PASSWORD}@host/x"),
        ("run", "SEARCH", "--out", BUCKET),
        ("run", "SEARCH", "--data-root", BUCKET),
        ("plan", "SEARCH", "--out", BUCKET),
        ("run", BUCKET),
        ("report", BUCKET),
        ("evaluate", BUCKET),
        ("submit", "SEARCH", "--address", NOBODY, "--tracking-uri", f"http://me:{PASSWORD}@host:5000"),
        ("jobs", "--address", NOBODY),
    ],
    ids=lambda args: " ".join(args[:1] + args[2:3]),
)
def test_no_line_on_the_terminal_shows_a_secret(
    args: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    search = write_search(tmp_path)
    said = call(capsys, *(search.name if arg == "SEARCH" else arg for arg in args))
    assert said.code in (1, 2), said
    assert said_nothing(said.out, said.err), said
    assert sorted(path.name for path in tmp_path.iterdir()) == [search.name], "nothing is made, no folder 's3:' either"


def test_the_way_back_from_an_interruption_shows_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from raydistill.interrupts import Interrupted
    from raydistill.stages import Experiment

    def stop(self: Experiment) -> None:
        raise Interrupted

    monkeypatch.setattr(Experiment, "run_experts", stop)
    args = ["run", f"{write_search(tmp_path)}:other", "--out", tmp_path / "runs", "--address", "in-process"]
    args += ["--tracking-uri", NOBODY]
    monkeypatch.setattr("sys.argv", ["raydistill", *map(str, args)])
    said = call(capsys, *args)
    assert said.code == 130
    assert "--tracking-uri http://127.0.0.1:9 --resume" in said.err
    assert said_nothing(said.out, said.err)
    assert leaks(tmp_path / "runs") == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:a/b@c@db/x", "postgresql://db/x"),
        ("s3://KEY:SEC/RET@bucket/runs", "s3://bucket/runs"),
        (str(Path("s3://KEY:SECRET@bucket/runs")), "s3:/bucket/runs"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("https://host/x?X-Amz-Signature=abc&n=1", "https://host/x?X-Amz-Signature=***&n=1"),
        ("a design=7 stays", "a design=7 stays"),
    ],
)
def test_what_is_taken_out_of_an_address(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


# --- what others made


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return (os.mkdir, (str(self.mark),))


def a_set(path: Path, **facts: Any) -> Path:
    """A stored distilled set of two classes."""
    pixels, labels = torch.zeros(2, 1, 8, 8), torch.tensor([0, 1])
    DistilledSet(pixels, labels, GREY, ("a", "b"), manifest=facts).save(path)
    return path


def with_tensors(path: Path, data: bytes) -> None:
    """Replace the tensors and make the checksum fit, as somebody would who means harm."""
    (path / artifacts.TENSORS).write_bytes(data)
    sums = {artifacts.TENSORS: artifacts.checksum(path / artifacts.TENSORS)}
    manifest = artifacts.read_json(path / artifacts.MANIFEST)
    artifacts.write_json(path / artifacts.MANIFEST, {**manifest, "checksums": sums})


def test_a_pickle_in_the_place_of_tensors_is_refused_unread(tmp_path: Path) -> None:
    mark, path = tmp_path / "executed", a_set(tmp_path / "set")
    saved = io.BytesIO()
    torch.save({"pixels": Trap(mark)}, saved)
    for data in (pickle.dumps(Trap(mark)), saved.getvalue()):
        with_tensors(path, data)
        with pytest.raises(ArtifactError, match="damaged"):
            DistilledSet.load(path)
        assert not mark.exists()
    pickle.loads(pickle.dumps(Trap(mark)))
    assert mark.exists(), "the trap works where something is unpickled"


@pytest.mark.parametrize("name", ["os:system", "../../evil", "builtins.exec", "ConvNet/../x", "__import__"])
def test_names_in_a_manifest_are_looked_up_and_never_imported(name: str, tmp_path: Path) -> None:
    net = {"network": name, "shape": [1, 8, 8], "classes": ["a"], "normaliser": {"mean": [0.5], "std": [0.5]}}
    artifacts.save_folder(tmp_path / "net", trained.KIND, net, {})
    with pytest.raises(ArtifactError, match="unknown network"):
        trained.load(tmp_path / "net")


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../etc/cron.d/x"},
        {"name": "/etc/x"},
        {"name": "a\n"},
        {"name": ".hidden"},
        {"distill": {"method": "os:system"}},
        {"distill": {"method": "DataDAM", "network": "../x"}},
        {"data": {"source": "builtins:exec"}},
        {"nas": {"networks": ["ConvNetD1/../../x"]}},
        {"space": {"distill.__class__": {"kind": "choice", "values": [1]}}},
        {"__reduce__": "x"},
    ],
    ids=str,
)
def test_a_stored_search_from_others_is_data_alone(
    change: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = definitions.load(str(write_search(tmp_path))).to_json() | change
    file = tmp_path / "search.json"
    file.write_text(json.dumps(whole))
    before = sorted(tmp_path.rglob("*"))
    said = call(capsys, "run", file, "--out", tmp_path / "runs", "--address", "in-process")
    assert said.code == 2, said
    assert len(said.err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "\x80\x04K\x01.", '{"kind": "distilled set", "schema": 1, "checksums": []}', "null", "[]"]
)
def test_a_manifest_of_any_shape_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = a_set(tmp_path / "set")
    (path / artifacts.MANIFEST).write_text(text)
    with pytest.raises(ArtifactError) as refused:
        DistilledSet.load(path)
    assert "\n" not in str(refused.value)


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set"
    DistilledSet(torch.zeros(2, 1, 8, 8), torch.tensor([-1, 7]), GREY, ("a", "b")).save(path)
    with pytest.raises(ArtifactError, match="labels"):
        DistilledSet.load(path)


@pytest.mark.parametrize("name", ["..", "../up", "a/b", "", "C:x"])
def test_classes_name_no_other_folder(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels, labels = torch.zeros(2, 1, 8, 8), torch.tensor([0, 1])
    DistilledSet(pixels, labels, GREY, ("a", name)).save(tmp_path / "set")
    said = call(capsys, "export", tmp_path / "set", "--to", "imagefolder", "--out", tmp_path / "out" / "inner")
    assert said.code == 2, said
    assert "cannot name a folder" in said.err
    assert not (tmp_path / "out").exists()


def test_a_units_own_words_lead_nowhere(tmp_path: Path) -> None:
    """What ``unit.json`` says its network is becomes part of a path no more."""
    unit = artifacts.Unit(tmp_path / "units" / "confirm" / "ConvNetD1")
    unit.begin("f", {}, {})
    about = {"epochs": 1, "workers": 1, "seconds": 1.0, "flops": 1, "network": "../../../elsewhere"}
    unit.finish(artifacts.COMPLETED, {"val_accuracy": 0.5}, **about)
    full = confirmed(tmp_path, ["ConvNetD1"])
    assert full is not None
    assert full["network"] == "ConvNetD1"


def test_links_in_a_folder_are_not_followed_to_a_tracker(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("planted")
    (folder := tmp_path / "report").mkdir()
    (folder / "index.html").write_text("page")
    (folder / "taken").symlink_to(tmp_path / "secret")
    assert [name for _, name in files_below(folder)] == ["index.html"]


MARKUP = "<script>alert(1)</script>"


def hostile_texts(run: Path) -> None:
    """Markup wherever a run folder from others holds free text."""
    results = artifacts.read_json(run / "results.json")
    results |= {"git_commit": MARKUP, "machine": MARKUP, "dataset": MARKUP, "versions": {MARKUP: MARKUP}}
    artifacts.write_json(run / "results.json", results | {"mlflow": {"tracking_uri": MARKUP}})
    for unit in artifacts.units(run):
        record = unit.read()
        artifacts.write_json(unit.file, {**record, "message": MARKUP, "protocol": MARKUP})
    manifest = run / "units" / "distill" / "final" / "set" / artifacts.MANIFEST
    artifacts.write_json(manifest, artifacts.read_json(manifest) | {"classes": [MARKUP] * 10})


def test_markup_in_a_run_folder_is_text_in_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = write_search(tmp_path)
    said = call(capsys, "run", f"{search}:other", "--out", tmp_path, "--address", "in-process", "--quiet")
    assert said.code == 0, said
    shutil.copytree(tmp_path / "other", tmp_path / "theirs")
    hostile_texts(tmp_path / "theirs")
    page = write_report([tmp_path / "theirs"], tmp_path / "report").read_text(encoding="utf-8")
    assert MARKUP not in page
    assert "&lt;script&gt;alert(1)" in page


def test_nothing_in_the_package_unpickles() -> None:
    """But torchvision, for data whose MD5 it knows, and Ray between its own processes."""
    root = Path(artifacts.__file__).parent
    words = (
        "import pickle",
        "torch.load(",
        "pickle.load",
        "allow_pickle=True",
        "yaml.load(",
        " eval(",
        " exec(",
        "shell=True",
    )
    found = [(path.name, word) for path in root.rglob("*.py") for word in words if word in path.read_text()]
    assert found == []


@pytest.mark.parametrize("act", [lambda p: Search.parse(artifacts.read_json(p)), lambda p: definitions.load(str(p))])
def test_a_search_that_is_a_pickle_is_not_json(act: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "search.json").write_bytes(pickle.dumps(Trap(tmp_path / "executed")))
    with pytest.raises(RaydistillError):
        act(tmp_path / "search.json")
    assert not (tmp_path / "executed").exists()
