"""The one supervised loop: students, baselines, pool networks, NAS and full-data training all go through ``Fit``.

SGD on cross entropy, DSA drawn per image, epochs as permutations named by (seed, epoch): step s sees the same batch
whoever asks and whenever, so a run can stop and go on.

Shapes: N images, n in a batch, K channels, H×W pixels, C classes.
"""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.optim.sgd import sgd

from raydistill.config import Config
from raydistill.data import augment
from raydistill.data.augment import Strategy
from raydistill.precision import Precision, autocast
from raydistill.seeding import torch_generator

MOST_PIXELS = 2**20
"Of all images that go through a network at once where that is free to choose: 20 of 224×224 are 0.5 GB a map of 128 channels."


class Trainable(Protocol):
    """Images that can be trained on."""

    labels: Tensor
    "int64 [N], or class probabilities [N, C]."

    def __len__(self) -> int: ...

    def take(self, indices: Tensor) -> Tensor:
        """Network inputs [n, K, H, W] for ``indices`` [n]."""
        ...


class EncodedImages:
    """A small set held as network inputs.

    Args:
        inputs: float [N, K, H, W], encoded.
        labels: int64 [N] or class probabilities [N, C].
    """

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs = inputs
        self.labels = labels

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, indices: Tensor) -> Tensor:
        """Rows of the set."""
        return self.inputs.index_select(0, indices.to(self.inputs.device))


class Recipe(Config):
    """How a network is trained, apart from how long."""

    batch: int = Field(256, ge=1)
    "Images a step; the last batch of an epoch may be smaller."
    lr: float = Field(0.01, gt=0)
    "SGD's learning rate."
    momentum: float = Field(0.9, ge=0, lt=1)
    "Of SGD, without dampening."
    weight_decay: float = Field(5e-4, ge=0)
    "SGD's, added to the gradient as weight_decay times the parameters."
    augment: Strategy = "digits"
    "DSA strategy, drawn per image."
    precision: Precision = "float32"
    "Of the convolutions while training; tests always run in float32. See ``precision.py``."
    sharpness: float = Field(0, ge=0)
    "ρ of sharpness-aware steps (SAM; FTD's flat minima): the gradient is taken this far uphill. Twice the cost; 0: plain."


