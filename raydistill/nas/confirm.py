"""The end of the study: a network trained on all training images, alone or by several processes together.

The state after every epoch is on the disk; whoever is killed, the next start goes on from there and ends with the same
bytes. A team of several trains on the same batches as one process would, each on its part, with the same augmentation.
"""

import time
from collections.abc import Mapping
from typing import Any

import torch

from raydistill import artifacts, storage
from raydistill.artifacts import COMPLETED, DIVERGED, Unit
from raydistill.data.images import DeviceImages
from raydistill.data.load import TrainData
from raydistill.errors import ArtifactError
from raydistill.evaluate import trained
from raydistill.evaluate.protocol import Protocol
from raydistill.models import build
from raydistill.models.fit import Fit, accuracy
from raydistill.models.flops import training_flops
from raydistill.runtime.base import Team
from raydistill.seeding import derive

STATE = "training state"
ALONE = Team()


def train_full(
    *,
    data: TrainData,
    network: str,
    protocol: Protocol,
    seed: int,
    fingerprint: str,
    directory: str,
    device: torch.device | str = "cpu",
    team: Team = ALONE,
) -> None:
    """Train a network by a protocol, from its last state if it has one; ``directory/network`` is the result.

    Args:
        data: trained on its training images; the validation images are judged after each epoch.
        network: its name.
        protocol: how, and for how many epochs.
        seed: names its initialisation, permutations and augmentation draws.
        fingerprint: of all this; a state of another one is not taken up.
        directory: of the unit, on a disk that all processes see, or an address.
        device: where.
        team: who trains it.
    """
    _Training(data, network, protocol, seed, fingerprint, Unit(storage.place(directory)), device, team).run()


def finish(unit: Unit, about: Mapping[str, Any]) -> None:
    """Record in the unit what became of a training that has ended.

    Raises:
        ArtifactError: there is no result; the processes write somewhere else.
    """
    storage.fetch(unit.directory)
    manifest = trained.load(unit.directory / "network").manifest
    metrics = {"val_accuracy": manifest["val_accuracy"], "seconds": manifest["seconds"]}
    unit.finish(
        manifest["status"],
        metrics,
        step=manifest["passes"],
        seconds=manifest["seconds"],
        flops=manifest["flops"],
        message=manifest["message"],
        workers=manifest["workers"],
        **({"classes": manifest["classes"]} if len(manifest["classes"]) == 2 else {}),
        **about,
    )


class _Training:
    def __init__(
        self,
        data: TrainData,
        network: str,
        protocol: Protocol,
        seed: int,
        fingerprint: str,
        unit: Unit,
        device: torch.device | str,
        team: Team,
    ) -> None:
        self.data, self.network, self.protocol, self.fingerprint = data, network, protocol, fingerprint
        self.unit, self.team = unit, team
        storage.fetch(unit.directory)
        real = DeviceImages(data.train, data.encoding, device)
        self.val = DeviceImages(data.val, data.encoding, device)
        self.net = build(network, real.shape, len(real.classes), derive(seed, "network"), device)
        self.rates = protocol.rates()
        self.done, self.seconds, self.judged = 0, 0.0, 0.0
        known = self._stored()
        if known is not None:  # before the team meets: its first member writes the next state only after that
            self.net.load_state_dict({k.removeprefix("net."): v for k, v in known[1].items() if k.startswith("net.")})
        self.fit = Fit(team.wrap(self.net), real, protocol, derive(seed, "fit"), team.rank, team.size)
        if known is not None:
            about, tensors = known
            self.done, self.seconds, self.judged = about["passes"], about["seconds"], about["val_accuracy"]
            self.fit.set_rate(self.rates[self.done - 1])
            self.fit.go_on(about["step"], [tensors[f"momentum.{i}"] for i in range(len(list(self.net.parameters())))])

    def run(self) -> None:
        """Train to the end, or until the network has diverged."""
        while self.done < len(self.rates) and self._finite():
            begun = time.monotonic()
            if self.done and self.rates[self.done] != self.rates[self.done - 1]:
                self.fit.set_rate(self.rates[self.done])
            loss = self.fit.run(self.fit.steps_per_epoch)
            self.done += 1
            if self.team.rank == 0:
                self.judged = accuracy(self.net, self.val)
                self.seconds += time.monotonic() - begun
                self._note(loss)
            self.team.report({"epoch": float(self.done), "val_accuracy": self.judged})
        if self.team.rank == 0:
            self._store()

    def _finite(self) -> bool:
        """The same in every member: what is no number in one has spread to all with the gradient."""
        return all(bool(parameter.isfinite().all()) for parameter in self.net.parameters())

    def _note(self, loss: float) -> None:
        self.unit.rewind(self.done - 1)
        numbers = {"loss": loss, "val_accuracy": self.judged, "seconds": round(self.seconds, 3)}
        self.unit.log(self.done, {**numbers, "workers": self.team.size})
        about = {
            "fingerprint": self.fingerprint,
            "passes": self.done,
            "step": self.fit.step,
            "seconds": self.seconds,
            "val_accuracy": self.judged,
        }
        tensors = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        tensors |= {f"momentum.{i}": tensor for i, tensor in enumerate(self.fit.momenta())}
        artifacts.save_folder(self.unit.directory / "state", STATE, about, tensors)

    def _stored(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
        try:
            about, tensors = artifacts.load_folder(self.unit.directory / "state", STATE)
        except ArtifactError:  # none yet, or damaged: from the start
            return None
        return (about, tensors) if about["fingerprint"] == self.fingerprint else None

    def _store(self) -> None:
        shape, classes = self.data.train.shape, self.data.train.classes
        finite = self._finite()
        manifest = {
            "network": self.network,
            "shape": list(shape),
            "classes": list(classes),
            "protocol": self.protocol.to_json(),
            "fingerprint": self.fingerprint,
            "status": COMPLETED if finite else DIVERGED,
            "message": "" if finite else f"parameters are no numbers after pass {self.done}; lower nas.protocol.lr",
            "val_accuracy": self.judged,
            "passes": self.done,
            "workers": self.team.size,
            "seconds": self.seconds,
            "flops": self.done * len(self.data.train) * training_flops(self.network, shape, len(classes)),
        }
        trained.save(self.unit.directory / "network", self.net, self.data.encoding, manifest)
        artifacts.remove(self.unit.directory / "state")
