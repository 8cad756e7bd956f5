"""Numbers about numbers: intervals, what two-class sets need beside accuracy, and DD-Ranking's scores.

DD-Ranking (Li et al., arXiv 2505.13300; the definitions are its documentation's, doc/introduction.md) takes the labels' and
the augmentation's part out of an accuracy. All accuracies are fractions.

Shapes: N images, C classes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raydistill.models.fit import answers


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's t interval for the mean of independent values; (nan, nan) for fewer than two."""
    from scipy import stats

    if len(values) < 2:
        return float("nan"), float("nan")
    mean, error = float(np.mean(values)), float(stats.sem(values))
    reach = error * float(stats.t.ppf((1 + level) / 2, len(values) - 1))
    return mean - reach, mean + reach


def possible(low: float, high: float) -> tuple[float, float]:
    """An interval for an accuracy as it is shown: no end lies beyond 0 or 1, where a t interval of few values may reach."""
    return (low, high) if math.isnan(low) else (max(low, 0.0), min(high, 1.0))


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
    recalls = recall_score(truth, answers(logits).numpy(), labels=[0, 1], average=None)
    # The order of probabilities, which would all be 1 for confident networks; of outputs that are no numbers none.
    margins = (logits[:, 1] - logits[:, 0]).double()
    margins = torch.where(margins.isfinite(), margins, 0.0)
    values = (recalls.mean(), roc_auc_score(truth, margins.numpy()), *recalls, np.bincount(truth).max() / len(truth))
    return {name: float(value) for name, value in zip(TWO_CLASS, values, strict=True)}


def by_class(metrics: Mapping[str, float], classes: Sequence[str]) -> dict[str, float]:
    """What of ``TWO_CLASS`` is among some metrics, in that order; a recall is called ``recall CLASS``.

    Args:
        metrics: of a unit.
        classes: both names; none where the data have not two.
    """
    names = {f"recall_{label}": f"recall {name}" for label, name in enumerate(classes)}
    return {names.get(name, name): metrics[name] for name in TWO_CLASS if name in metrics}


def as_fields(beside: Mapping[str, float]) -> dict[str, Any]:
    """``by_class`` as ``results.json`` has it: recalls are together, under ``recall``, by the class's name."""
    recall = {name.removeprefix("recall "): beside[name] for name in beside if name.startswith("recall ")}
    rest = {name: value for name, value in beside.items() if name in TWO_CLASS}
    return {**rest, "recall": recall} if recall else rest


def hard_label_recovery(whole: float, hard: float) -> float:
    """HLR = Acc(real-hard) − Acc(syn-hard): what is missing to the whole real set where both have hard labels; low is good.

    Args:
        whole: accuracy after training on the whole real set.
        hard: after training on the distilled images with hard labels.
    """
    return whole - hard


def improvement_over_random(distilled: float, random: float) -> float:
    """IOR = Acc(syn-any) − Acc(rdm-any): above as many random real images with the same kind of labels; high is good."""
    return distilled - random


def label_robust_score(recovery: float, improvement: float, weight: float = 0.5) -> float:
    """LRS = (e^α − e^−1)/(e − e^−1) in [0, 1], with α = w·IOR − (1 − w)·HLR; DD-Ranking's leaderboard has w = 0.5."""
    return _normalised(weight * improvement - (1 - weight) * recovery)


def augmentation_robust_score(augmented: float, plain: float, weight: float = 0.5) -> float:
    """ARS = (e^β − e^−1)/(e − e^−1) in [0, 1], with β = γ·(syn-aug − rdm-aug) + (1 − γ)·(syn-naug − rdm-naug).

    Args:
        augmented: improvement over random where students are trained with augmentation.
        plain: and without.
        weight: γ.
    """
    return _normalised(weight * augmented + (1 - weight) * plain)


def _normalised(value: float) -> float:
    """[−1, 1] → [0, 1]."""
    return (math.exp(value) - math.exp(-1)) / (math.e - math.exp(-1))
