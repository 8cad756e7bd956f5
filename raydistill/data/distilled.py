"""A distilled set: the few images that a method made, in pixel space, as a ``torch.utils.data.Dataset``.

    from raydistill import DistilledSet
    train = DistilledSet.load("runs/datadam_mnist")
    image, label = train[0]            # network input [K, H, W], class

Needs torch alone: no Ray, no MLflow.

Shapes: n stored images, K channels, H×W pixels, C classes, f the multi-formation factor.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from raydistill import artifacts, storage
from raydistill.data import formation, stored_encoding
from raydistill.data.images import Encoding
from raydistill.errors import ArtifactError, ConfigError

KIND = "distilled set"
OF_RUN = Path("units/distill/final/set")
"Where a run folder has its result."


class DistilledSet(Dataset[tuple[Tensor, Tensor]]):
    """Synthetic images with labels and the encoding that they were made for.

    Args:
        pixels: float32 [n, K, H, W]; 0 is black and 1 is white, values outside are meant (methods use them).
        labels: int64 [n], sorted.
        encoding: pixel space → network input.
        classes: the C class names.
        factor: f; each stored image is trained on as f² up-sampled ones.
        manifest: where it comes from: resolved config, seeds, versions, measured accuracies.
        logits: learned label logits float32 [n, C], whose softmax students train on; ``None``: hard labels.
        student_lr: the learning rate that students should have, where one was learned.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor,
        encoding: Encoding,
        classes: tuple[str, ...],
        factor: int = 1,
        manifest: Mapping[str, Any] | None = None,
        logits: Tensor | None = None,
        student_lr: float | None = None,
    ) -> None:
        if pixels.ndim != 4 or len(pixels) != len(labels):
            raise ValueError(f"pixels {tuple(pixels.shape)} and labels {tuple(labels.shape)} do not belong together")
        self.pixels = pixels.detach().to("cpu", torch.float32)
        self.labels = labels.detach().to("cpu")
        self.encoding = encoding
        self.classes = tuple(classes)
        self.factor = factor
        self.manifest = dict(manifest or {})
        self.logits = None if logits is None else logits.detach().clone().to("cpu", torch.float32)
        self.student_lr = student_lr

    def __len__(self) -> int:
        return len(self.pixels) * self.factor**2

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Network input [K, H, W] and target of the ``index``-th training image: a class, or probabilities [C]."""
        stored, part = divmod(range(len(self))[index], self.factor**2)
        inputs = formation.expand(self.encoding.encode(self.pixels[stored : stored + 1]), self.factor)
        return inputs[part], self.labels[stored] if self.logits is None else self.logits[stored].softmax(0)

    def inputs(self) -> Tensor:
        """All training images as networks see them: float32 [n·f², K, H, W]."""
        return formation.expand(self.encoding.encode(self.pixels), self.factor)

    def targets(self) -> Tensor:
        """What ``inputs()`` are trained towards: classes int64 [n·f²], or with soft labels probabilities [n·f², C]."""
        targets = self.labels if self.logits is None else self.logits.softmax(1)
        return formation.expand_labels(targets, self.factor)

    def with_hard_labels(self) -> "DistilledSet":
        """The same images, and rate of students, with the classes as labels."""
        one, rest = (self.pixels, self.labels, self.encoding, self.classes, self.factor), self.manifest
        return DistilledSet(*one, rest, student_lr=self.student_lr)

    def save(self, path: Path | str) -> None:
        """Write the artefact folder atomically."""
        about, matrices = stored_encoding.stored(self.encoding)
        described = {
            **self.manifest,
            **about,
            "classes": list(self.classes),
            "factor": self.factor,
            "shape": list(self.pixels.shape),
            "student_lr": self.student_lr,
        }
        tensors = {"pixels": self.pixels, "labels": self.labels, **matrices}
        if self.logits is not None:
            tensors["logits"] = self.logits
        artifacts.save_folder(storage.place(path), KIND, described, tensors)

    @classmethod
    def load(cls, path: Path | str) -> "DistilledSet":
        """Read a set's folder, or that of a run whose set it is; of a disk or at an address such as ``s3://BUCKET/runs/NAME``.

        Raises:
            ArtifactError: missing, damaged, or not a distilled set.
        """
        folder = storage.place(path)
        of_run = folder / OF_RUN
        storage.fetch(of_run)
        manifest, tensors = artifacts.load_folder(of_run if artifacts.folder_exists(of_run) else folder, KIND)
        try:
            encoding = stored_encoding.read(manifest, tensors)
            if not all(0 <= label < len(manifest["classes"]) for label in tensors["labels"].tolist()):
                raise ValueError(f"labels beyond its {len(manifest['classes'])} classes")
            return cls(
                tensors["pixels"],
                tensors["labels"],
                encoding,
                tuple(manifest["classes"]),
                int(manifest["factor"]),
                manifest,
                tensors.get("logits"),
                manifest.get("student_lr"),
            )
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise ArtifactError(f"{path} is no whole {KIND} ({error}); make it again") from error

    @staticmethod
    def annotate(path: Path | str, **facts: Any) -> None:
        """Add facts that became known later (measured accuracies) to a stored set's manifest.

        Raises:
            ArtifactError: there is no such set.
        """
        file = storage.place(path) / artifacts.MANIFEST
        artifacts.write_json(file, {**artifacts.read_json(file), **facts})
