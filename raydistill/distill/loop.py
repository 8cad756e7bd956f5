"""The loop around a method: start or go on, report, checkpoint, stop; the same for every method and every runtime.

A distillation lives in a folder: ``initial/`` (the images it began with), ``state/`` (the last checkpoint, only while it
runs) and ``set/`` (the result). Killed at any moment and called again with the same arguments it goes on from the last
checkpoint and ends with the same bytes.
"""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from raydistill import artifacts, provenance, registry
from raydistill.data.distilled import DistilledSet
from raydistill.data.images import DeviceImages
from raydistill.data.load import TrainData
from raydistill.distill.initialise import embedder, initial_images, labels_of
from raydistill.distill.method import Method, MethodConfig
from raydistill.experts import store as experts
from raydistill.experts.trajectory import Trajectory
from raydistill.interrupts import LEAVING
from raydistill.models import build
from raydistill.seeding import derive

STATE_KIND = "distillation state"

EXPLODED = 1e3
"A loss this many times the first one counts as diverged."

LAST_SECONDS = 1.0
"Between checkpoints where the machine is about to be taken away."

WORTH_TELLING = 0.5
"Of the steps: if more of them were skipped, the outcome says so."

Report = Callable[[int, Mapping[str, float], Callable[[], DistilledSet]], bool]
"(step, numbers, the set as it stands) → whether to go on."


class Outcome(NamedTuple):
    """How a distillation ended: a status of ``artifacts``, the last step, the set, and why, or what to know about it.

    ``diverged`` is also one of which every step was skipped.
    """

    status: str
    step: int
    images: DistilledSet
    message: str = ""


def distill(
    config: MethodConfig,
    data: TrainData,
    *,
    seed: int,
    directory: Path,
    device: torch.device | str = "cpu",
    report: Report = lambda step, numbers, images: True,
    report_at: Collection[int] = (),
    checkpoint_seconds: float = 30.0,
    cache: Path | None = None,
    wait: bool = False,
) -> Outcome:
    """Run a distillation to its end, from the start or from its last checkpoint.

    Args:
        config: a method's Config.
        data: the real training data; only ``data.train`` is distilled from.
        seed: names every random draw.
        directory: the distillation's own folder.
        device: where to compute.
        report: called with a step's finite numbers after each in ``report_at`` and after the last; ``False`` ends it as
            stopped. After a resume the steps since the checkpoint are reported again.
        report_at: steps, counted from 1.
        checkpoint_seconds: at least this long between checkpoints; a second at most once ``LEAVING`` is set.
        cache: where the experts are that the method matches, if it does.
        wait: they are being trained meanwhile; those that are not there are waited for when they are drawn.

    Returns:
        The outcome; the set is also stored in ``directory/set``.
    """
    real = DeviceImages(data.train, data.encoding, device)
    method = start(config, real, seed, experts.open_all(config, data, cache, wait))
    fingerprint = artifacts.fingerprint_of(config.fingerprint(), seed)
    manifest, labels = _manifest(config, data, seed), method.labels

    def as_set(images: Tensor, step: int) -> DistilledSet:
        pixels = data.encoding.decode(images.detach().float())
        return DistilledSet(
            pixels,
            labels,
            data.encoding,
            data.train.classes,
            config.factor,
            {**manifest, "step": step},
            logits=method.logits,
            student_lr=method.student_lr,
        )

    def ended(status: str, step: int, message: str = "") -> Outcome:
        images = torch.nan_to_num(method.images) if status == artifacts.DIVERGED else method.images
        return Outcome(status, step, as_set(images, step), message)

    first, first_loss = _resume(method, directory / "state", fingerprint)
    if first == 0:
        as_set(method.images, 0).save(directory / "initial")
    checkpointed = time.monotonic()
    outcome = ended(artifacts.COMPLETED, config.iterations)
    for step in range(first + 1, config.iterations + 1):
        before = method.skipped
        numbers = method.step(step - 1)
        if method.skipped == before and first_loss is None:
            first_loss = numbers["loss"]
        reference = first_loss if method.skipped == before else None
        if why := _diverged(method, step, numbers["loss"], reference, config.iterations):
            outcome = ended(artifacts.DIVERGED, step, why)
            break
        numbers = {name: number for name, number in numbers.items() if math.isfinite(number)}
        done = step == config.iterations
        if (step in report_at or done) and not report(step, numbers, partial(as_set, method.images, step)):
            outcome = ended(artifacts.STOPPED, step)
            break
        if done:
            outcome = ended(
                artifacts.COMPLETED, step, _skips(method, step) if method.skipped > WORTH_TELLING * step else ""
            )
        elif time.monotonic() - checkpointed >= (LAST_SECONDS if LEAVING.is_set() else checkpoint_seconds):
            _checkpoint(method, directory / "state", step, first_loss, fingerprint)
            checkpointed = time.monotonic()
    outcome.images.save(directory / "set")
    artifacts.remove(directory / "state")
    return outcome


