"""bfloat16 where the device computes in it, float32 in its place elsewhere.

A processor without such instructions works bfloat16 out piece by piece: a student's step of ConvNetD3 took 10 s in the place
of 0.47 s (AMD Zen 3, PyTorch 2.15, one thread). There the setting is a wish that float32 grants better.
"""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import torch

Precision = Literal["float32", "bfloat16"]

INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"Of x86 and ARM processors."


def computed_in(precision: Precision, device: torch.device | str) -> torch.dtype:
    """The type that ``precision`` means on ``device``."""
    return torch.bfloat16 if precision == "bfloat16" and has_bfloat16(torch.device(device).type) else torch.float32


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which convolutions and products are computed in ``precision``; parameters stay as they are."""
    return torch.autocast(device.type, torch.bfloat16, enabled=computed_in(precision, device) == torch.bfloat16)


@functools.cache
def has_bfloat16(kind: str) -> bool:
    """Whether devices of this kind (``cpu``, ``cuda``, …) have instructions for bfloat16, not an emulation of them."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind != "cpu":
        return True
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older ones cannot tell
    # Without oneDNN no convolution uses them.
    one_dnn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return one_dnn and any(known.get(name, False) for name in INSTRUCTIONS)
