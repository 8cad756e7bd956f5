"""The stratified division of training images into those that train and those that select."""

import numpy as np

from raydistill import seeding
from raydistill.data.images import ImageSet
from raydistill.errors import DataError


def split(images: ImageSet, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide every class alike.

    A class of n images gives max(1, round(``fraction``·n)) to validation, and keeps at least one. Each class has its
    own random stream, so a class divides the same whatever the others are.

    Args:
        images: the training part.
        fraction: in (0, 1).
        seed: equal seeds divide equally.

    Returns:
        (training indices, validation indices), int64, ascending, disjoint, together all.

    Raises:
        DataError: a class with fewer than two images.
    """
    chosen = np.zeros(len(images), dtype=bool)
    for label, members in enumerate(images.by_class()):
        count = len(members)
        if count < 2:
            raise DataError(
                f"class {images.classes[label]!r} has {count} training image(s), and 2 or more are needed: one to "
                f"train on and one to select with; add images, or take the class out"
            )
        kept = min(max(1, round(fraction * count)), count - 1)
        order = seeding.numpy_generator(seed, "split", label).permutation(count)
        chosen[members[order[:kept]]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
