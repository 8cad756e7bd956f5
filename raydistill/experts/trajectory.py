"""Expert trajectories: a network's parameters at the start and after each epoch of training on the real set (MTT, 2022).

A trajectory is a function of (settings, data, network, seed, index) alone: it is the same wherever and whenever it is
trained. After each epoch its state is stored; killed at any moment and called again it goes on from there and ends with
the same bytes. Epochs before the first that matching can read are trained, for the later ones follow from them, and not
kept: of those only the last state is, while training goes on.

Shapes: P parameters, E epochs, F the first epoch that is kept, N real images.
"""

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, field_validator
from safetensors import SafetensorError, safe_open
from torch import Tensor

from raydistill import artifacts, storage
from raydistill.artifacts import alone
from raydistill.config import Config
from raydistill.data.images import DeviceImages, ImageSet
from raydistill.data.load import TrainData
from raydistill.errors import ArtifactError, ConfigError, EnvironmentIssue
from raydistill.experts import curriculum
from raydistill.experts.curriculum import CurriculumConfig
from raydistill.experts.difficulty import DifficultyConfig, mean_scores
from raydistill.models import build, flat
from raydistill.models.fit import Fit, Recipe, accuracy
from raydistill.models.flat import Layout
from raydistill.seeding import derive, torch_generator

KIND, STATE = "expert trajectory", "expert's state"
LOCKS = ".locks"
"In an entry of the cache: a file for each trajectory, held by who trains it."

JUDGED_ON = 1000
"Validation images that an expert's accuracy is taken on after each epoch; all of them would cost as much as training."


EXPERT = Recipe(momentum=0, weight_decay=0)
"MTT's experts: plain SGD, expert_lr 0.01, batch 256, DSA."


class ExpertConfig(Config):
    """How experts are trained and kept; everything here names the cache, so searches that agree in it share experts."""

    count: int = Field(10, ge=1)
    "Trajectories that matching draws from."
    seed: int = 0
    "Of the experts; apart from the search's, so that searches of several seeds share them."
    recipe: Recipe = EXPERT
    "Plain SGD, expert_lr 0.01; ``sharpness`` gives FTD's flat minima."
    epoch_steps: int | None = Field(None, ge=1)
    """Steps from one snapshot to the next; ``None``: a whole pass. Small for easy sets and small machines: curriculum and start
    ranges count these epochs."""
    epochs: int | None = Field(None, ge=1)
    "Epochs trained; ``None``: as many as matching can read. Those before its first start epoch are not stored."
    storage: Literal["float32", "float16", "bfloat16"] = "float32"
    "Of the stored parameters."
    curriculum: CurriculumConfig | None = None
    "PAD's; ``None``: every epoch sees everything (MTT, DATM)."
    difficulty: DifficultyConfig = DifficultyConfig()
    "The order that the curriculum goes by."

    @field_validator("recipe")
    @classmethod
    def _stateless(cls, recipe: Recipe) -> Recipe:
        if recipe.momentum:
            raise ValueError(f"momentum={recipe.momentum:g}: a snapshot is all of an expert's state; use momentum=0")
        return recipe

    def identity(self) -> dict[str, Any]:
        """What a single trajectory depends on: not how many there are, nor which epochs of them are kept."""
        about = self.to_json()
        for name in ("count", "epochs", *(() if self.curriculum else ("difficulty",))):
            del about[name]
        return about


