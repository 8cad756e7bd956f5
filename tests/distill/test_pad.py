"""PAD as a method: settings, start epochs, first labels, skipped steps, presets."""

import math
from typing import Any
from unittest import mock

import pytest
import torch

from raydistill.artifacts import ArtifactError
from raydistill.data.distilled import DistilledSet
from raydistill.data.images import Normaliser
from raydistill.distill import pad
from raydistill.distill.pad import PAD, PRESETS, PADConfig
from raydistill.errors import ConfigError
from raydistill.experts import store
from raydistill.experts.trajectory import ExpertConfig
from raydistill.models import build
from raydistill.models.flat import call
from tests.distill import small
from tests.formulas import golden

GOLDEN = golden("curriculum")


@pytest.mark.parametrize(
    ("key", "first", "last", "end"),
    [("10_to_20_over_1000", 10, 20, 1000), ("20_to_40_over_2000", 20, 40, 2000)],
)
def test_the_start_range_widens_as_the_golden_one(key: str, first: int, last: int, end: int) -> None:
    config = PADConfig(current_max_start_epoch=first, max_start_epoch=last, expansion_end=end)
    expected = GOLDEN[f"start_epoch_upper_bound/{key}"]
    assert [config.start_bound(i) for i in range(len(expected))] == expected.tolist()


