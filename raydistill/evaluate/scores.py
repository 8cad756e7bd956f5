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


def two_class_scores(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Balanced accuracy and area under the ROC curve (class 1 positive) for logits [N, 2] and labels [N]."""
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    truth = labels.numpy()
    positive = torch.softmax(logits.double(), 1)[:, 1].numpy()
    return {
        "balanced_accuracy": float(balanced_accuracy_score(truth, logits.argmax(1).numpy())),
        "auc": float(roc_auc_score(truth, positive)),
    }
