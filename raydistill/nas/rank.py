"""Rank networks by what they learn from a distilled set, judged on the validation split."""

import time
from typing import Any

import torch

from raydistill.data.distilled import DistilledSet
from raydistill.data.images import ImageSet
from raydistill.errors import ConfigError
from raydistill.evaluate.students import rate
from raydistill.models import GRID, build
from raydistill.nas.space import NASConfig


def networks(config: NASConfig, shape: tuple[int, int, int]) -> list[str]:
    """The names to rank; of the grid's, those that can take images of ``shape`` (K, H, W).

    Raises:
        ConfigError: a name that the user gave is unknown or cannot take such images.
    """
    if config.networks:
        for name in config.networks:
            build(name, shape, 2, 0)
        return list(config.networks)
    return [name for name in GRID if _takes(name, shape)]


def rate_network(
    *,
    images: DistilledSet,
    val: ImageSet,
    config: NASConfig,
    seed: int,
    network: str,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Train ``config.students`` networks of one name on the set: mean ``accuracy`` in [0, 1], ``runs``, ``seconds``."""
    started = time.perf_counter()
    runs = rate(images, val, network, config.protocol, config.students, seed, device)
    return {"accuracy": sum(runs) / len(runs), "runs": runs, "seconds": time.perf_counter() - started}


def _takes(name: str, shape: tuple[int, int, int]) -> bool:
    try:
        build(name, shape, 2, 0)
    except ConfigError:
        return False
    return True