class Trajectory:
    """A stored trajectory, read piece by piece: nothing is loaded but the snapshots that are asked for.

    Args:
        path: its folder.

    Raises:
        ArtifactError: missing, or of another kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()

    def _open(self) -> None:
        storage.fetch_folder(self.path)
        self.manifest = artifacts.read_json(self.path / artifacts.MANIFEST)
        if self.manifest.get("kind") != KIND:
            raise ArtifactError(f"{self.path} holds no {KIND}; train it again with `raydistill experts`")
        self.layout = Layout.from_json(self.manifest["layout"])
        self.first: int = _first_of(self.manifest)
        self.epochs: int = self.manifest["epochs"]

    def snapshot(self, epoch: int) -> Tensor:
        """Parameters float32 [P] after ``epoch`` epochs, from ``first`` to ``epochs``; a memory-mapped slice of the file.

        A longer trajectory that another search has put in this one's place meanwhile holds the same epochs.

        Raises:
            ArtifactError: the file is gone, or damaged; it is checked when it is first read, and when it has changed since.
                A damaged one is removed, so that it will be trained again, unless the run's storage has a good one.
        """
        try:
            return self._read(epoch)
        except ArtifactError as error:
            before = self.manifest
            try:
                self._open()
            except ArtifactError:
                raise error from None
            try:
                return self._read(epoch)
            except ArtifactError:
                if self.manifest == before:
                    artifacts.remove(self.path)
                raise

    def _read(self, epoch: int) -> Tensor:
        file = self.path / artifacts.TENSORS
        try:
            if storage.known_checksum(file) != self.manifest["checksums"][artifacts.TENSORS]:
                raise ArtifactError(
                    f"{file} was damaged (its checksum differs); train it again with `raydistill experts`"
                )
            with safe_open(file, framework="pt") as opened:
                found: Tensor = opened.get_slice("parameters")[epoch - self.first]
        except FileNotFoundError:
            raise ArtifactError(f"{file} is gone; train it again with `raydistill experts`") from None
        except OSError as error:
            raise EnvironmentIssue(f"cannot read {file} ({error})") from None
        except SafetensorError as error:
            raise ArtifactError(f"{file} was damaged ({error}); train it again with `raydistill experts`") from None
        return found.to(torch.float32)


class Place(NamedTuple):
    """Where one cache entry (all trajectories of equal identity) keeps its things."""

    root: Path

    def trajectory(self, index: int) -> Path:
        """Of the finished trajectory."""
        return self.root / f"{index:04d}"

    @property
    def parts(self) -> Path:
        """Of all that is being trained."""
        return self.root / "parts"

    def part(self, index: int, epoch: int) -> Path:
        """Of the state after ``epoch`` epochs, while it is trained."""
        return self.parts / f"{index:04d}" / f"{epoch:04d}"

    def sweep(self, index: int) -> None:
        """Remove what kills in the middle of writing have left of a trajectory; for who holds its lock."""
        for left in (*self.root.glob(f".{index:04d}.*.tmp"), *self.part(index, 0).parent.glob(".*.tmp")):
            shutil.rmtree(left, ignore_errors=True)

    def lock(self, index: int) -> Path:
        """Held by who trains a trajectory."""
        return self.root / LOCKS / f"{index:04d}"

    def clear(self, index: int) -> None:
        """Remove the parts of a whole trajectory that a kill has left beside it, unless it is being trained further."""
        if self.part(index, 0).parent.is_dir() and not storage.held(self.lock(index)):
            with alone(self.lock(index)):
                artifacts.remove(self.part(index, 0).parent)

    def scores(self, index: int) -> Path:
        """Of one network's difficulty scores."""
        return self.root / "difficulty" / f"{index:04d}"


def train_item(
    *,
    data: TrainData,
    config: ExpertConfig,
    network: str,
    epochs: int,
    root: str,
    index: int,
    device: str,
    first: int = 0,
) -> dict[str, Any]:
    """Train trajectory ``index`` to ``epochs`` epochs as a piece of work and keep those from ``first`` on.

    What is there already is not done again, and epochs that an earlier call has kept are kept.

    Returns:
        ``accuracies`` and ``losses`` after each epoch.
    """
    place = Place(storage.place(root))
    with alone(place.lock(index)):
        storage.fetch(place.trajectory(index))
        storage.fetch(place.part(index, 0).parent)
        artifacts.mend(place.trajectory(index))
        known = finished(place.trajectory(index))
        place.sweep(index)
        if known is None or not covers(known, first, epochs):
            known = _Training(data, config, network, place, index, device).run(known, first, epochs)
        artifacts.remove(place.part(index, 0).parent)  # of a kill between the whole trajectory and this, too
    return {"accuracies": known["accuracies"], "losses": known["losses"]}


