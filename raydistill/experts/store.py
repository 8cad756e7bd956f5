"""The cache of expert trajectories: one entry for each identity, shared by all searches whose run folders lie side by side.

An entry's name is the fingerprint of everything that its trajectories depend on: the images themselves, network,
curriculum, optimiser, augmentation, seed. How many there are and how long is not in it: more and longer ones are added.
"""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

from raydistill import artifacts, storage
from raydistill.config import fingerprint
from raydistill.data.load import TrainData
from raydistill.errors import ArtifactError, ConfigError
from raydistill.experts.trajectory import ExpertConfig, Place, Trajectory, covers, finished

FOLDER = "_experts"
"Beside the run folders; no search can be named so."

ENTRY = "entry.json"

ASK_SECONDS = 0.5
"Between two looks for a trajectory that is being trained."

PATIENCE = 1800.0
"Seconds without a new epoch of any trajectory after which one is no longer waited for."

ALGORITHM = 1
"Raised when the same settings train to other numbers than before; old trajectories are then not taken for new ones."


def beside(run: Path) -> Path:
    """The cache that a run uses."""
    return run.parent / FOLDER


def entry(cache: Path, config: ExpertConfig, network: str, data: TrainData) -> Place:
    """Where the trajectories of this identity are."""
    return Place(cache / fingerprint(identity(config, network, data)))


def identity(config: ExpertConfig, network: str, data: TrainData) -> dict[str, Any]:
    """Everything that a trajectory depends on but its index."""
    return {
        "algorithm": ALGORITHM,
        "experts": config.identity(),
        "network": network,
        "images": data.train.digest(),
        "zca": bool(data.config and data.config.zca),
        "source": None if data.config is None else data.config.source,
    }


class Arriving(Sequence[Trajectory]):
    """Trajectories that others are still training; asking for one waits until it is whole, from ``first`` to ``epochs``."""

    def __init__(self, place: Place, count: int, first: int, epochs: int) -> None:
        self.place, self.size, self.first, self.epochs = place, count, first, epochs
        self.there: dict[int, Trajectory] = {}
        self._stood: list[str] = []
        self._since = self._looked = time.monotonic()

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> Trajectory: ...
    @overload
    def __getitem__(self, index: slice) -> list[Trajectory]: ...
    def __getitem__(self, index: int | slice) -> Trajectory | list[Trajectory]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.size))]
        if not 0 <= index < self.size:
            raise IndexError(index)
        path = self.place.trajectory(index)
        while index not in self.there:
            storage.fetch(path)
            manifest = finished(path)
            if manifest is None and artifacts.folder_exists(path):
                # What was damaged before is gone since the start; nobody is at work on this one.
                artifacts.remove(path)
                raise ArtifactError(f"{path} was damaged; train it again with `raydistill experts`")
            if manifest is not None and covers(manifest, self.first, self.epochs):
                self.there[index] = Trajectory(path)
            else:
                self._look()
                time.sleep(ASK_SECONDS)
        return self.there[index]

    def _look(self) -> None:
        """Find out now and then whether anybody is at work: the last place may be the one that waits here.

        Raises:
            ArtifactError: no epoch of any trajectory has been stored for ``PATIENCE``.
        """
        now = time.monotonic()
        if now - self._looked < PATIENCE / 60:
            return
        self._looked = now
        root = self.place.root
        stands = storage.below(root) if storage.mirrored(root) else [f"{at} {names}" for at, _, names in os.walk(root)]
        stands.sort()
        if stands != self._stood:
            self._stood, self._since = stands, now
        elif now - self._since > PATIENCE:
            raise ArtifactError(f"no epoch of an expert was stored in {PATIENCE / 60:g} minutes")


def named(config: Any, data: TrainData) -> dict[str, str]:
    """What a set is made from beside the data: ``experts``, their entry in the cache; empty for a method without."""
    experts: ExpertConfig | None = getattr(config, "experts", None)
    return {} if experts is None else {"experts": entry(Path(), experts, config.network, data).root.name}


def open_all(config: Any, data: TrainData, cache: Path | None, wait: bool = False) -> Sequence[Trajectory] | None:
    """The trajectories that a method's Config asks for; ``None`` for a method without experts.

    Args:
        config: the method's.
        data: what they were trained on.
        cache: where they are.
        wait: they are being trained at this moment: what is not there yet is waited for when it is read.

    Raises:
        ArtifactError: they have not been trained.
    """
    experts: ExpertConfig | None = getattr(config, "experts", None)
    if experts is None:
        return None
    if cache is None:
        raise ArtifactError("this method matches experts; say in which cache they are")
    place = entry(cache, experts, config.network, data)
    if wait:
        return Arriving(place, experts.count, config.min_start_epoch, config.epochs_read)
    storage.fetch(place.root)
    missing = [index for index in range(experts.count) if not artifacts.folder_exists(place.trajectory(index))]
    if missing:
        raise ArtifactError(
            f"{len(missing)} of {experts.count} experts are not in {storage.shown(place.root)}; "
            "train them with `raydistill experts`"
        )
    return [Trajectory(place.trajectory(index)) for index in range(experts.count)]


class Listed(NamedTuple):
    """One entry of the cache, as a person sees it."""

    path: Path
    about: dict[str, Any]
    whole: int
    "Trajectories."
    damaged: tuple[str, ...]
    "Names of those that do not match their checksum."
    epochs: int
    "Of the longest."
    accuracy: float | None
    "Mean over the whole trajectories' ends, on validation images; ``None`` without one."
    bytes: int


def listed(cache: Path) -> Iterator[Listed]:
    """Every entry, read and checked."""
    storage.fetch(cache)
    for file in sorted(cache.glob(f"*/{ENTRY}")):
        folder = file.parent
        stored = sorted(path for path in folder.glob("[0-9][0-9][0-9][0-9]*") if path.is_dir())
        found = {path.name: finished(path) for path in stored}
        size = storage.size(folder)
        good = [manifest for manifest in found.values() if manifest]
        damaged = tuple(name for name, manifest in found.items() if manifest is None)
        ends = [manifest["accuracies"][-1] for manifest in good]
        accuracy = sum(ends) / len(ends) if ends else None
        epochs = max((manifest["epochs"] for manifest in good), default=0)
        yield Listed(folder, artifacts.read_json(file), len(good), damaged, epochs, accuracy, size)


def prune(entries: Sequence[Listed]) -> int:
    """Remove entries; returns the bytes that are free again.

    Raises:
        ConfigError: a process of this machine is training one of them; none is removed.
    """
    for one in entries:
        place = Place(one.path)
        locks = *place.lock(0).parent.glob("*"), *place.scores(0).parent.glob(".*.lock")
        if any(map(storage.held, locks)):
            raise ConfigError(f"{one.path.name} is being trained at this moment; wait for that, or end it")
    for one in entries:
        artifacts.remove(one.path)
    return sum(one.bytes for one in entries)
