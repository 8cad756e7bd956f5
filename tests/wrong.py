"""What the tests of wrong input share: a place without network and data, and the promise that they check."""

from pathlib import Path

import pytest

from raydistill.data.sources import MNIST
from tests.tiny import Said, call


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, no data but those of the test, and a folder of its own."""

    def no_network(*args: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(MNIST, "download", no_network)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAYDISTILL_DATA", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)


def wrong(said: Said, *parts: str) -> None:
    """Check the promise."""
    lines = said.err.splitlines()
    assert said.code == 2, said
    assert said.out == ""
    assert len(lines) == 1, said.err
    assert lines[0].startswith("raydistill"), said.err
    for part in parts:
        assert part in lines[0]


def refused(capsys: pytest.CaptureFixture[str], args: list[object], *parts: str) -> None:
    """Call a stage with ``--out fresh``: it is refused, and ``fresh`` was not made."""
    command, *rest = args
    given = [command, *rest, "--quiet", "--out", "fresh"]
    if "--address" not in args:
        given += ["--address", "in-process"]
    wrong(call(capsys, *given), *parts)
    assert not Path("fresh").exists()
    assert not Path("mlflow.db").exists()
    assert not Path("mlruns").exists()
