"""Labelled images as they are kept: once in memory, as bytes; and as networks see them: normalised, on a device.

Shapes: N images, K channels, H×W pixels, C classes.
"""

import hashlib
import warnings
import weakref
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from raydistill.config import Config


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class ImageSet:
    """Labelled images in pixel space.

    Attributes:
        images: uint8 [N, K, H, W].
        labels: int64 [N], each in [0, C).
        classes: the C class names.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, H, W) of one image."""
        k, h, w = self.images.shape[1:]
        return k, h, w

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.classes)

    def digest(self) -> str:
        """SHA-256 of pixels and labels, 64 hex digits; computed once."""
        if self not in _digests:
            content = hashlib.sha256(np.ascontiguousarray(self.images).data)
            content.update(np.ascontiguousarray(self.labels).data)
            _digests[self] = content.hexdigest()
        return _digests[self]

    def subset(self, indices: np.ndarray) -> "ImageSet":
        """The images at ``indices`` [n], copied."""
        return ImageSet(self.images[indices], self.labels[indices], self.classes)

    def by_class(self) -> list[np.ndarray]:
        """For each class the ascending indices of its images."""
        order = np.argsort(self.labels, kind="stable")
        bounds = np.searchsorted(self.labels[order], np.arange(self.num_classes + 1))
        return [order[bounds[c] : bounds[c + 1]] for c in range(self.num_classes)]


_digests: "weakref.WeakKeyDictionary[ImageSet, str]" = weakref.WeakKeyDictionary()


class Encoding(Protocol):
    """An invertible map from pixel space ([0, 1]) to what networks see."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels float [n, K, H, W] in [0, 1] → network input of the same shape."""

    def decode(self, inputs: Tensor) -> Tensor:
        """The inverse; not clipped."""


class Normaliser(Config):
    """Per-channel standardisation (x − mean)/std of pixels in [0, 1]."""

    mean: tuple[float, ...] = Field(min_length=1)
    "Per channel, in [0, 1]."
    std: tuple[float, ...] = Field(min_length=1)
    "Per channel, above 0."

    @model_validator(mode="after")
    def _fits(self) -> "Normaliser":
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} channels and std {len(self.std)}; give one value a channel")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std} must be above 0 in every channel")
        return self

    @classmethod
    def fit(cls, images: np.ndarray) -> "Normaliser":
        """Mean and standard deviation of uint8 images [N, K, H, W]; a constant channel gets std 1."""
        counts = np.zeros((images.shape[1], 256))
        # Counting levels is exact, and unlike mean() and std() makes no floats of all images at once.
        for start in range(0, len(images), 1024):
            for channel, count in enumerate(counts):
                count += np.bincount(images[start : start + 1024, channel].ravel(), minlength=256)
        levels, share = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
        mean = share @ levels
        std = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(axis=1))
        return cls(mean=tuple(mean.tolist()), std=tuple(np.where(std > 0, std, 1.0).tolist()))

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels float [n, K, H, W] in [0, 1] → standardised, same shape."""
        mean, std = self._columns(pixels)
        return (pixels - mean) / std

    def decode(self, inputs: Tensor) -> Tensor:
        """The inverse of ``encode``; values outside [0, 1] are kept."""
        mean, std = self._columns(inputs)
        return inputs * std + mean

    def _columns(self, like: Tensor) -> tuple[Tensor, Tensor]:
        if like.shape[1] != len(self.mean):
            raise ValueError(f"images have {like.shape[1]} channels, the normaliser {len(self.mean)}")
        mean = torch.tensor(self.mean, dtype=like.dtype, device=like.device)[:, None, None]
        std = torch.tensor(self.std, dtype=like.dtype, device=like.device)[:, None, None]
        return mean, std


class DeviceImages:
    """An ``ImageSet`` on a device as bytes; batches are encoded when they are taken.

    Args:
        images: the set; its uint8 array may be read-only (shared memory), it is never written.
        encoding: pixel space → network input.
        device: where batches appear.
    """

    def __init__(self, images: ImageSet, encoding: Encoding, device: torch.device | str = "cpu") -> None:
        self.encoding = encoding
        self.device = torch.device(device)
        self.classes = images.classes
        self.shape = images.shape
        self.pixels = _borrow(images.images).to(self.device)
        self.labels = _borrow(images.labels).to(self.device)
        self.class_indices = [torch.from_numpy(i).to(self.device) for i in images.by_class()]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> Tensor:
        """Network inputs float32 [n, K, H, W] for ``indices`` int64 [n]."""
        pixels = self.pixels.index_select(0, indices.to(self.device))
        return self.encoding.encode(pixels.to(torch.float32).div_(255))

    def draw_from_class(self, label: int, n: int, generator: torch.Generator) -> Tensor:
        """``n`` indices of class ``label``, without repeats where the class has as many."""
        members = self.class_indices[label]
        if len(members) >= n:
            picked = torch.randperm(len(members), generator=generator)[:n]
        else:
            picked = torch.randint(len(members), (n,), generator=generator)
        return members[picked.to(members.device)]


def _borrow(array: np.ndarray) -> Tensor:
    """A tensor over the array's own memory; what is read-only (object store) is only ever read: no warning is due."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*not writable", category=UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array))
