"""The supervised loop: the official short training, resumable order, and what a learning rate's change does."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydistill import precision
from raydistill.data.images import DeviceImages, ImageSet, Normaliser
from raydistill.models import ConvNet, ConvNetConfig
from raydistill.models.fit import EncodedImages, Fit, Recipe, accuracy, predict
from tests import formulas

STORED = formulas.golden("evaluate")
PLAIN = Recipe(batch=4, lr=0.1, augment="none")


def label_logits() -> np.ndarray:
    """Label logits of the six images: noise, raised at the image's own class."""
    values = 1.5 * formulas.noise(18, 2000).reshape(6, 3)
    values[np.arange(6), np.arange(6) // 2] += 2
    return values.astype(np.float32)


def short_training(release: str, dtype: torch.dtype) -> tuple[ConvNet, EncodedImages]:
    """The stored training's network at its start, and the six images: labels hard (datadam) or probabilities (pad)."""
    net = ConvNet(ConvNetConfig(depth=2, width=8), (1, 28, 28), 3).to(dtype)
    formulas.load_weights(net)
    labels = torch.arange(6) // 2
    if release == "pad":
        labels = torch.softmax(torch.from_numpy(label_logits()).to(dtype), 1)
    return net, EncodedImages(torch.from_numpy(formulas.images(5, (6, 1, 28, 28))).to(dtype), labels)


def flat(net: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()]).clone()


def small_net(seed: int = 0, norm: str = "instance") -> ConvNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ConvNet(ConvNetConfig(depth=2, width=8).override({"norm": norm}), (1, 8, 8), 3)


class Watched(EncodedImages):
    """Notes which images each batch holds."""

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        super().__init__(inputs, labels)
        self.batches: list[list[int]] = []

    def take(self, indices: Tensor) -> Tensor:
        self.batches.append(indices.tolist())
        return super().take(indices)


@pytest.fixture
def watched() -> Watched:
    inputs = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Watched(inputs, torch.arange(10) % 3)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 5e-6)])
@pytest.mark.parametrize(("release", "batch"), [("datadam", 64), ("pad", 128)])
def test_golden_short_training(release: str, batch: int, dtype: torch.dtype, tolerance: float) -> None:
    net, data = short_training(release, dtype)
    fit = Fit(net, data, Recipe(batch=batch, augment="none"), seed=0)
    for epoch in range(9):
        if epoch == 6:
            fit.set_rate(0.001)
        loss = fit.run(1)
        assert loss == pytest.approx(float(STORED[f"{release}/short_training/losses"][epoch]), abs=tolerance)
        parameters = STORED[f"{release}/short_training/parameters"][epoch]
        assert np.abs(flat(net).double().numpy() - parameters).max() <= tolerance, f"after epoch {epoch}"


def test_an_epoch_is_a_permutation_and_its_last_batch_may_be_smaller(watched: Watched) -> None:
    fit = Fit(small_net(), watched, PLAIN, seed=1)
    assert fit.steps_per_epoch == 3
    fit.run(6)
    assert [len(b) for b in watched.batches] == [4, 4, 2, 4, 4, 2]
    first, second = (list(itertools.chain(*watched.batches[i : i + 3])) for i in (0, 3))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


@pytest.mark.parametrize("augment", ["none", "digits"])
def test_run_in_parts_is_run_at_once(watched: Watched, augment: str) -> None:
    recipe = PLAIN.override({"augment": augment})
    once, parts = small_net(), small_net()
    Fit(once, watched, recipe, seed=1).run(7)
    whole, watched.batches = watched.batches, []
    fit = Fit(parts, watched, recipe, seed=1)
    for steps in (1, 0, 4, 2):
        # What others draw from the global stream in between does not matter.
        torch.rand(3)
        fit.run(steps)
    assert watched.batches == whole
    assert torch.equal(flat(once), flat(parts))


def test_the_seed_names_the_order(watched: Watched) -> None:
    for seed in (1, 2):
        Fit(small_net(), watched, PLAIN, seed).run(3)
    assert watched.batches[:3] != watched.batches[3:]


def test_no_steps_have_no_loss(watched: Watched) -> None:
    net = small_net()
    before = flat(net)
    assert math.isnan(Fit(net, watched, PLAIN, seed=1).run(0))
    assert torch.equal(flat(net), before)


def test_momentum_restarts_when_the_rate_changes(watched: Watched) -> None:
    net = small_net()
    fit = Fit(net, watched, Recipe(batch=10, lr=0.1, augment="none"), seed=1)
    fit.run(3)
    fit.set_rate(0.05)
    before = flat(net)
    loss = F.cross_entropy(net(watched.inputs), watched.labels)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])
    fit.run(1)
    # Without momentum the step is the gradient alone, with weight decay on the parameters.
    assert torch.allclose(flat(net), before - 0.05 * (gradient + 5e-4 * before), atol=1e-6)


