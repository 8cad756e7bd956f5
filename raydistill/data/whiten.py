"""ZCA whitening: pixels decorrelated, yet still recognisable as images.

With μ the mean image and Σ = U diag(s) Uᵀ the covariance (over N − 1) of images in [0, 1], flattened to D = K·H·W:

    encode(x) = (x − μ) W,     W = U diag(s + ε)^(−1/2) Uᵀ
    decode(z) = z W⁻¹ + μ,     W⁻¹ = U diag(s + ε)^(1/2) Uᵀ

ε > 0 keeps both finite where pixels do not vary. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images",
2009, appendix A; trajectory matching uses it with ε = 0.1 (Cazenavette et al., CVPR 2022).
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from raydistill.errors import ArtifactError, ConfigError

EPS = 0.1
MAX_DIMENSION = 12_288
"D beyond which the D×D matrices and their decomposition cost too much: 3×64×64."

_CHUNK = 2048


class Whitener:
    """A fitted ZCA transformation, an ``Encoding``.

    Args:
        mean: μ, float32 [K, H, W].
        matrix: W, float32 [D, D].
        inverse: W⁻¹, float32 [D, D].
    """

    def __init__(self, mean: Tensor, matrix: Tensor, inverse: Tensor) -> None:
        self.mean = mean
        self.matrix = matrix
        self.inverse = inverse
        self._moved: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor, Tensor]] = {}

    @classmethod
    def fit(cls, images: np.ndarray, eps: float = EPS) -> "Whitener":
        """Fit on the training images.

        Args:
            images: uint8 [N, K, H, W], N ≥ 2.
            eps: ε > 0, added to the covariance's eigenvalues (pixels count as [0, 1]).

        Raises:
            ConfigError: D above ``MAX_DIMENSION``, or ε not above 0.
        """
        shape = images.shape[1:]
        dimension = math.prod(shape)
        if dimension > MAX_DIMENSION:
            raise ConfigError(
                f"data.zca=True: images of {'x'.join(map(str, shape))} have {dimension} values and ZCA takes up to "
                f"{MAX_DIMENSION}; set data.zca=false, or make the images smaller (data.image_size for a folder)"
            )
        if not eps > 0:
            raise ConfigError(f"Whitener.fit: eps={eps} must be above 0; the field uses {EPS}")
        flat = images.reshape(len(images), dimension)
        mean = flat.mean(axis=0, dtype=np.float64) / 255
        covariance = np.zeros((dimension, dimension))
        for start in range(0, len(flat), _CHUNK):
            centred = flat[start : start + _CHUNK] / 255 - mean
            covariance += centred.T @ centred
        covariance /= len(flat) - 1
        values, vectors = np.linalg.eigh(covariance)
        # Rounding can leave an eigenvalue of a singular covariance just below 0.
        scale = np.sqrt(np.maximum(values, 0) + eps)
        matrix, inverse = (vectors / scale) @ vectors.T, (vectors * scale) @ vectors.T
        return cls(_float32(mean).view(shape), _float32(matrix), _float32(inverse))

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels float [n, K, H, W] in [0, 1] → whitened, same shape; differentiable."""
        mean, matrix, _ = self._like(pixels)
        return ((pixels - mean).flatten(1) @ matrix).view(pixels.shape)

    def decode(self, inputs: Tensor) -> Tensor:
        """The inverse of ``encode``; values outside [0, 1] are kept."""
        mean, _, inverse = self._like(inputs)
        return (inputs.flatten(1) @ inverse).view(inputs.shape) + mean

    def to_tensors(self) -> dict[str, Tensor]:
        """``mean``, ``matrix`` and ``inverse`` on the CPU, for an artefact."""
        return {"mean": self.mean, "matrix": self.matrix, "inverse": self.inverse}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Whitener":
        """What ``to_tensors`` gave; other names are ignored.

        Raises:
            ArtifactError: a tensor is missing, has the wrong shape, or is not finite.
        """
        missing = [name for name in ("mean", "matrix", "inverse") if name not in tensors]
        if missing:
            raise ArtifactError(f"the ZCA transformation lacks {', '.join(missing)}; make the artefact again")
        mean, matrix, inverse = (tensors[name] for name in ("mean", "matrix", "inverse"))
        square = (mean.numel(), mean.numel())
        if mean.ndim != 3 or matrix.shape != square or inverse.shape != square:
            shapes = " ".join(str(tuple(t.shape)) for t in (mean, matrix, inverse))
            raise ArtifactError(
                f"the ZCA transformation has shapes {shapes}, not (K, H, W), (KHW, KHW), (KHW, KHW); make it again"
            )
        if not all(bool(t.isfinite().all()) for t in (mean, matrix, inverse)):
            raise ArtifactError("the ZCA transformation holds values that are not finite; make the artefact again")
        return cls(mean, matrix, inverse)

    def _like(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if like.shape[1:] != self.mean.shape:
            raise ValueError(f"images are {tuple(like.shape[1:])}, the whitener was fitted on {tuple(self.mean.shape)}")
        key = (like.device, like.dtype)
        if key not in self._moved:
            mean, matrix, inverse = (t.to(like.device, like.dtype) for t in (self.mean, self.matrix, self.inverse))
            self._moved[key] = (mean, matrix, inverse)
        return self._moved[key]

    def __reduce__(self) -> tuple[type["Whitener"], tuple[Tensor, Tensor, Tensor]]:
        # Another process may have another device: the copies stay here.
        return type(self), (self.mean, self.matrix, self.inverse)


def _float32(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))
