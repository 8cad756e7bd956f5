"""What the doctor finds, each check alone."""

import json
from pathlib import Path

import pytest

from raydistill import doctor
from raydistill.errors import UnknownNameError


def examined(capsys: pytest.CaptureFixture[str], tmp_path: Path, **changes: object) -> tuple[bool, dict[str, dict]]:
    given = {
        "address": "in-process",
        "tracking_uri": None,
        "out": tmp_path,
        "root": tmp_path,
        "as_json": True,
        **changes,
    }
    well = doctor.examine(**given)  # type: ignore[arg-type]
    return well, {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}


@pytest.fixture(autouse=True)
def no_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAYDISTILL_DATA", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_healthy_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 0)
    well, findings = examined(capsys, tmp_path)
    assert well
    assert findings["digits"]["works"] is True
    assert findings["MNIST"]["works"] is None, "what is merely not there is no fault"
    assert "torchvision" in findings["MNIST"]["text"]
    assert "torch" in findings["versions"]["text"]


def test_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 2**80)
    well, findings = examined(capsys, tmp_path, out=tmp_path / "not" / "yet")
    assert not well
    assert findings["disk"]["works"] is False
    assert "--out" in findings["disk"]["text"]
    assert not (tmp_path / "not").exists()


def test_damaged_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            (raw / f"{part}-{kind}-ubyte").write_bytes(b"rubbish")
    well, findings = examined(capsys, tmp_path)
    assert not well
    assert findings["MNIST"]["works"] is False


@pytest.mark.parametrize(
    "uri, told",
    [
        ("http://127.0.0.1:9", "does not answer"),
        ("http://me:secret@127.0.0.1", "does not answer"),  # which urllib takes for a host and a port
        ("ftp://host", "tracking_uri="),
    ],
)
def test_tracker(uri: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    well, findings = examined(capsys, tmp_path, tracking_uri=uri)
    assert not well
    assert findings["MLflow"]["works"] is False
    assert told in findings["MLflow"]["text"]
    assert "secret" not in findings["MLflow"]["text"]


def test_address_of_no_known_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    well, findings = examined(capsys, tmp_path, address="somewhere")
    assert not well
    assert "HOST:PORT" in findings["Ray"]["text"]


def test_lines_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examine = {"address": "in-process", "tracking_uri": None, "out": tmp_path, "root": tmp_path, "as_json": False}
    doctor.examine(**examine)  # type: ignore[arg-type]
    lines = capsys.readouterr().out.splitlines()
    assert all(line[:6] in ("ok    ", "FAIL  ", "--    ") for line in lines)


def test_one_data_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    doctor.show_data("MNIST", tmp_path, as_json=True)
    [row] = json.loads(capsys.readouterr().out)
    assert (row["name"], row["status"], row["where"], row["images"]) == ("MNIST", "missing", None, None)
    with pytest.raises(UnknownNameError, match=r"did you mean KMNIST or MNIST|did you mean MNIST"):
        doctor.show_data("MNIS", tmp_path, as_json=True)
