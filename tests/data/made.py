"""Data sources made on the spot, in the layouts in which the real ones lie on a disk."""

import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IDX_STEMS = {"train": "train", "test": "t10k"}


def pixels(count: int, *shape: int, stream: int = 0) -> np.ndarray:
    """uint8 [count, *shape], no two images alike."""
    return np.random.default_rng(stream).integers(0, 256, (count, *shape), dtype=np.uint8)


def write_idx(path: Path, array: np.ndarray) -> None:
    """An IDX file of bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist(root: Path, name: str = "MNIST", per_class: tuple[int, int] = (3, 2), side: int = 28) -> Path:
    """Ten classes in MNIST's layout; ``per_class`` images in the training and in the test part."""
    for stream, (stem, each) in enumerate(zip(IDX_STEMS.values(), per_class, strict=True)):
        labels = np.arange(10 * each) % 10
        write_idx(root / name / "raw" / f"{stem}-images-idx3-ubyte", pixels(len(labels), side, side, stream=stream))
        write_idx(root / name / "raw" / f"{stem}-labels-idx1-ubyte", labels)
    return root


def write_image(path: Path, array: np.ndarray) -> None:
    """An image file of uint8 [H, W] (grey) or [H, W, 3]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_folder(
    path: Path, classes: tuple[str, ...] = ("cat", "dog", "emu"), per_class: tuple[int, int] = (4, 2), side: int = 8
) -> Path:
    """An image folder of grey PNGs; returns ``path``."""
    for stream, (part, each) in enumerate(zip(("train", "test"), per_class, strict=True)):
        images = iter(pixels(each * len(classes), side, side, stream=10 + stream))
        for name in classes:
            for number in range(each):
                write_image(path / part / name / f"{number}.png", next(images))
    return path


def write_cifar(root: Path, monkeypatch: Any, name: str = "CIFAR10") -> Path:
    """CIFAR in its own pickles, with torchvision told these files' checksums."""
    import torchvision.datasets

    known = getattr(torchvision.datasets, name)
    folder, count = root / known.base_folder, 10 if name == "CIFAR10" else 100
    key = "labels" if name == "CIFAR10" else "fine_labels"
    folder.mkdir(parents=True)
    for attribute, each in (("train_list", 2), ("test_list", 1)):
        files = [file for file, _ in getattr(known, attribute)]
        listed = []
        for number, file in enumerate(files):
            labels = [label for label in range(count) for _ in range(each)]
            data = pixels(len(labels), 3 * 32 * 32, stream=20 + number + 10 * each)
            listed.append([file, _pickle(folder / file, {"data": data, key: labels})])
        monkeypatch.setattr(known, attribute, listed)
    meta = {known.meta["key"]: [f"class {i}" for i in range(count)]}
    md5 = _pickle(folder / known.meta["filename"], meta)
    monkeypatch.setattr(known, "meta", {**known.meta, "md5": md5})
    return root


def _pickle(path: Path, value: Any) -> str:
    path.write_bytes(pickle.dumps(value))
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_svhn(root: Path, monkeypatch: Any) -> Path:
    """SVHN in its own MATLAB files (labels 1 … 10), with torchvision told these files' checksums."""
    import scipy.io
    import torchvision.datasets

    root.mkdir(parents=True, exist_ok=True)
    listed = dict(torchvision.datasets.SVHN.split_list)
    for stream, (part, each) in enumerate((("train", 3), ("test", 1))):
        file = root / f"{part}_32x32.mat"
        labels = np.tile(np.arange(1, 11, dtype=np.uint8), each)[:, None]
        images = pixels(len(labels), 3, 32, 32, stream=40 + stream)
        scipy.io.savemat(file, {"X": images.transpose(2, 3, 1, 0), "y": labels})
        listed[part] = [listed[part][0], file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", listed)
    return root
