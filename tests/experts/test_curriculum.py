"""The curriculum's ranks against golden numbers, and what holds for every size and length."""

import json

import numpy as np
import pytest

from raydistill.errors import ConfigError
from raydistill.experts.curriculum import CurriculumConfig, seen
from tests.formulas import golden

GOLDEN = golden("curriculum")
SETTINGS = json.loads(str(GOLDEN["schedule/settings_json"]))


@pytest.mark.parametrize("size", [37, 100, 5000])
@pytest.mark.parametrize("length", ["long", "short"])
def test_ranks_equal_the_golden_ones(length: str, size: int) -> None:
    settings = dict(SETTINGS[length])
    epochs = settings.pop("epochs")
    config = CurriculumConfig(**settings)
    found = np.array([config.ranks(epoch, size) for epoch in range(epochs)])
    key = f"schedule/{length}/class_size_{size}"
    assert np.array_equal(found[:, 0], GOLDEN[f"{key}/lowest_rank"])
    assert np.array_equal(found[:, 1] - 1, GOLDEN[f"{key}/highest_rank"])
    assert np.array_equal(found[:, 1] - found[:, 0], GOLDEN[f"{key}/count"])


def test_each_class_is_cut_by_its_own_size() -> None:
    config = CurriculumConfig(
        init_ratio=0.5, add_end_epoch=2, rm_epoch_first=2, rm_epoch_second=3, rm_easy_ratio_first=0.25
    )
    scores = np.array([5.0, 1, 4, 2, 9, 8, 7, 6, 3, 0])
    by_class = [np.arange(8), np.array([8, 9])]
    assert seen(config, 0, scores, by_class).tolist() == [0, 1, 2, 3, 9]
    assert seen(config, 2, scores, by_class).tolist() == list(range(10))
    assert seen(config, 3, scores, by_class).tolist() == [0, 2, 4, 5, 6, 7, 8, 9]
    assert seen(None, 0, scores, by_class).tolist() == list(range(10))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_no_class_is_ever_empty(size: int) -> None:
    config = CurriculumConfig(init_ratio=0.01, rm_easy_ratio_second=0.99)
    for epoch in range(100):
        low, high = config.ranks(epoch, size)
        assert 0 <= low < high <= size


def test_ties_go_by_index() -> None:
    config = CurriculumConfig(init_ratio=0.5, add_end_epoch=1, rm_epoch_first=1, rm_epoch_second=1)
    assert seen(config, 0, np.zeros(6), [np.arange(6)]).tolist() == [0, 1, 2]


def test_the_proportions_hold_for_any_number_of_epochs() -> None:
    assert CurriculumConfig.over(100) == CurriculumConfig()
    short = CurriculumConfig.over(10)
    assert (short.add_end_epoch, short.rm_epoch_first, short.rm_epoch_second) == (2, 4, 6)
    full = CurriculumConfig()
    assert [short.ranks(epoch, 1000) for epoch in range(0, 11, 2)] == [full.ranks(e, 1000) for e in range(0, 110, 20)]


def test_epochs_out_of_order_are_refused() -> None:
    with pytest.raises(ConfigError, match="must not descend"):
        CurriculumConfig(add_end_epoch=50)
