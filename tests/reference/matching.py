"""Trajectory matching in NumPy, float64, number by number: a linear student's steps, and the loss with PAD's two filters.

Shapes: n images of D pixels, C classes, P = C·D + C parameters: weight [C, D], then bias [C].
"""

import math

import numpy as np


def softmax(row: np.ndarray) -> np.ndarray:
    """Of one row [C]."""
    exponents = [math.exp(value - max(row)) for value in row]
    return np.array(exponents) / sum(exponents)


def walk(
    theta: np.ndarray, images: np.ndarray, targets: np.ndarray, rate: float, batches: list[list[int]]
) -> np.ndarray:
    """θ_N [P]: a step for each batch, θ ← θ − syn_lr · mean over its images of (softmax(Wx + b) − y) ⊗ (x, 1).

    Args:
        theta: θ_0 [P].
        images: [n, D].
        targets: shares of the classes [n, C].
        rate: syn_lr.
        batches: indices of the images of each step.
    """
    classes, pixels = targets.shape[1], images.shape[1]
    for batch in batches:
        weight, bias = theta[: classes * pixels].reshape(classes, pixels), theta[classes * pixels :]
        to_weight, to_bias = np.zeros_like(weight), np.zeros_like(bias)
        for i in batch:
            error = softmax(weight @ images[i] + bias) - targets[i]
            to_weight += np.outer(error, images[i]) / len(batch)
            to_bias += error / len(batch)
        theta = theta - rate * np.concatenate([to_weight.ravel(), to_bias])
    return theta


def kept(student: np.ndarray, target: np.ndarray, alpha: float, drop: str) -> list[int]:
    """Which parameters count: not the first ⌊αP⌋ (``depth``), or not the ⌊αP⌋ that are nearest to the expert's (``loss``)."""
    order = list(range(len(target)))
    if drop == "loss":
        order.sort(key=lambda p: (student[p] - target[p]) ** 2)
    return sorted(order[int(alpha * len(target)) :])


def loss(start: np.ndarray, student: np.ndarray, target: np.ndarray, alpha: float, drop: str) -> float:
    """Σ_K (θ_N − θ*)² / Σ_K (θ_0 − θ*)² over the kept parameters K."""
    numerator = denominator = 0.0
    for p in kept(student, target, alpha, drop):
        numerator += float(student[p] - target[p]) ** 2
        denominator += float(start[p] - target[p]) ** 2
    return numerator / denominator
