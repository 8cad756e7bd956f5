"""What a Ray cluster has room for at this moment: nodes come and go."""

import logging
import time
from collections.abc import Collection
from typing import Any

from raydistill.errors import ConfigError, EnvironmentIssue
from raydistill.runtime.base import Share

logger = logging.getLogger(__name__)

ONE = 0.001
"Of a node's ``accelerator_type:…`` that a worker takes, as Ray itself does: enough to be placed there, and never used up."


def alive() -> list[dict[str, Any]]:
    """The nodes that live, as Ray describes them."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # Ray has no type for it


def await_cores(seconds: float) -> None:
    """Wait until a node has some: a job may begin before the first worker has joined, and all may have been taken away."""
    until = time.monotonic() + seconds
    said = False
    while not any(node["Resources"].get("CPU") for node in alive()) and time.monotonic() < until:
        if not said:
            logger.warning("this cluster has no cores; waiting %.0f s for a machine to join", seconds)
            said = True
        time.sleep(0.2)


def wanted(share: Share) -> dict[str, float]:
    """A share as amounts of Ray's resources."""
    amounts = {"CPU": share.cpus, "GPU": share.gpus}
    if share.accelerator is not None:
        amounts[_named(share.accelerator)] = ONE
    return {name: amount for name, amount in amounts.items() if amount > 0}


def elsewhere(full: Collection[str]) -> dict[str, str]:
    """Ray's label selector of the nodes that are not in ``full``; empty where all will do."""
    return {"ray.io/node-id": f"!in({','.join(sorted(full))})"} if full else {}


def places(share: Share, full: Collection[str] = ()) -> int:
    """How many workers of this share fit on all nodes together but those in ``full``; 0 where they fit on none."""
    amounts = wanted(share).items()
    nodes = [node["Resources"] for node in alive() if node["NodeID"] not in full]
    return sum(int(min(node.get(name, 0) / amount for name, amount in amounts)) for node in nodes)


def refuse(share: Share, full: Collection[str] = ()) -> None:
    """Say why a share fits on no node but those in ``full``, whose disks are.

    Raises:
        EnvironmentIssue: it would fit there.
        ConfigError: it would not.
    """
    if places(share):
        there = sorted({node["NodeManagerAddress"] for node in alive() if node["NodeID"] in full})
        raise EnvironmentIssue(f"the disks of {', '.join(there)} are full; free space there and go on with --resume")
    nodes = [node["Resources"] for node in alive()]
    if share.accelerator is not None and not any(_named(share.accelerator) in node for node in nodes):
        there = sorted({name.partition(":")[2] for node in nodes for name in node if name.startswith(_named(""))})
        raise ConfigError(
            f"accelerator={share.accelerator!r}: no machine of this cluster has one; there is {', '.join(there) or 'none'}"
        )
    for name, amount in (("cpus", share.cpus), ("gpus", share.gpus)):
        most = max((node.get(name[:-1].upper(), 0) for node in nodes), default=0)
        if most < amount:
            raise ConfigError(
                f"{name}={amount:g}: no machine of this cluster has more than {most:g}; "
                f"lower {name} or use an --address that has them"
            )
    raise ConfigError(f"{share}: no machine of this cluster has all of it; lower one of them")


def larger(share: Share, of_gpu: bool, full: Collection[str] = ()) -> Share | None:
    """Twice the CPUs, or twice the GPU, as far as a machine has them; ``None`` where that is no more.

    Args:
        share: what was too little.
        of_gpu: it was the GPU's memory. A piece of work computes on one GPU, so a whole one is the most.
        full: nodes that do not count.
    """
    if of_gpu and share.gpus > 0:
        found = share._replace(gpus=min(2 * share.gpus, 1.0))
        return found if share.gpus < 1 and places(found, full) else None
    nodes = [node["Resources"] for node in alive() if node["NodeID"] not in full]
    fitting = [node["CPU"] for node in nodes if _fits(share, node)]
    cpus = min(2 * share.cpus, max(fitting, default=0))
    return share._replace(cpus=cpus) if cpus > share.cpus else None


def _fits(share: Share, node: dict[str, float]) -> bool:
    return all(node.get(name, 0) >= amount for name, amount in wanted(share).items())


def _named(accelerator: str) -> str:
    return f"accelerator_type:{accelerator}"
