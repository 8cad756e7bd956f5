"""The formulas behind the golden numbers (tests/golden): noise, weights and images, exact on every machine.

Their integers fit in 64 bits and nothing trigonometric is in them, so two machines agree to the last bit.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

MODULUS = 1_000_003
GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> dict[str, np.ndarray]:
    """All numbers of tests/golden/NAME.npz by their path-like key."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def noise(count: int, stream: int, seed: int = 0) -> np.ndarray:
    """Elements 0 … count-1 of a noise stream, float64 in (-1, 1)."""
    j = np.arange(count, dtype=np.int64) + 4099 * stream + 65537 * seed
    q = (7919 * j * j + 104729 * j + 611953 * stream) % MODULUS
    return (2 * q + 1) / MODULUS - 1


def weight(name: str, shape: tuple[int, ...], number: int, seed: int = 0) -> np.ndarray:
    """Parameter tensor ``number`` of a network, rounded to float32; its kind follows from its name and shape."""
    values = noise(math.prod(shape), number, seed).reshape(shape)
    if name.endswith("bias"):
        return (0.1 * values).astype(np.float32)
    if is_scale(name, shape):
        return (1 + 0.2 * values).astype(np.float32)
    return np.asarray(math.sqrt(6 / math.prod(shape[1:])) * values, dtype=np.float32)


def is_scale(name: str, shape: tuple[int, ...]) -> bool:
    """A norm's scale: a weight of one dimension, or of the [C, H, W] of layer norm."""
    return name.endswith("weight") and len(shape) in (1, 3)


def load_weights(network: nn.Module, seed: int = 0) -> None:
    """Set every parameter of ``network`` to the weight formula, in place."""
    with torch.no_grad():
        for number, (name, parameter) in enumerate(network.named_parameters()):
            values = weight(name, tuple(parameter.shape), number, seed)
            parameter.copy_(torch.from_numpy(values))


def shape_of(size: str) -> tuple[int, int, int]:
    """``1x28x28`` → (1, 28, 28)."""
    k, h, w = map(int, size.split("x"))
    return k, h, w


def images(group: int, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Image set ``group`` of shape [N, C, H, W], float32."""
    n, c, h, w = np.ogrid[: shape[0], : shape[1], : shape[2], : shape[3]]
    m = n + 13 * group
    t = ((3 + m % 4) * h + (5 - m % 3) * w + 7 * c + 11 * m) % 32
    pixels = 0.7 * (np.abs(t - 16) / 8 - 1) + 0.5 * noise(math.prod(shape), 1000 + group).reshape(shape)
    return np.asarray(pixels, dtype=np.float32)
