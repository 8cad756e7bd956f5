"""Work in this process, one piece after another: no Ray needed, errors where they happen, a debugger can step in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from raydistill.errors import ConfigError
from raydistill.runtime.base import Result, keep_freed_memory, threads


class Local:
    """The runtime without Ray."""

    def __init__(self) -> None:
        keep_freed_memory()

    def map(
        self,
        function: Callable[..., Result],
        items: Sequence[Mapping[str, Any]],
        shared: Mapping[str, Any],
        cpus: float = 1,
        gpus: float = 0,
    ) -> Iterator[tuple[int, Result]]:
        """As ``Runtime.map``; results come in order."""
        for index, item in enumerate(items):
            with self.worker(cpus, gpus) as device:
                result = function(**shared, **item, device=device)
            yield index, result

    def capacity(self, cpus: float, gpus: float) -> int:
        """As ``Runtime.capacity``; one call after another, and cores are never too few."""
        with self.worker(cpus, gpus):
            return 1

    @contextmanager
    def worker(self, cpus: float, gpus: float) -> Iterator[str]:
        """Compute as a Ray worker with these resources would; gives the device.

        Raises:
            ConfigError: a GPU is asked for and PyTorch sees none.
        """
        if gpus > 0 and not torch.cuda.is_available():
            raise ConfigError(
                f"gpus={gpus:g}: PyTorch sees no GPU here; set it to 0, or use an --address that has GPUs"
            )
        with threads(cpus):
            yield "cuda" if gpus > 0 else "cpu"

    def require_shared(self, folder: Path) -> None:
        """As ``Runtime.require_shared``; nothing to ask."""

    def close(self) -> None:
        """Nothing is held."""
