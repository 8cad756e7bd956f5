"""What precision means on a device that has bfloat16, and on one that has not."""

from collections.abc import Iterator

import pytest
import torch

from raydistill import precision
from tests.distill import small


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    precision.has_bfloat16.cache_clear()
    yield
    precision.has_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("known", "has"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"neon": True, "bf16": False}, False),
        ({"neon": True, "bf16": True}, True),
        ({}, False),
    ],
    ids=str,
)
def test_processors(known: dict[str, bool], has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert precision.has_bfloat16("cpu") is has
    precision.has_bfloat16.cache_clear()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert precision.has_bfloat16("cpu") is False


def test_a_gpu_that_would_emulate_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert precision.has_bfloat16("cuda") is False


@pytest.mark.parametrize(("has", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_is_a_wish(has: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda kind: has)
    assert precision.computed_in("bfloat16", "cpu") == expected
    assert precision.computed_in("float32", "cpu") == torch.float32
    with precision.autocast("bfloat16", torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


@pytest.mark.parametrize("make", [small.datadam, small.pad])
def test_methods_give_the_numbers_of_float32_where_there_is_none(make: type, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {}
    for has, wanted in ((False, "float32"), (False, "bfloat16"), (True, "bfloat16")):
        monkeypatch.setattr(precision, "has_bfloat16", lambda kind, has=has: has)
        steps[has, wanted] = make(precision=wanted).step(0)["loss"]
    assert steps[False, "float32"] == steps[False, "bfloat16"] != steps[True, "bfloat16"]
