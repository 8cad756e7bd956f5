"""DataDAM's loss in NumPy, float64, image by image: as the paper's equations read."""

import math

import numpy as np


def attention_map(maps: np.ndarray, power: float) -> np.ndarray:
    """One image's maps [W, h, w] → unit vector [h·w]: vec(Σ_c |f_c|^p) over its norm."""
    _, height, width = maps.shape
    summed = np.array([sum(abs(f[h, w]) ** power for f in maps) for h in range(height) for w in range(width)])
    return summed / math.sqrt(sum(value**2 for value in summed))


def class_mean(rows: np.ndarray, labels: np.ndarray, label: int) -> np.ndarray:
    """Mean of the rows of one class, found by label and not by place."""
    members = [row for row, at in zip(rows, labels, strict=True) if at == label]
    return np.asarray(np.sum(members, axis=0) / len(members))


def squared_distance(real: np.ndarray, synthetic: np.ndarray, real_labels: np.ndarray, labels: np.ndarray) -> float:
    """Σ_k ‖ mean_real − mean_syn ‖² over the classes of rows [n, d]."""
    total = 0.0
    for label in sorted(set(real_labels.tolist())):
        difference = class_mean(real, real_labels, label) - class_mean(synthetic, labels, label)
        total += sum(float(d) ** 2 for d in difference)
    return total


def losses(
    real: tuple[list[np.ndarray], np.ndarray],
    synthetic: tuple[list[np.ndarray], np.ndarray],
    real_labels: np.ndarray,
    labels: np.ndarray,
    power: float,
    task_balance: float,
    loss_scale: float,
) -> tuple[float, float, float]:
    """(total, L_SAM, L_MMD) from (maps of every layer, embeddings) of the real and of the synthetic images."""
    sam = 0.0
    for real_maps, synthetic_maps in list(zip(real[0], synthetic[0], strict=True))[:-1]:
        real_rows = np.stack([attention_map(m, power) for m in real_maps])
        rows = np.stack([attention_map(m, power) for m in synthetic_maps])
        sam += squared_distance(real_rows, rows, real_labels, labels)
    mmd = squared_distance(real[1], synthetic[1], real_labels, labels)
    return loss_scale * (sam + task_balance * mmd), sam, mmd
