"""Work in this process, one piece after another: no Ray needed, errors where they happen, a debugger can step in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from raydistill.errors import ConfigError, OutOfMemory
from raydistill.runtime.base import SMALLER, Result, Told, keep_freed_memory, memory_watched, threads


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
        accelerator: str | None = None,
        told: Told = lambda index, text: None,
    ) -> Iterator[tuple[int, Result]]:
        """As ``Runtime.map``; results come in order, the GPU is the one there is, and nothing beside a call could be fewer."""
        for index, item in enumerate(items):
            try:
                with self.worker(cpus, gpus) as device, memory_watched():
                    result = function(**shared, **item, device=device)
            except OutOfMemory as error:
                raise type(error)(f"piece {index + 1} of {len(items)} ran out of memory ({error}); {SMALLER}") from None
            yield index, result

    def capacity(self, cpus: float, gpus: float, accelerator: str | None = None) -> int:
        """As ``Runtime.capacity``; one call after another, cores are never too few, and the GPU is the one there is."""
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
