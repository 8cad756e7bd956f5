"""DSA in NumPy, float64, one image and one pixel at a time: as the definitions read."""

import math
from collections.abc import Callable

import numpy as np

Source = Callable[[float, float], tuple[float, float]]


def brightness(image: np.ndarray, u: float) -> np.ndarray:
    return image + (u - 0.5)


def saturation(image: np.ndarray, u: float) -> np.ndarray:
    if len(image) == 1:
        return image
    mean = np.stack([np.mean(image, axis=0)] * len(image))
    return np.asarray(mean + (image - mean) * 2 * u)


def contrast(image: np.ndarray, u: float) -> np.ndarray:
    mean = float(np.sum(image)) / image.size
    return np.asarray(mean + (image - mean) * (u + 0.5))


def color(image: np.ndarray, *u: float) -> np.ndarray:
    return contrast(saturation(brightness(image, u[0]), u[1]), u[2])


def crop(image: np.ndarray, a: float, b: float) -> np.ndarray:
    _, height, width = image.shape
    out = np.zeros_like(image)
    for h in range(height):
        for w in range(width):
            if 0 <= h + a < height and 0 <= w + b < width:
                out[:, h, w] = image[:, h + int(a), w + int(b)]
    return out


def cutout(image: np.ndarray, a: float, b: float) -> np.ndarray:
    _, height, width = image.shape
    tall, wide = math.floor(0.5 * height + 0.5), math.floor(0.5 * width + 0.5)
    out = image.copy()
    for h in range(int(a) - tall // 2, int(a) - tall // 2 + tall):
        for w in range(int(b) - wide // 2, int(b) - wide // 2 + wide):
            if 0 <= h < height and 0 <= w < width:
                out[:, h, w] = 0
    return out


def flip(image: np.ndarray, u: float) -> np.ndarray:
    return image[:, :, ::-1] if u < 0.5 else image


def scale(image: np.ndarray, u_width: float, u_height: float) -> np.ndarray:
    low, high = 1 / 1.2, 1.2
    fx, fy = low + u_width * (high - low), low + u_height * (high - low)
    return _read(image, lambda dx, dy: (fx * dx, fy * dy))


def rotate(image: np.ndarray, u: float) -> np.ndarray:
    t = math.radians(15) * (2 * u - 1)
    return _read(image, lambda dx, dy: (math.cos(t) * dx - math.sin(t) * dy, math.sin(t) * dx + math.cos(t) * dy))


def _read(image: np.ndarray, source: Source) -> np.ndarray:
    """out at centre offset (dx, dy) = image at ``source(dx, dy)``, bilinear, zero outside; offsets in pixels."""
    channels, height, width = image.shape
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    out = np.zeros_like(image)
    for h in range(height):
        for w in range(width):
            dx, dy = source(w - middle_x, h - middle_y)
            x, y = middle_x + dx, middle_y + dy
            for row in (math.floor(y), math.floor(y) + 1):
                for column in (math.floor(x), math.floor(x) + 1):
                    if 0 <= row < height and 0 <= column < width:
                        share = (1 - abs(y - row)) * (1 - abs(x - column))
                        out[:, h, w] += share * image[:, row, column]
    assert out.shape == (channels, height, width)
    return out
