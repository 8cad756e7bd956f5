"""How hard each real image is, the mean over a few networks after a little training (Paul et al., NeurIPS 2021).

EL2N is the length of the error vector, ‖softmax(f(x)) − onehot(y)‖₂. GraNd is the length of the loss's gradient; of the
last layer alone, where it is EL2N · √(1 + ‖e‖²) with e the embedding, as in the orderings that PAD's authors used.

Shapes: N images, C classes, E the embedding's length.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from raydistill import artifacts, storage
from raydistill.config import Config
from raydistill.data.images import DeviceImages
from raydistill.data.load import TrainData
from raydistill.errors import ArtifactError
from raydistill.models import build
from raydistill.models.fit import Fit, Recipe, at_once
from raydistill.seeding import derive

KIND = "difficulty scores"


class DifficultyConfig(Config):
    """Which score, and the networks that it is the mean over."""

    score: Literal["el2n", "grand"] = "el2n"
    "The norm of the error vector, or of the loss's gradient (Paul et al., NeurIPS 2021)."
    networks: int = Field(3, ge=1)
    "Networks, each trained on its own."
    steps: int = Field(200, ge=0)
    "Training steps of each before it scores."
    recipe: Recipe = Recipe()
    "How they are trained."


def el2n(logits: Tensor, labels: Tensor) -> Tensor:
    """‖softmax(logits) − onehot‖₂ per image: logits [N, C], labels int64 [N] → [N]."""
    errors: Tensor = logits.softmax(1) - F.one_hot(labels, logits.shape[1])
    return errors.square().sum(1).sqrt()


def grand(logits: Tensor, embedding: Tensor, labels: Tensor) -> Tensor:
    """Length of the cross entropy's gradient in the last layer's weight and bias, per image; embedding [N, E] → [N]."""
    return el2n(logits, labels) * (1 + embedding.square().sum(1)).sqrt()


def score_item(
    *, data: TrainData, config: DifficultyConfig, network: str, seed: int, index: int, directory: str, device: str
) -> None:
    """Train network ``index``, score every training image and store the scores; nothing to do where they are stored."""
    path = storage.place(directory)
    with artifacts.alone(path.parent / f".{path.name}.lock"):  # another search may want the same
        if readable(path):
            return
        real = DeviceImages(data.train, data.encoding, device)
        net = build(network, real.shape, len(real.classes), derive(seed, "difficulty", index), device)
        Fit(net, real, config.recipe, derive(seed, "difficulty fit", index)).run(config.steps)
        artifacts.save_folder(path, KIND, {"config": config.to_json()}, {"scores": scores(net, real, config.score)})


def scores(net: Any, real: DeviceImages, score: str, batch: int = 250) -> Tensor:
    """The score of every image by one network, float32 [N] on the CPU; small is easy."""
    parts = []
    net.eval()
    with torch.inference_mode():
        for indices in torch.split(torch.arange(len(real)), at_once(real.pixels, batch)):
            found, labels = net.features(real.take(indices)), real.labels[indices]
            one = el2n(found.logits, labels) if score == "el2n" else grand(found.logits, found.embedding, labels)
            parts.append(one.float().cpu())
    return torch.cat(parts)


def readable(path: Path) -> bool:
    """Whether whole scores are stored there; damaged ones are not, and will be made again."""
    try:
        artifacts.load_folder(path, KIND)
    except ArtifactError:
        return False
    return True


def mean_scores(directories: Iterable[Path]) -> Tensor:
    """The mean over the networks' stored scores, float64 [N]."""
    found = [artifacts.load_folder(path, KIND)[1]["scores"].double() for path in directories]
    return torch.stack(found).mean(0)
