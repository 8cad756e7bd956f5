"""Numbers about numbers: intervals, and what two-class sets need beside accuracy.

Shapes: N images, C classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's t interval for the mean of independent values; (nan, nan) for fewer than two."""
    from scipy import stats

    if len(values) < 2:
        return float("nan"), float("nan")
    mean, error = float(np.mean(values)), float(stats.sem(values))
    reach = error * float(stats.t.ppf((1 + level) / 2, len(values) - 1))
    return mean - reach, mean + reach


TWO_CLASS = ("balanced_accuracy", "auc", "recall_0", "recall_1", "majority_rate")
"What ``two_class_scores`` gives."


def two_class_scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """What accuracy hides where one class is the larger, for logits [N, 2] and labels [N].

    Returns:
        ``TWO_CLASS``, in [0, 1]: the mean of the classes' recalls, the area under the ROC curve (class 1 positive), the share
        of each class's images that are found, and the accuracy of always answering the larger class.
    """
    from sklearn.metrics import recall_score, roc_auc_score

    truth = labels.numpy()
    recalls = recall_score(truth, logits.argmax(1).numpy(), labels=[0, 1], average=None)
    positive = torch.softmax(logits.double(), 1)[:, 1].numpy()
    values = (recalls.mean(), roc_auc_score(truth, positive), *recalls, np.bincount(truth).max() / len(truth))
    return {name: float(value) for name, value in zip(TWO_CLASS, values, strict=True)}
