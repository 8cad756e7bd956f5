"""``raydistill experts`` whose epochs are stored one by one as a test allows, and written down as they are.

So a test can kill in the middle of the work, however slow the machine is.
"""

import os
import time
from pathlib import Path
from typing import Any
from unittest import mock

from raydistill import expert_stage
from raydistill.cli import main as raydistill
from raydistill.experts.trajectory import Place, _Training, train_item

STORED, ALLOWED = "stored.txt", "allowed"
"In the cache entry's parent: a line for each epoch that was stored; a file as long as epochs may be stored."


def stored(cache: Path) -> list[str]:
    """``INDEX EPOCH`` of every epoch that a worker had stored before anything could kill it."""
    file = cache / STORED
    return file.read_text().splitlines() if file.exists() else []


def allow(cache: Path, epochs: int) -> None:
    """Let that many epochs be stored in all."""
    cache.mkdir(parents=True, exist_ok=True)
    (cache / f"{ALLOWED}.new").write_bytes(b"x" * epochs)
    os.replace(cache / f"{ALLOWED}.new", cache / ALLOWED)


def train_item_gated(**arguments: Any) -> dict[str, Any]:
    """As ``train_item``."""
    cache = Place(Path(arguments["root"])).root.parent
    plain = _Training._note

    def note(self: _Training, loss: float) -> None:
        while len(stored(cache)) >= (cache / ALLOWED).stat().st_size:
            time.sleep(0.02)
        epoch = len(self.noted)
        plain(self, loss)
        with open(cache / STORED, "a") as file:
            file.write(f"{self.index} {epoch}\n")

    with mock.patch.object(_Training, "_note", note):
        return train_item(**arguments)


def main() -> None:
    """The command line of this process."""
    expert_stage.train_item = train_item_gated  # type: ignore[assignment]
    raydistill()
