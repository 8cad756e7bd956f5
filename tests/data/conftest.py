"""These tests see no data but their own, and no network."""

from pathlib import Path
from typing import Any

import pytest

from raydistill.data.sources import SVHN, Downloaded


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty home, no ``RAYDISTILL_DATA``, and downloads that fail as they do without a network."""

    def refuse(*_: Any) -> None:
        raise OSError("<urlopen error\n[Errno -3] no network>")

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("RAYDISTILL_DATA", raising=False)
    for source in (Downloaded, SVHN):
        monkeypatch.setattr(source, "download", refuse)
