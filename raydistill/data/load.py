"""From a name to images: the training part (split into train and validation) and, apart from it, the test part.

The two are separate calls on purpose. A search is handed what ``load_train`` returns and nothing else, so nothing in
it can read the test set; only the final table calls ``load_test``.
"""

from pathlib import Path
from typing import NamedTuple

from pydantic import Field, SerializeAsAny

from raydistill import registry
from raydistill.config import Config
from raydistill.data.images import ImageSet, Normaliser


class DataConfig(Config):
    """Which real data, and how they are divided."""

    source: str = "digits"
    "A name from the registry of data sources: digits, MNIST, FashionMNIST, KMNIST, CIFAR10, CIFAR100, SVHN, folder."
    path: Path | None = None
    "For the source ``folder``: a folder with train/CLASS/*.png and test/CLASS/*.png."
    image_size: int | None = Field(None, ge=8, le=1024)
    "For the source ``folder``: resize to this side in pixels; required when sizes differ."
    val_fraction: float = Field(0.1, gt=0, lt=1)
    "Share of the training images kept for selection, the same share of every class."
    split_seed: int = 0
    "Seed of the split; apart from the search's seed, so that several seeds share one split."
    zca: bool = False
    "Whiten with ZCA fitted on the training images, instead of standardising each channel."
