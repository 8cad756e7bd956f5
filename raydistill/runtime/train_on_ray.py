"""One network trained by several processes together, on Ray Train.

Ray Train places the processes, joins them (gloo on CPUs, NCCL on GPUs) and starts the team again when a member dies. It is
not asked to keep checkpoints: the work keeps its own state after each epoch, readable without unpickling, on the disk
that the run folder is on, and takes it up whether the team or the whole program is started again.
"""

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import train
from ray.train.torch import TorchTrainer, prepare_model

from raydistill.errors import EnvironmentIssue, RaydistillError
from raydistill.runtime.base import Team, memory_watched, threads
from raydistill.runtime.on_ray import OnRay
from raydistill.runtime.pool import device, signals_through

FOLDER = "ray_train"


def train_together(
    runtime: OnRay,
    function: Callable[..., None],
    shared: Mapping[str, Any],
    *,
    workers: int,
    cpus: float,
    gpus: float,
    directory: Path,
    max_failures: int,
    accelerator: str | None = None,
) -> None:
    """Call ``function(**shared, device=device, team=team)`` in ``workers`` processes that can reduce gradients together.

    Args:
        runtime: the cluster.
        function: of a module's top level; goes on from its own state when it is called again.
        shared: its arguments, handed over once.
        workers: members of the team at most. It begins with as many as there is room for, and goes on with fewer where a
            machine is lost for good, with more when one joins.
        cpus: cores of a member; its PyTorch threads are this many, at least one.
        gpus: GPUs of a member; 0 for none.
        directory: Ray Train's notes go below it, and are removed at the end.
        max_failures: how often the team is started again after a member died.
        accelerator: the GPUs' type, see ``Share``; ``None``: any.

    Raises:
        ConfigError: the cluster has no room for one member.
        EnvironmentIssue: its nodes do not share the disk, or members died too often.
    """
    runtime.capacity(cpus, gpus, accelerator)
    runtime.release()
    runtime.require_shared(directory)
    for name in ("ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the caller tells what fails
    resources = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    trainer = TorchTrainer(
        _member,
        train_loop_config={"function": function, "shared": ray.put(dict(shared)), "cpus": cpus},
        scaling_config=train.ScalingConfig(
            num_workers=(1, workers) if workers > 1 else 1,  # type: ignore[arg-type]  # annotated as it was without teams that shrink
            use_gpu=gpus > 0,
            resources_per_worker=resources,
            accelerator_type=accelerator,
        ),
        run_config=train.RunConfig(
            name=f"{FOLDER}-{os.getpid()}",
            storage_path=str(directory.absolute()),
            failure_config=train.FailureConfig(max_failures=max_failures),
        ),
    )
    try:
        with signals_through():
            trainer.fit()
    except train.TrainingFailedError as error:
        raise _cause(error, max_failures) from error
    finally:
        for left in directory.glob(f"{FOLDER}-*"):
            shutil.rmtree(left, ignore_errors=True)


def _member(config: Mapping[str, Any]) -> None:
    context = train.get_context()
    place = device()

    def wrap(net: Any) -> Any:
        return prepare_model(net, move_to_device=False)

    def report(numbers: Mapping[str, float]) -> None:
        train.report(dict(numbers))

    team = Team(context.get_world_rank(), context.get_world_size(), wrap, report)
    with threads(config["cpus"]), memory_watched():
        config["function"](**ray.get(config["shared"]), device=place, team=team)


def _cause(error: Exception, max_failures: int) -> Exception:
    """What a person can mend, of the failures of all members; a bug stays what it is."""
    failures = list(getattr(error, "worker_failures", {}).values())
    for failure in failures:
        for one in (failure, failure.__cause__, getattr(failure, "cause", None)):
            if isinstance(one, RaydistillError):
                return one
    if any(isinstance(failure, ray.exceptions.RayActorError) for failure in failures) or not failures:
        return EnvironmentIssue(
            f"training together: a process or its machine was lost {max_failures + 1} times (out of memory?); go on with "
            "--resume, with fewer nas.workers or a larger budget.max_failures"
        )
    return error