def finished(path: Path) -> dict[str, Any] | None:
    """The manifest of a whole, undamaged trajectory; ``None`` where there is none."""
    try:
        manifest = artifacts.read_json(path / artifacts.MANIFEST)
        # A store has the tensors before their manifest; they are brought, and checked, when they are read.
        file = path / artifacts.TENSORS
        whole = storage.mirrored(path) or storage.known_checksum(file) == manifest["checksums"][artifacts.TENSORS]
    except (ArtifactError, OSError, KeyError):
        return None
    return manifest if whole and manifest.get("kind") == KIND else None


def covers(manifest: Mapping[str, Any], first: int, epochs: int) -> bool:
    """Whether a trajectory holds all epochs from ``first`` to ``epochs``."""
    return bool(_first_of(manifest) <= first and epochs <= manifest["epochs"])


def _first_of(manifest: Mapping[str, Any]) -> int:
    """The first epoch that is stored; the cache may hold trajectories from when that was always 0 and not said."""
    return int(manifest.get("first", 0))


def last_part(place: Place, index: int) -> int:
    """The last epoch of a trajectory under way that is stored, 0 if none; cheap enough to ask often."""
    try:
        names = os.listdir(place.part(index, 0).parent)
    except FileNotFoundError:  # not begun; or whole since, and its parts are gone
        return 0
    return max((int(name) for name in names if name.isdigit()), default=0)


def part_numbers(place: Place, index: int, epoch: int) -> dict[str, float]:
    """``val_accuracy`` and ``loss`` after an epoch of a trajectory under way; empty where it is gone."""
    try:
        last = artifacts.read_json(place.part(index, epoch) / artifacts.MANIFEST)["noted"][-1]
    except (ArtifactError, KeyError):
        return {}
    return {"val_accuracy": last["accuracy"], **({} if last["loss"] is None else {"loss": last["loss"]})}


