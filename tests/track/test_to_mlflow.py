"""Addresses of MLflow stores, and what to type to look at them."""

import shlex
from pathlib import Path

import pytest

from raydistill.errors import ConfigError
from raydistill.track import ui_command
from raydistill.track.to_mlflow import artifact_location, checked_uri, embedded_uri


def test_the_command_to_look_at_an_embedded_store(tmp_path: Path) -> None:
    uri = embedded_uri(tmp_path / "my runs" / "a")
    words = shlex.split(ui_command(uri))
    assert words == ["mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", "5000"]
    assert uri == f"sqlite:///{tmp_path}/my runs/a/mlflow.db"


def test_a_server_is_its_address_without_credentials() -> None:
    assert ui_command("https://me:word@host:5000") == "https://host:5000"


def test_files_go_beside_a_database_and_where_a_server_decides(tmp_path: Path) -> None:
    assert artifact_location("sqlite:////data/all.db", tmp_path) == "/data/mlartifacts"
    assert artifact_location("postgresql://db/x", tmp_path / "run") == str(tmp_path / "mlartifacts")
    assert artifact_location("http://host:5000", tmp_path) is None


def test_a_relative_database_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert checked_uri("sqlite:///all.db") == f"sqlite:///{tmp_path}/all.db"
    assert checked_uri("http://host:5000") == "http://host:5000"


@pytest.mark.parametrize("uri", ["mlruns", "/runs/mlflow", "file:///runs", "ftp://me:word@host"])
def test_what_is_neither_server_nor_database_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"use http://HOST:PORT or sqlite:////") as refusal:
        checked_uri(uri)
    assert "word" not in str(refusal.value)
