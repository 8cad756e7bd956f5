"""How a distillation's work is spread over its iterations, for the time that is left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from raydistill.distill.datadam import DataDAM
from raydistill.distill.method import work_done
from raydistill.distill.pad import PAD
from raydistill.models import ConvNet
from raydistill.models.convnet import Features
from raydistill.models.fit import Recipe
from tests.distill import small


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (1, 0.25), (2, 0.5), (4, 0.75), (6, 1.0)])
def test_the_share_by_hand(step: int, share: float) -> None:
    assert work_done([(2, 2.0), (0, 9.0), (4, 1.0)], step) == share


def test_nothing_to_do_is_done() -> None:
    assert work_done([(0, 1.0)], 0) == 1.0


@given(st.integers(0, 60), st.integers(1, 5), st.integers(1, 4))
def test_all_iterations_are_counted_and_the_share_grows(iterations: int, origins: int, draws: int) -> None:
    pool = {"network_pool": 2 * origins, "network_stages": (0, 3), "pool_draws": draws}
    pace = DataDAM.pace(DataDAM.Config(iterations=iterations, **pool), 3)
    assert sum(count for count, _ in pace) == iterations
    shares = [work_done(pace, step) for step in range(iterations + 1)]
    assert shares == sorted(set(shares))
    assert shares[-1] == 1.0


def test_where_nothing_is_kept_all_iterations_are_alike() -> None:
    assert DataDAM.pace(DataDAM.Config(iterations=7), 10) == [(7, 1.0)]
    assert PAD.pace(PAD.Config(iterations=7), 10) == [(7, 1.0)]


def test_the_pace_is_that_of_the_images_that_pass_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted from a real distillation, the way there alone; a way back costs as much as two."""
    passed = []
    features = ConvNet.features

    def counting(self: ConvNet, x: Tensor) -> Features:
        passed.append(len(x))
        return features(self, x)

    monkeypatch.setattr(ConvNet, "features", counting)
    pool = {"network_pool": 4, "network_stages": (0, 6), "pool_draws": 2, "iterations": 12}
    method = small.datadam(**pool, training=Recipe(batch=9))
    each = []
    for iteration in range(12):
        passed.clear()
        method.step(iteration)
        each.append(sum(passed))
    synthetic, real, training = 3 * 2, 3 * 6, 9 * 6
    assert sum(each[:4]) == 4 * (synthetic + real) + 2 * training
    assert each[4:8] == [synthetic + real] * 4
    assert each[8:] == [synthetic] * 4
    whole = 4 * (3 * synthetic + real + 3 * training / 2), 4 * (3 * synthetic + real), 4 * 3 * synthetic
    pace = DataDAM.pace(method.config, 3)
    assert [count * cost for count, cost in pace] == list(whole)
