"""ZCA whitening in NumPy float64, by singular values of the images instead of eigenvalues of their covariance."""

import numpy as np


def fit(images: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """μ [D], W [D, D] and W⁻¹ [D, D] of uint8 images [N, K, H, W]."""
    x = images.reshape(len(images), -1).astype(np.float64) / 255
    mean = x.mean(axis=0)
    _, singular, vt = np.linalg.svd(x - mean, full_matrices=True)
    variances = np.zeros(x.shape[1])
    variances[: len(singular)] = singular**2 / (len(x) - 1)
    matrix = vt.T @ np.diag(1 / np.sqrt(variances + eps)) @ vt
    return mean, matrix, np.linalg.inv(matrix)