def test_momentum_and_decay_are_those_of_plain_sgd(watched: Watched) -> None:
    net, twin = small_net(), small_net()
    Fit(net, watched, Recipe(batch=10, lr=0.1, augment="none"), seed=1).run(4)
    optimiser = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(4):
        optimiser.zero_grad()
        torch.autograd.backward(F.cross_entropy(twin(watched.inputs), watched.labels))
        optimiser.step()
    assert torch.allclose(flat(net), flat(twin), atol=1e-6)


def test_probabilities_of_one_class_are_that_class(watched: Watched) -> None:
    hard, soft = small_net(), small_net()
    Fit(hard, watched, PLAIN, seed=1).run(5)
    Fit(soft, EncodedImages(watched.inputs, F.one_hot(watched.labels, 3).float()), PLAIN, seed=1).run(5)
    assert torch.allclose(flat(hard), flat(soft), atol=1e-6)


def test_bfloat16_training_stays_close_and_keeps_float32_weights(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda kind: True)
    wide, narrow = small_net(), small_net()
    start = flat(wide)
    Fit(wide, watched, PLAIN, seed=1).run(10)
    Fit(narrow, watched, PLAIN.override({"precision": "bfloat16"}), seed=1).run(10)
    assert flat(narrow).dtype == torch.float32
    assert not torch.equal(flat(wide), flat(narrow))
    moved = (flat(wide) - start).norm()
    assert (flat(narrow) - flat(wide)).norm() < 0.15 * moved


@pytest.mark.parametrize("mode", [True, False], ids=["train", "eval"])
def test_predict_is_eval_in_any_batch_size_and_puts_the_mode_back(watched: Watched, mode: bool) -> None:
    net = small_net(norm="batch")
    Fit(net, watched, PLAIN, seed=1).run(5)
    running = [b.clone() for b in net.buffers()]
    net.train(mode)
    found = predict(net, watched, batch=3)
    assert net.training == mode
    assert all(torch.equal(a, b) for a, b in zip(running, net.buffers(), strict=True))
    net.eval()
    assert found.shape == (10, 3)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert torch.allclose(found, net(watched.inputs), atol=1e-5)


def test_accuracy_is_the_share_that_is_right() -> None:
    class Echo(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0, 0]

    rows = F.one_hot(torch.tensor([0, 1, 2, 0]), 3).float()[:, None, None]
    assert accuracy(Echo(), EncodedImages(rows, torch.tensor([0, 1, 1, 2]))) == 0.5


def test_it_learns_an_easy_problem(tiny_images: ImageSet) -> None:
    data = DeviceImages(tiny_images, Normaliser.fit(tiny_images.images))
    net = small_net()
    Fit(net, data, Recipe(batch=20, lr=0.05, augment="digits"), seed=1).run(60)
    assert accuracy(net, data) > 0.9


def test_a_training_taken_up_ends_where_it_would_have() -> None:
    data = EncodedImages(torch.from_numpy(formulas.images(5, (6, 1, 8, 8))).float(), torch.arange(6) // 2)
    whole = Fit(small_net(), data, PLAIN, seed=3)
    whole.run(5)
    first = Fit(small_net(), data, PLAIN, seed=3)
    first.run(2)
    second = Fit(first.net, data, PLAIN, seed=3)
    second.go_on(2, [momentum.clone() for momentum in first.momenta()])
    second.run(3)
    assert torch.equal(flat(second.net), flat(whole.net))


def test_before_the_first_step_there_is_no_momentum() -> None:
    data = EncodedImages(torch.zeros(4, 1, 8, 8), torch.arange(4) % 3)
    assert all(not momentum.any() for momentum in Fit(small_net(), data, PLAIN, seed=0).momenta())


@pytest.mark.parametrize("augment", ["none", "digits"])
def test_a_team_trains_on_the_same_batches_with_the_same_augmentation(augment: str) -> None:
    """The mean of the members' gradients is the gradient of one process."""
    data = EncodedImages(torch.from_numpy(formulas.images(5, (6, 1, 8, 8))).float(), torch.arange(6) // 2)
    recipe = PLAIN.override({"augment": augment})

    def gradient(rank: int, size: int) -> Tensor:
        net = small_net()
        Fit(net, data, recipe, 3, rank, size).run(1)
        return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])

    for size in (2, 3):  # of batches of four, so that one of three members has two images
        together = sum(gradient(rank, size) for rank in range(size)) / size
        torch.testing.assert_close(together, gradient(0, 1), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(gradient(0, 2), gradient(1, 2))


def test_a_batch_smaller_than_the_team_is_trained_on_by_each() -> None:
    data = Watched(torch.zeros(2, 1, 8, 8), torch.arange(2))
    Fit(small_net(), data, PLAIN, 0, rank=2, size=3).run(1)
    assert [len(batch) for batch in data.batches] == [2]
