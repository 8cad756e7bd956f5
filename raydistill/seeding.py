"""Named random streams.

Every random draw in raydistill comes from a stream named by what it is for, so the same search and seed give the
same numbers whatever else ran before, in whichever process, on one worker or on eight.
"""

import hashlib

import numpy as np
import torch


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream ``names`` under ``seed``; equal arguments give equal seeds on every machine.

    Args:
        seed: the search's seed, any integer.
        names: what the stream is for, from coarse to fine, e.g. ``("distill", "augment", 12)``.
    """
    text = "\x1f".join([str(int(seed)), *(f"{type(n).__name__}:{n}" for n in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def torch_generator(seed: int, *names: str | int) -> torch.Generator:
    """A CPU generator for the named stream; draws are made on the CPU so that every device sees the same ones."""
    return torch.Generator().manual_seed(derive(seed, *names))


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy generator for the named stream."""
    return np.random.default_rng(derive(seed, *names))
