"""Encodings in artefacts."""

from typing import Any

import numpy as np
import pytest
import torch

from raydistill.data.images import Encoding, Normaliser
from raydistill.data.stored_encoding import PREFIX, read, stored
from raydistill.data.whiten import Whitener

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 1, 4, 4), dtype=np.uint8)


@pytest.mark.parametrize("encoding", [Normaliser.fit(IMAGES), Whitener.fit(IMAGES)])
def test_what_is_stored_is_read_back(encoding: Encoding) -> None:
    about, tensors = stored(encoding)
    again = read({"kind": "any", **about}, {"pixels": torch.zeros(1), **tensors})
    pixels = torch.from_numpy(IMAGES).float() / 255
    assert type(again) is type(encoding)
    assert torch.equal(again.encode(pixels), encoding.encode(pixels))
    assert all(name.startswith(PREFIX) for name in tensors)


def test_others_are_refused() -> None:
    class Other:
        pass

    unknown: Any = Other()
    with pytest.raises(TypeError, match="cannot store the encoding Other"):
        stored(unknown)
    with pytest.raises(KeyError):
        read({}, {})
