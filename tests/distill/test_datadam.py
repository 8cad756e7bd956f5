"""DataDAM as a method: settings, draws, the pool and its stages, the gradient with augmentation."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raydistill import precision
from raydistill.data import augment
from raydistill.distill import datadam
from raydistill.distill.datadam import PRESETS, DataDAM, DataDAMConfig, Statistics, pieces, statistics
from raydistill.distill.initialise import labels_of
from raydistill.errors import ConfigError
from raydistill.models import fit
from raydistill.models.fit import Fit, Recipe
from raydistill.seeding import derive
from tests.distill import small

ALL = torch.arange(36)
DOCUMENTED = {
    "paper": {
        "power": 4.0, "network": "ConvNetD3", "loss_scale": 1.0, "iterations": 8000, "lr_img": 1.0, "batch_real": 64,
        "task_balance": 0.01, "momentum": 0.5, "network_pool": None, "network_stages": (0,),
    },
    "code": {
        "power": 1.0, "network": "ConvNetBN", "loss_scale": 100.0, "iterations": 20000, "lr_img": 1.0,
        "batch_real": 64, "task_balance": 0.01, "momentum": 0.5, "network_pool": None, "network_stages": (0,),
    },
    "seed_report": {
        "power": 4.0, "network": "ConvNetD3", "loss_scale": 10000.0, "iterations": 1000, "lr_img": 0.1,
        "batch_real": 256, "network_pool": 100, "network_stages": (50,), "pool_draws": 10,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_what_their_sources_say(name: str) -> None:
    config = DataDAMConfig(**PRESETS[name])
    assert {field: getattr(config, field) for field in DOCUMENTED[name]} == DOCUMENTED[name]
    assert DataDAMConfig.parse(config.to_json()) == config


def test_the_reports_pool_is_passed_ten_times() -> None:
    config = DataDAMConfig(**PRESETS["seed_report"])
    assert config.network_pool is not None
    assert config.iterations == 10 * config.network_pool


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network_stages": ()}, "ascending step counts"),
        ({"network_stages": (50, 0), "network_pool": 2}, "ascending step counts"),
        ({"network_stages": (0, 0), "network_pool": 2}, "ascending step counts"),
        ({"network_stages": (-1,)}, "ascending step counts"),
        ({"network_stages": (0, 50)}, "set network_pool or give one stage"),
        ({"network_stages": (0, 50), "network_pool": 5}, "no multiple of its 2 network_stages; use 4"),
        ({"network_stages": (0, 5, 9), "network_pool": 2}, "use 3"),
        ({"network_pool": 0}, "network_pool=0"),
        ({"power": 0.5}, "power=0.5"),
        ({"lr_img": 0}, "lr_img=0"),
        ({"lr_img": float("inf")}, "lr_img=inf"),
        ({"momentum": 1}, "momentum=1"),
        ({"task_balance": -1}, "task_balance=-1"),
        ({"precision": "float16"}, "precision='float16'"),
        ({"batchreal": 3}, "did you mean 'batch_real'"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        DataDAMConfig(**settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def flat(found: Statistics) -> Tensor:
    return torch.cat([part.flatten() for part in [*found.attention, found.embedding]])


@pytest.mark.parametrize("name", ["ConvNetD3", "ConvNetGN", "ConvNetLN", "ConvNetNN", "ConvNetBN"])
def test_real_statistics_are_those_of_one_batch(name: str) -> None:
    method = small.datadam(network=name, augment="digits")
    net = datadam.frozen(small.network(name, 3), "float32")
    found = method._real_statistics(net, 17)
    batches = [method._real_batch(17, label) for label in range(3)]
    together = flat(statistics(net.features(torch.cat(batches)), 3, 4))  # type: ignore[operator]
    assert torch.allclose(flat(found), together, atol=1e-6)
    apart = torch.cat([flat(statistics(net.features(b), 1, 4)) for b in batches])  # type: ignore[operator]
    # Batch norm is where it matters: there the classes see each other.
    assert torch.allclose(apart.sort()[0], together.sort()[0], atol=1e-5) == (name != "ConvNetBN")


def test_a_real_batch_is_of_its_class_and_without_repeats() -> None:
    method = small.datadam(augment="none", batch_real=12)
    known = {image.numpy().tobytes(): int(method.real.labels[i]) for i, image in enumerate(method.real.take(ALL))}
    for label in range(3):
        batch = [known[image.numpy().tobytes()] for image in method._real_batch(5, label)]
        assert batch == [label] * 12
        assert len({image.numpy().tobytes() for image in method._real_batch(5, label)}) == 12


def test_real_and_synthetic_of_a_class_share_a_draw_and_classes_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[augment.Draw, int]] = []
    original: Callable[..., Tensor] = augment.apply

    def apply(x: Tensor, drawn: augment.Draw) -> Tensor:
        seen.append((drawn, len(x)))
        return original(x, drawn)

    monkeypatch.setattr(augment, "apply", apply)
    method = small.datadam(augment="digits", ipc=2, batch_real=6)
    for iteration in range(4):
        seen.clear()
        method.step(iteration)
        assert [n for _, n in seen] == [6, 6, 6, 2, 2, 2]
        for label in range(3):
            assert seen[label][0].family == seen[3 + label][0].family
            assert torch.equal(seen[label][0].numbers, seen[3 + label][0].numbers)
            assert seen[label][0].numbers.shape[1] == 1
        assert len({(d.family, *d.numbers.flatten().tolist()) for d, _ in seen[:3]}) > 1


class Known:
    """Real images in float64."""

    def __init__(self) -> None:
        self.base = small.real()
        self.classes = self.base.classes
        self.draw_from_class = self.base.draw_from_class

    def __len__(self) -> int:
        return len(self.base)

    def take(self, indices: Tensor) -> Tensor:
        return self.base.take(indices).double()


def exact(start: Tensor, **settings: Any) -> DataDAM:
    """In float64, with a smooth network: at a ReLU's kink a difference quotient is no derivative."""
    config = DataDAMConfig(ipc=2, batch_real=5, momentum=0, loss_scale=100, power=2, **settings)
    data: Any = Known()
    make = lambda seed: small.network("ConvNetASwish", seed).double()  # noqa: E731
    return DataDAM(config, data, start, labels_of(3, 2), make, 0)


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("family", [*augment.FAMILIES, "none"])
def test_the_steps_gradient_is_that_of_finite_differences(
    family: str, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(augment.STRATEGIES, "digits", () if family == "none" else (family,))
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(6, 1, 8, 8, generator=generator, dtype=torch.float64)
    settings = {"factor": factor, "augment": "digits", "lr_img": 1e-3}
    for iteration in range(2):
        method = exact(start, **settings)
        method.step(iteration)
        gradient = method.velocity
        assert torch.allclose(method.images, start - 1e-3 * gradient, atol=1e-15)
        direction = torch.randn(start.shape, generator=generator, dtype=torch.float64)
        above, below = (exact(start + h * direction, **settings).step(iteration)["loss"] for h in (1e-6, -1e-6))
        assert float((gradient * direction).sum()) == pytest.approx((above - below) / 2e-6, rel=1e-6)


def test_the_update_is_sgd_with_momentum() -> None:
    plain, heavy = small.datadam(momentum=0), small.datadam(momentum=0.5)
    plain.step(0)
    heavy.step(0)
    first = plain.velocity.clone()
    assert torch.equal(plain.images, heavy.images)
    plain.step(1)
    before = heavy.images.detach().clone()
    heavy.step(1)
    assert torch.allclose(heavy.velocity, plain.velocity + 0.5 * first, atol=1e-6)
    assert torch.allclose(heavy.images, before - 0.5 * heavy.velocity, atol=1e-7)


def test_the_numbers_of_a_step_belong_together() -> None:
    numbers = small.datadam(loss_scale=7.0, task_balance=0.3).step(0)
    assert set(numbers) == {"loss", "loss_sam", "loss_mmd"}
    assert numbers["loss"] == pytest.approx(7 * (numbers["loss_sam"] + 0.3 * numbers["loss_mmd"]), rel=1e-5)


class Noted(DataDAM):
    """Notes which pool member and which initialisation are asked for."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.members: list[int] = []
        self.made: list[int] = []
        inner = self.network

        def network(seed: int) -> nn.Module:
            self.made.append(seed)
            return inner(seed)

        self.network = network

    def _pooled(self, member: int) -> nn.Module:
        self.members.append(member)
        return super()._pooled(member)


def noted(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Noted:
    monkeypatch.setattr(small, "DataDAM", Noted)
    method = small.datadam(**settings)
    assert isinstance(method, Noted)
    return method


def test_each_pass_visits_each_member_once_in_its_own_order(monkeypatch: pytest.MonkeyPatch) -> None:
    method = noted(monkeypatch, network_pool=5)
    for iteration in range(20):
        method.step(iteration)
    passes = [tuple(method.members[i : i + 5]) for i in range(0, 20, 5)]
    assert all(sorted(visit) == [0, 1, 2, 3, 4] for visit in passes)
    assert len(set(passes)) > 1
    assert len(method.made) == len(set(method.made)) == 5


def test_stages_share_an_initialisation(monkeypatch: pytest.MonkeyPatch) -> None:
    method = noted(monkeypatch, network_pool=4, network_stages=(0, 3))
    for iteration in range(8):
        method.step(iteration)
    assert len(method.made) == len(set(method.made)) == 2


def test_without_a_pool_each_iteration_has_a_network_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    method = noted(monkeypatch)
    for iteration in range(4):
        method.step(iteration)
    assert len(set(method.made)) == 4
    assert method.members == []


def test_pool_statistics_are_made_once_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    method = noted(monkeypatch, network_pool=2, pool_draws=3)
    made = []
    original = method._real_statistics
    method._real_statistics = lambda *a: made.append(a[1]) or original(*a)  # type: ignore[method-assign, func-returns-value]
    for iteration in range(2 * 7):
        method.step(iteration)
    assert len(made) == len(set(made)) == 2 * 3


@pytest.mark.parametrize("settings", [{"pool_draws": 1}, {"pool_draws": 2}, {"network_stages": (0, 2)}])
def test_kept_networks_and_statistics_change_no_number(settings: dict[str, Any]) -> None:
    kept, forgetful = (small.datadam(network_pool=4, **settings) for _ in range(2))
    for iteration in range(10):
        forgetful._pool.clear()
        forgetful._known.clear()
        assert kept.step(iteration) == forgetful.step(iteration)
    assert torch.equal(kept.images, forgetful.images)


def test_later_stages_are_a_fit_of_that_many_steps() -> None:
    training = Recipe(batch=8, lr=0.05, momentum=0, weight_decay=0)
    method = small.datadam(network_pool=6, network_stages=(0, 3, 7), training=training)
    for origin in range(2):
        for stage, steps in enumerate((0, 3, 7)):
            net = small.network("ConvNetD3", derive(0, "network", origin))
            Fit(net, small.real(), training, derive(0, "train", origin)).run(steps)
            found = method._pooled(3 * origin + stage)
            assert all(not p.requires_grad for p in found.parameters())
            assert all(torch.equal(a, b) for a, b in zip(net.parameters(), found.parameters(), strict=True))


def test_matching_in_trains_no_network() -> None:
    method = small.datadam(network_pool=1, network="ConvNetBN")
    method.step(0)
    before = [p.clone() for p in method._pool[0].parameters()]
    for iteration in range(1, 4):
        method.step(iteration)
    assert all(torch.equal(a, b) for a, b in zip(before, method._pool[0].parameters(), strict=True))


def test_bfloat16_is_close_and_leaves_images_and_statistics_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda kind: True)
    wide, narrow = small.datadam(power=2), small.datadam(power=2, precision="bfloat16")
    start = wide.images.detach().clone()
    losses = [(wide.step(i)["loss"], narrow.step(i)["loss"]) for i in range(5)]
    assert all(a == pytest.approx(b, rel=0.05) for a, b in losses)
    assert losses[0][0] != losses[0][1]
    assert narrow.images.dtype == narrow.velocity.dtype == torch.float32
    assert (narrow.images - wide.images).norm() < 0.1 * (wide.images - start).norm()


def test_multi_formation_matches_the_images_that_students_see() -> None:
    method = small.datadam(factor=2, augment="none", ipc=2)
    seen = []
    original = method._features
    method._features = lambda net, batch, classes: seen.append(batch.shape) or original(net, batch, classes)  # type: ignore[method-assign, func-returns-value]
    method.step(0)
    assert method.images.shape == (6, 1, 8, 8)
    assert seen[-1] == (24, 1, 8, 8)


@pytest.mark.parametrize("settings", [{}, {"network_pool": 4, "network_stages": (0, 2)}, {"factor": 2}])
def test_large_images_in_pieces_give_the_same_step(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small.datadam(ipc=6, augment="natural", **settings)
    for iteration in range(3):
        expected = whole.step(iteration)
    monkeypatch.setattr(fit, "MOST_PIXELS", 3 * 8 * 8)
    cut = small.datadam(ipc=6, augment="natural", **settings)
    assert pieces(cut.images[:6]) == 2
    calls: list[int] = []
    monkeypatch.setattr(
        cut, "_features", lambda net, batch, n: (calls.append(len(batch)), DataDAM._features(cut, net, batch, n))[1]
    )
    for iteration in range(3):
        found = cut.step(iteration)
    assert set(calls) == {3}
    assert found == pytest.approx(expected, rel=1e-4)
    assert torch.allclose(cut.images, whole.images, atol=1e-4)


def test_images_that_see_each_other_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = (small.datadam(ipc=6, network="ConvNetBN") for _ in range(2))
    expected = whole.step(0)
    monkeypatch.setattr(fit, "MOST_PIXELS", 8 * 8)
    assert cut.step(0) == expected


def test_pieces_are_equal_and_small_enough() -> None:
    def cut(count: int, side: int) -> int:
        return pieces(torch.empty(count, 3, side, side, device="meta"))

    assert [cut(50, 224), cut(128, 224), cut(7, 224), cut(53, 224)] == [5, 8, 1, 53]
    assert [cut(50, 32), cut(256, 28), cut(2, 2000)] == [1, 1, 2]
