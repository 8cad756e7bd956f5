"""The IDX format of MNIST and its kin: a big-endian header (type, rank, sizes), then the bytes."""

import math
import os
import struct
from pathlib import Path

import numpy as np

from raydistill.errors import DataError

UNSIGNED_BYTE = 0x08


def idx_length(path: Path, shape: tuple[int, ...]) -> int:
    """How many items an IDX file of bytes holds, from its header and size alone.

    Args:
        path: the file, not compressed.
        shape: of one item: ``(28, 28)`` for images, ``()`` for labels.

    Raises:
        DataError: unreadable, no IDX file, of another type or shape, empty, or cut short.
    """
    rank = 1 + len(shape)
    try:
        with open(path, "rb") as file:
            start = file.read(4 + 4 * rank)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror or error}; mend its permissions or get it again"
        ) from None
    expected = bytes((0, 0, UNSIGNED_BYTE, rank))
    if start[:4] != expected:
        raise DataError(
            f"{path} is no IDX file of bytes with {rank} dimension(s): it starts with {start[:4].hex() or 'nothing'}, "
            f"not {expected.hex()}; delete it and get it again, uncompressed"
        )
    if len(start) < 4 + 4 * rank:
        raise DataError(f"{path} is cut short: it ends within its header; delete it and get it again")
    count, *sizes = struct.unpack(f">{rank}I", start[4:])
    if tuple(sizes) != shape:
        raise DataError(f"{path} holds items of {_times(sizes)} where {_times(shape)} belong; put the right file there")
    promised = len(start) + count * math.prod(shape)
    if count == 0 or size != promised:
        raise DataError(
            f"{path} is damaged: {size} bytes where its header promises {promised} ({count} items); "
            f"delete it and get it again"
        )
    return int(count)


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The items of an IDX file, uint8 [N, *shape].

    Raises:
        DataError: as ``idx_length``.
    """
    count = idx_length(path, shape)
    return np.fromfile(path, dtype=np.uint8, offset=8 + 4 * len(shape)).reshape(count, *shape)


def _times(shape: tuple[int, ...] | list[int]) -> str:
    return "x".join(map(str, shape)) or "single bytes"
