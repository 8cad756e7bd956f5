"""A piece of work that kills its own process once, after an epoch was stored."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from raydistill.experts.trajectory import Place, last_part, train_item


def train_item_dying(**arguments: Any) -> dict[str, Any]:
    """As ``train_item``, but the first process that trains an index is killed."""
    place, index = Place(Path(arguments["root"])), arguments["index"]
    marker = place.root / f"died-{index}"
    if not marker.exists():

        def die() -> None:
            while last_part(place, index) < 1:
                time.sleep(0.001)
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=die, daemon=True).start()
    result = train_item(**arguments)
    while not marker.exists():  # the end came first; the kill comes now
        time.sleep(0.001)
    return result