class Fit:
    """A network in training.

    Args:
        net: trained in place, in train mode.
        data: what it is trained on.
        recipe: how.
        seed: names the permutations and augmentation draws.
        rank: of this process among those that train the network together.
        size: how many these are; each takes every ``size``-th image of a batch.
    """

    def __init__(
        self, net: nn.Module, data: Trainable, recipe: Recipe, seed: int, rank: int = 0, size: int = 1
    ) -> None:
        self.rank, self.size = rank, size
        self.net = net.train()
        self.data = data
        self.recipe = recipe
        self.seed = seed
        self.step = 0
        self.steps_per_epoch = math.ceil(len(data) / recipe.batch)
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)
        self.set_rate(recipe.lr)

    def set_rate(self, lr: float) -> None:
        """Go on with another learning rate; momentum restarts from zero, as in the field's evaluation code."""
        self.lr = lr
        self._momenta: dict[Tensor, Tensor | None] = dict.fromkeys(self.net.parameters())

    def momenta(self) -> list[Tensor]:
        """The optimiser's momentum of each parameter; zeros where it has none yet, which is the same."""
        return [torch.zeros_like(p) if m is None else m for p, m in self._momenta.items()]

    def go_on(self, step: int, momenta: list[Tensor]) -> None:
        """Take up another ``Fit`` after ``step`` steps; the network's own tensors are for the caller to load."""
        self.step = step
        for parameter, momentum in zip(self._momenta, momenta, strict=True):
            self._momenta[parameter] = momentum.to(parameter.device, copy=True)

    def run(self, steps: int) -> float:
        """Take ``steps`` further steps; returns the last batch's loss (NaN for none)."""
        loss = math.nan
        for _ in range(steps):
            epoch, place = divmod(self.step, self.steps_per_epoch)
            if epoch != self._epoch:
                self._epoch = epoch
                self._order = torch.randperm(len(self.data), generator=torch_generator(self.seed, "epoch", epoch))
            loss = self._one(self._order[place * self.recipe.batch : (place + 1) * self.recipe.batch])
        return loss

    def visit(self, order: Tensor) -> float:
        """Train on the images at ``order`` int64 [n], batch after batch; returns the mean of the batches' losses."""
        losses = [self._one(indices) for indices in torch.split(order, self.recipe.batch)]
        return sum(losses) / len(losses)

    def _one(self, indices: Tensor) -> float:
        recipe = self.recipe
        # A batch smaller than the team is trained on by each alike.
        together = len(indices) >= self.size
        own = slice(self.rank, None, self.size) if together else slice(None)
        inputs = self.data.take(indices[own])
        targets = self.data.labels.index_select(0, indices[own].to(self.data.labels.device))
        generator = torch_generator(self.seed, "augment", self.step)
        size = (inputs.shape[-2], inputs.shape[-1])
        drawn = augment.draw(recipe.augment, len(indices), size, generator)
        inputs = augment.apply(inputs, None if drawn is None else drawn._replace(numbers=drawn.numbers[:, own]))
        # The team takes the mean of its gradients, and not all have as many images.
        weight = len(inputs) * self.size / len(indices) if together else 1.0
        loss = self._gradient(inputs, targets, weight)
        if recipe.sharpness:
            self._sharpen(inputs, targets, weight)
        self._descend()
        self.step += 1
        return loss

    def _gradient(self, inputs: Tensor, targets: Tensor, weight: float) -> float:
        with autocast(self.recipe.precision, inputs.device):
            logits = self.net(inputs)
        loss = F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets)
        for parameter in self._momenta:
            parameter.grad = None
        torch.autograd.backward(loss if weight == 1 else weight * loss)
        return float(loss.detach())

    @torch.no_grad()
    def _descend(self) -> None:
        """One step of SGD; by PyTorch's function, for its class loads the compiler, 3 s of each process's life."""
        recipe = self.recipe
        moved = {p: p.grad for p in self._momenta if p.grad is not None}
        momenta = [self._momenta[p] for p in moved]
        sgd(
            list(moved),
            list(moved.values()),
            momenta,
            fused=True,
            lr=self.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        self._momenta.update(zip(moved, momenta, strict=True))

    def _sharpen(self, inputs: Tensor, targets: Tensor, weight: float) -> None:
        """Replace the gradient g at θ by that at θ + ρ·g/‖g‖ (Foret et al., ICLR 2021, eq. 2–3)."""
        moved = [(p, p.grad) for p in self.net.parameters() if p.grad is not None]
        length = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for _, g in moved]))
        uphill = [self.recipe.sharpness / (length + 1e-12) * g for _, g in moved]
        with torch.no_grad():
            before = [p.clone() for p, _ in moved]
            for (p, _), move in zip(moved, uphill, strict=True):
                p.add_(move)
        self._gradient(inputs, targets, weight)
        with torch.no_grad():
            for (p, _), value in zip(moved, before, strict=True):
                p.copy_(value)


def predict(net: nn.Module, data: Trainable, batch: int = 250) -> Tensor:
    """Logits float32 [N, C] on the CPU, in eval mode, without gradients; the mode is put back afterwards."""
    training = net.training
    net.eval()
    size = at_once(data.take(torch.zeros(1, dtype=torch.int64)), batch)
    with torch.inference_mode():
        parts = [net(data.take(i)).float().cpu() for i in torch.split(torch.arange(len(data)), size)]
    net.train(training)
    return torch.cat(parts)


def at_once(images: Tensor, most: int) -> int:
    """How many images like ``images`` [n, K, H, W] may go through a network together: ``MOST_PIXELS``, and at most ``most``."""
    return max(1, min(most, MOST_PIXELS // (images.shape[-2] * images.shape[-1])))


def answers(logits: Tensor) -> Tensor:
    """The class that each row of logits [N, C] names; −1 where they are no numbers.

    The largest of those would be the first class, and of a network that diverged every answer: as good as the share of it.
    """
    return torch.where(logits.isfinite().all(1), logits.argmax(1), -1)


def accuracy(net: nn.Module, data: Trainable) -> float:
    """Share of images classified right, in [0, 1]."""
    return float((answers(predict(net, data)) == data.labels.cpu()).double().mean())