def test_without_an_end_the_range_has_widened_after_half_of_any_length() -> None:
    for iterations in (10, 400):
        config = PADConfig(current_max_start_epoch=2, max_start_epoch=6, iterations=iterations)
        assert [config.start_bound(i * iterations // 10) for i in (0, 2, 5, 9)] == [2, 3, 6, 6]


def test_start_epochs_stay_in_range_and_use_all_of_it() -> None:
    method = small.pad(min_start_epoch=1, max_start_epoch=4)
    drawn = {method._start_epoch(i)[1] for i in range(60)}
    assert drawn == {1, 2, 3}
    experts = {method._start_epoch(i)[0].path for i in range(60)}
    assert len(experts) == len(small.experts())


def test_experts_join_by_iteration_and_no_other_is_touched_before() -> None:
    config = PADConfig(experts=ExpertConfig(count=6), first_experts=2, all_experts_at=8)
    assert [config.expert_bound(i) for i in range(10)] == [2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert {PADConfig(experts=ExpertConfig(count=6)).expert_bound(i) for i in range(10)} == {6}
    by_itself = PADConfig(experts=ExpertConfig(count=6), first_experts=2, iterations=16)
    assert [by_itself.expert_bound(i) for i in range(10)] == [2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    method = small.pad(init="real", first_experts=1, all_experts_at=20)
    assert {method._start_epoch(i)[0].path for i in range(20)} == {small.experts()[0].path}
    assert {method._start_epoch(i)[0].path for i in range(20, 60)} == {one.path for one in small.experts()}

    small_experts = small.experts()

    class Others(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            assert index == 0, "the first labels and checks read an expert that may not be there"
            return super().__getitem__(index)

    with mock.patch.object(small, "experts", return_value=Others(small_experts)):
        small.pad(init="real", first_experts=1)


def test_a_window_lies_elsewhere_each_time() -> None:
    method = small.pad(gradient="window", window=2, syn_steps=5)
    taken = [len(method._steps(i, 6, (8, 8))) for i in range(60)]
    assert set(taken) == {2, 3, 4, 5}
    assert taken == [len(small.pad(gradient="window", window=2, syn_steps=5)._steps(i, 6, (8, 8))) for i in range(60)]
    for settings in ({"syn_steps": 5}, {"syn_steps": 5, "gradient": "window", "window": 7}):
        assert {len(small.pad(**settings)._steps(i, 6, (8, 8))) for i in range(9)} == {5}
    _, (phase,) = PAD.phases(method.config.model_copy(update={"iterations": 8}))
    assert phase.times == 8 * 3.5 / 2  # in iterations of two steps
    for gradient, steps in (("adjoint", 2), ("full", 9)):  # which keeps all of its steps, so that they show its memory
        sample, (phase,) = PAD.phases(PADConfig(iterations=8, syn_steps=9, gradient=gradient))
        assert (sample.syn_steps, phase.times) == (steps, 8 * 9 / steps)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first_experts": 11}, "first_experts=11 is above experts.count=10"),
        ({"min_start_epoch": 10}, "leaves no start epoch"),
        ({"current_max_start_epoch": 12}, "above max_start_epoch=10"),
        (
            {"expert_epochs": 40, "experts": ExpertConfig(epochs=45)},
            "reaches 49 but the trajectory has 45 epochs; lower max_start_epoch to 6",
        ),
        ({"gradient": "window"}, "the one needs the other"),
        ({"window": 3}, "the one needs the other"),
        ({"alpha": 1}, "alpha=1"),
        ({"experts": {"recipe": {"momentum": 0.9}}}, "use momentum=0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PADConfig(**settings)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_round_trip(name: str) -> None:
    config = PADConfig(**PRESETS[name])
    assert PADConfig.parse(config.to_json()) == config


def test_first_labels_are_the_mean_of_the_experts_that_are_right() -> None:
    method = small.pad(init="real")
    assert method.logits is not None
    experts = [e.snapshot(method.config.epochs_read) for e in small.experts()]
    logits = torch.stack([call(method.net, method.layout, e, method.images) for e in experts])
    right = logits.argmax(2) == method.labels
    assert bool(right.any(0).all())
    for i in range(len(method.labels)):
        expected = logits[right[:, i], i].mean(0)
        assert torch.allclose(method.logits[i], expected, atol=1e-5)


def test_an_expert_that_is_no_number_labels_nothing() -> None:
    method = small.pad(init="real")
    good = method.experts[0]
    method.experts = [good]
    before = method._first_labels(3)

    class Broken:
        path, layout, first, epochs = good.path, method.layout, 0, 10**6

        def snapshot(self, epoch: int) -> torch.Tensor:
            return torch.full((method.layout.size,), torch.nan)

    broken: Any = Broken()
    method.experts = [broken, good]
    assert torch.equal(method._first_labels(3), before)


def test_the_papers_experts_see_the_augmentation_that_matching_does() -> None:
    config = PADConfig(**PRESETS["paper"])
    experts = config.experts
    assert experts.recipe.augment == experts.difficulty.recipe.augment == config.augment == "natural"


def test_noise_starts_with_scaled_one_hot_labels() -> None:
    logits = small.pad().logits
    assert logits is not None
    assert torch.equal(logits, pad.ONE_HOT * torch.eye(3).repeat_interleave(2, 0))


def test_an_image_that_no_expert_gets_right_keeps_its_own_class() -> None:
    turned = small.pad(init="real")
    turned.labels = (turned.labels + 1) % 3
    logits = turned._first_labels(3)
    assert torch.equal(logits.argmax(1), turned.labels)


def test_a_step_above_the_threshold_is_skipped_and_counted() -> None:
    method = small.pad(threshold=1e-6)
    before = {name: value.clone() for name, value in method.state().items()}
    found = [method.step(i) for i in range(3)]
    assert [numbers["skipped"] for numbers in found] == [1, 2, 3]
    assert all(numbers["loss"] > 1e-3 for numbers in found)
    assert method.skipped == 3
    before["skipped"] += 3
    assert all(torch.equal(value, before[name]) for name, value in method.state().items())


def test_a_step_that_is_no_number_is_skipped() -> None:
    method = small.pad()
    method.images[0, 0, 0, 0] = float("nan")
    numbers = method.step(0)
    assert numbers["skipped"] == 1
    assert math.isnan(numbers["loss"])


def test_hard_labels_have_no_logits() -> None:
    method = small.pad(labels="hard")
    method.step(0)
    assert method.logits is None
    assert "logits" not in method.state()


def test_experts_that_do_not_fit_are_refused() -> None:
    config = PADConfig(**small.PAD_SETTINGS)
    images, labels = torch.zeros(6, 1, 8, 8), torch.arange(3).repeat_interleave(2)

    def other(seed: int) -> torch.nn.Module:
        return build("ConvNetD1", (1, 8, 8), 3, seed)

    with pytest.raises(ConfigError, match="of another network"):
        PAD(config, small.real(), images, labels, other, 0, small.experts())
    with pytest.raises(ConfigError, match="raydistill experts"):
        PAD(config, small.real(), images, labels, other, 0)
    longer = config.override({"expert_epochs": 4})
    with pytest.raises(ConfigError, match="has epochs 0 to 5, matching reads 0 to 6"):
        PAD(longer, small.real(), images, labels, lambda s: small.network("ConvNetD3", s), 0, small.experts())
    with pytest.raises(ConfigError, match="running statistics"):
        batch = config.override({"network": "ConvNetBN"})
        PAD(batch, small.real(), images, labels, lambda s: small.network("ConvNetBN", s), 0, small.experts())


def test_missing_experts_are_named(tmp_path: Any) -> None:
    config = PADConfig(**small.PAD_SETTINGS)
    with pytest.raises(ArtifactError, match="2 of 2 experts are not in"):
        store.open_all(config, small.data(), tmp_path)
    with pytest.raises(ArtifactError, match="which cache"):
        store.open_all(config, small.data(), None)


def test_a_set_keeps_its_labels_and_rate(tmp_path: Any) -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    images, labels = torch.rand(6, 1, 8, 8), torch.arange(3).repeat_interleave(2)
    encoding = Normaliser(mean=(0.5,), std=(0.5,))
    made = DistilledSet(images, labels, encoding, ("a", "b", "c"), 2, logits=logits, student_lr=0.03)
    made.save(tmp_path / "set")
    read = DistilledSet.load(tmp_path / "set")
    assert read.student_lr == 0.03
    assert torch.equal(read.targets(), logits.softmax(1).repeat_interleave(4, 0))
    assert torch.equal(read[5][1], logits[1].softmax(0))
