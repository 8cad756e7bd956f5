"""PAD's curriculum: which images an expert sees in each epoch, by their difficulty (Li et al. 2024, section 3.1).

Each class is sorted from easy to hard. At first an expert sees the easiest share of each class, growing to all of it;
later the easiest are left out. Shares are of each class's own size, so any class sizes and imbalance do;
``CurriculumConfig.over`` gives PAD's proportions for any number of epochs.

Shapes: N images, C classes.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from pydantic import Field, model_validator

from raydistill.config import Config


class CurriculumConfig(Config):
    """When images come and go; epochs are the trajectory's, counted from 0. The defaults are PAD's, for 100 epochs."""

    init_ratio: float = Field(0.75, gt=0, le=1)
    "Easiest share of each class in epoch 0."
    add_end_epoch: int = Field(20, ge=0)
    "From this epoch on all images are seen; the share grows linearly to it."
    rm_epoch_first: int = Field(40, ge=0)
    "After this epoch the easiest are left out …"
    rm_easy_ratio_first: float = Field(0.1, ge=0, lt=1)
    "… this share of them."
    rm_epoch_second: int = Field(60, ge=0)
    "After this epoch …"
    rm_easy_ratio_second: float = Field(0.2, ge=0, lt=1)
    "… this share."

    @model_validator(mode="after")
    def _ordered(self) -> "CurriculumConfig":
        if not self.add_end_epoch <= self.rm_epoch_first <= self.rm_epoch_second:
            raise ValueError(
                f"add_end_epoch={self.add_end_epoch}, rm_epoch_first={self.rm_epoch_first} and "
                f"rm_epoch_second={self.rm_epoch_second} must not descend"
            )
        return self

    @classmethod
    def over(cls, epochs: int) -> "CurriculumConfig":
        """The defaults in proportion for trajectories of another number of epochs."""
        names = ("add_end_epoch", "rm_epoch_first", "rm_epoch_second")
        return cls(**{name: round(epochs * cls.model_fields[name].default / 100) for name in names})

    def ranks(self, epoch: int, size: int) -> tuple[int, int]:
        """The ranks seen of a class of ``size`` in ``epoch``, 0 the easiest: from the first up to, not with, the second.

        At least one image is always seen.
        """
        low, high = 0, size
        if epoch < self.add_end_epoch:
            start = _exact(self.init_ratio)
            high = int((start + (1 - start) * Fraction(epoch, self.add_end_epoch)) * size)
        elif epoch > self.rm_epoch_second:
            low = int(_exact(self.rm_easy_ratio_second) * size)
        elif epoch > self.rm_epoch_first:
            low = int(_exact(self.rm_easy_ratio_first) * size)
        return low, max(high, low + 1)


def seen(config: CurriculumConfig | None, epoch: int, scores: np.ndarray, by_class: Sequence[np.ndarray]) -> np.ndarray:
    """Indices int64 of the images that an expert sees in ``epoch``, ascending.

    Args:
        config: the curriculum; ``None``: always all.
        epoch: counted from 0.
        scores: difficulty [N], small for easy; ties go by index.
        by_class: for each class the ascending indices of its images.
    """
    if config is None:
        return np.sort(np.concatenate(by_class))
    parts = []
    for members in by_class:
        low, high = config.ranks(epoch, len(members))
        easiest_first = members[np.argsort(scores[members], kind="stable")]
        parts.append(easiest_first[low:high])
    return np.sort(np.concatenate(parts))


def _exact(ratio: float) -> Fraction:
    # The decimal that was written, not its nearest binary fraction: floor(0.7·10) is 7.
    return Fraction(str(ratio))