class _Training:
    """One expert under way: what it was after each epoch."""

    def __init__(
        self, data: TrainData, config: ExpertConfig, network: str, place: Place, index: int, device: str
    ) -> None:
        self.config, self.place, self.index, self.network = config, place, index, network
        real = DeviceImages(data.train, data.encoding, device)
        self.val = DeviceImages(_judged(data.val, config.seed), data.encoding, device)
        seed = derive(config.seed, "expert", index)
        net = build(network, real.shape, len(real.classes), derive(seed, "network"), device)
        self.layout = Layout.of(net)
        self.fit = Fit(net, real, config.recipe, derive(seed, "fit"))
        self.order = _Order(config, data.train, place, seed)
        self.first = 0
        self.states: dict[int, Tensor] = {}
        self.noted: list[dict[str, Any]] = []

    def run(self, known: Mapping[str, Any] | None, first: int, epochs: int) -> dict[str, Any]:
        """Train up to ``epochs`` and store the trajectory, from a shorter one or a killed attempt if there is one."""
        self.first = first
        if known is not None:
            self.first, epochs = min(first, _first_of(known)), max(epochs, known["epochs"])
            if _first_of(known) == self.first and self.config.storage == "float32":
                self._take(known)
        while self._restore_next():
            pass
        if not self.noted:
            self._note(math.nan)
        else:
            device = next(self.fit.net.parameters()).device
            flat.load(self.fit.net, self.states[len(self.noted) - 1].to(device))
            self.fit.step = self.noted[-1]["step"]
        for epoch in range(len(self.noted) - 1, epochs):
            self._note(self.fit.visit(self.order.of(epoch)))
        return self._finish()

    def _note(self, loss: float) -> None:
        epoch, judged = len(self.noted), accuracy(self.fit.net, self.val)
        about = {"loss": loss if math.isfinite(loss) else None, "accuracy": judged, "step": self.fit.step}
        vector = flat.flatten(self.fit.net).cpu()
        if not bool(torch.isfinite(vector).all()):
            raise ConfigError(
                f"expert {self.index} diverged in epoch {epoch}: its parameters are no numbers; lower "
                f"distill.experts.recipe.lr, which is {self.config.recipe.lr:g}"
            )
        self.noted.append(about)
        artifacts.save_folder(self.place.part(self.index, epoch), STATE, {"noted": self.noted}, {"parameters": vector})
        self.states[epoch] = vector
        if 0 < epoch <= self.first:
            del self.states[epoch - 1]
            artifacts.remove(self.place.part(self.index, epoch - 1))

    def _take(self, shorter: Mapping[str, Any]) -> None:
        trajectory = Trajectory(self.place.trajectory(self.index))
        self.states = {epoch: trajectory.snapshot(epoch) for epoch in range(trajectory.first, trajectory.epochs + 1)}
        columns = (shorter["losses"], shorter["accuracies"], shorter["steps"])
        self.noted = [{"loss": a, "accuracy": b, "step": c} for a, b, c in zip(*columns, strict=True)]

    def _restore_next(self) -> bool:
        """Read the next epoch's state; where it is missing or damaged, training goes on from the one before."""
        epoch = len(self.noted) or self._first_part()
        try:
            about, tensors = artifacts.load_folder(self.place.part(self.index, epoch), STATE)
            if tensors["parameters"].shape != (self.layout.size,) or len(about["noted"]) != epoch + 1:
                return False
        except (ArtifactError, KeyError):
            return False
        self.noted = about["noted"]
        self.states[epoch] = tensors["parameters"]
        return True

    def _first_part(self) -> int:
        """The earliest stored state, if none that must be kept comes before it."""
        found = [int(path.name) for path in self.place.part(self.index, 0).parent.glob("[0-9]*")]
        return min((epoch for epoch in found if epoch <= self.first), default=0)

    def _finish(self) -> dict[str, Any]:
        dtype: torch.dtype = getattr(torch, self.config.storage)
        manifest = {
            "first": self.first,
            "epochs": len(self.noted) - 1,
            "index": self.index,
            "network": self.network,
            "layout": self.layout.to_json(),
            "config": self.config.identity(),
            "losses": [one["loss"] for one in self.noted],
            "accuracies": [one["accuracy"] for one in self.noted],
            "steps": [one["step"] for one in self.noted],
        }
        stacked = torch.stack([self.states[epoch] for epoch in range(self.first, len(self.noted))]).to(dtype)
        artifacts.save_folder(self.place.trajectory(self.index), KIND, manifest, {"parameters": stacked})
        return manifest


class _Order:
    """Which images an epoch trains on, in which order."""

    def __init__(self, config: ExpertConfig, train: ImageSet, place: Place, seed: int) -> None:
        self.config, self.seed = config, seed
        self.by_class = train.by_class()
        self.scores = np.zeros(len(train))
        if config.curriculum is not None:
            networks = range(config.difficulty.networks)
            self.scores = mean_scores(place.scores(i) for i in networks).numpy()

    def of(self, epoch: int) -> Tensor:
        """Indices int64 of one epoch: permutations of what the curriculum shows, as many as its steps need."""
        shown = torch.from_numpy(curriculum.seen(self.config.curriculum, epoch, self.scores, self.by_class))
        needed = len(shown)
        if self.config.epoch_steps is not None:
            needed = self.config.epoch_steps * self.config.recipe.batch
        rounds = range(math.ceil(needed / len(shown)))
        orders = [torch.randperm(len(shown), generator=torch_generator(self.seed, "order", epoch, r)) for r in rounds]
        return shown[torch.cat(orders)[:needed]]


def _judged(val: ImageSet, seed: int) -> ImageSet:
    if len(val) <= JUDGED_ON:
        return val
    chosen = torch.randperm(len(val), generator=torch_generator(seed, "judged"))[:JUDGED_ON]
    return val.subset(np.sort(chosen.numpy()))
