"""The rebuilt formulas give the stored first values and sums."""

import json

import numpy as np
import pytest

from tests import formulas

STORED = formulas.golden("formulas")


@pytest.mark.parametrize("key", [k for k in STORED if k.startswith("noise/")])
def test_noise(key: str) -> None:
    stream, seed = (int(part[1:]) for part in key.removeprefix("noise/").split("_"))
    assert np.array_equal(formulas.noise(16, stream, seed), STORED[key])


@pytest.mark.parametrize("key", [k for k in STORED if k.startswith("images/")])
def test_images(key: str) -> None:
    _, where, what = key.split("/")
    group, shape = where.split("_")
    count, size = shape.split("x", 1)
    made = formulas.images(int(group[1:]), (int(count), *formulas.shape_of(size)))
    assert made.dtype == np.float32
    if what == "sum":
        assert made.astype(np.float64).sum() == pytest.approx(float(STORED[key]), rel=1e-12, abs=1e-9)
    else:
        assert np.array_equal(made.ravel()[:64], STORED[key])


def test_weights() -> None:
    prefix = "weights/ConvNetD3_1x28x28"
    shapes = {
        name: tuple(shape)
        for name, shape in json.loads(str(formulas.golden("convnets")["ConvNetD3/1x28x28/parameters_json"]))
    }
    names = json.loads(str(STORED[f"{prefix}/names_json"]))
    for number, name in enumerate(names):
        made = formulas.weight(name, shapes[name], number)
        assert np.array_equal(made.ravel()[:8], STORED[f"{prefix}/first_8_of_each"][number])
        assert made.astype(np.float64).sum() == pytest.approx(STORED[f"{prefix}/sums"][number], rel=1e-12, abs=1e-9)