def start(
    config: MethodConfig, real: DeviceImages, seed: int, trajectories: Sequence[Trajectory] | None = None
) -> Method:
    """A method at step 0: initial images chosen, labels set, networks to come from named seeds."""
    classes = len(real.classes)

    def network(network_seed: int) -> nn.Module:
        return build(config.network, real.shape, classes, network_seed, real.device)

    embed = None
    if config.init in ("kcenter", "herding"):
        embed = embedder(real, config.augment, seed)
    images = initial_images(config.init, real, config.ipc, config.factor, derive(seed, "init"), embed)
    labels = labels_of(classes, config.ipc, real.device)
    implementation: type[Method] = registry.resolve("method", config.method)
    more = {} if trajectories is None else {"experts": trajectories}
    return implementation(config, real, images, labels, network, derive(seed, "method"), **more)


def _manifest(config: MethodConfig, data: TrainData, seed: int) -> dict[str, Any]:
    """What a set is made of and with."""
    return {
        "config": config.to_json(),
        "seed": seed,
        "data": None if data.config is None else data.config.to_json(),
        "versions": provenance.versions(),
        "git_commit": provenance.git_commit(),
        "parents": experts.named(config, data),
    }


def _diverged(method: Method, step: int, loss: float, first_loss: float | None, iterations: int) -> str:
    """Why a distillation has diverged in a step, empty if it has not; ``first_loss`` is ``None`` for a skipped step."""
    if first_loss is not None:
        if math.isfinite(loss) and loss <= EXPLODED * max(first_loss, 1e-12) and _finite(method):
            return ""
        return f"loss {loss:.4g} at step {step}, first loss {first_loss:.4g}; lower lr_img"
    if method.skipped < iterations:
        return ""
    # What it began with must not pass for a distilled set.
    return f"the set is what it began with, for {_skips(method, step)}; the last loss was {loss:.4g}"


def _skips(method: Method, steps: int) -> str:
    return (
        f"{method.skipped} of {steps} steps were skipped (loss above threshold, or no number); lower syn_lr or raise "
        "threshold"
    )


def _checkpoint(method: Method, path: Path, step: int, first_loss: float | None, fingerprint: str) -> None:
    manifest = {"step": step, "first_loss": first_loss, "fingerprint": fingerprint}
    artifacts.save_folder(path, STATE_KIND, manifest, method.state())


def _resume(method: Method, path: Path, fingerprint: str) -> tuple[int, float | None]:
    """Restore the last checkpoint if it belongs to this very distillation: (step, first loss), or (0, None)."""
    if not artifacts.folder_exists(path):
        return 0, None
    manifest, state = artifacts.load_folder(path, STATE_KIND)
    if manifest.get("fingerprint") != fingerprint:
        return 0, None
    method.restore(state)
    return int(manifest["step"]), manifest["first_loss"]


def _finite(method: Method) -> bool:
    return bool(torch.isfinite(method.images.detach().sum()))
