"""One DataDAM iteration (28×28×1, ConvNetD3, 64 real images of each of 10 classes, DSA, a fresh network) against a plain form.

    python tests/benchmarks/bench_datadam.py [ROUNDS]

The plain form is the textbook's: float32, ``avg_pool2d``, |f|^p written out, an affine matrix built image by image. Both
compute the same loss from the same draws (checked first).
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from pairs import compare, serve
from torch import Tensor

from raydistill.data import augment
from raydistill.data.images import DeviceImages, ImageSet, Normaliser
from raydistill.distill.datadam import DataDAM, DataDAMConfig, Statistics, matching_loss
from raydistill.models import build
from raydistill.models.convnet import Features
from raydistill.runtime.base import ALLOCATOR
from raydistill.seeding import derive, torch_generator

CLASSES, IPC, BATCH = 10, 10, 64


def method(precision: str) -> DataDAM:
    """A distillation of generated 28×28 images at its start."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), 200)
    pixels = rng.integers(0, 256, (len(labels), 1, 28, 28), dtype=np.uint8)
    images = ImageSet(pixels, labels, tuple(map(str, range(CLASSES))))
    real = DeviceImages(images, Normaliser(mean=(0.1307,), std=(0.3081,)))
    config = DataDAMConfig(power=1, loss_scale=100, batch_real=BATCH, precision=precision)
    start = torch.randn(CLASSES * IPC, 1, 28, 28, generator=torch_generator(0, "start"))
    return DataDAM(
        config,
        real,
        start,
        torch.arange(CLASSES).repeat_interleave(IPC),
        lambda s: build("ConvNetD3", (1, 28, 28), CLASSES, s),
        0,
    )


def plain_features(net: torch.nn.Module, x: Tensor) -> Features:
    """The network as the textbook writes it, none of its layers in the form that makes it fast here."""
    maps = []
    for conv, norm in net.blocks:
        x = F.relu(norm(F.conv2d(x, conv.weight, conv.bias, padding=conv.padding)))
        maps.append(x)
        x = F.avg_pool2d(x, 2)
    return Features(maps, x.flatten(1), net.classifier(x.flatten(1)))


def plain_statistics(features: Features) -> Statistics:
    """Class means with |f|^p and the norm written out."""
    attention = []
    for maps in features.maps[:-1]:
        a = maps.abs().pow(1).sum(1).flatten(1)
        z = a / a.norm(dim=1, keepdim=True)
        attention.append(torch.stack([part.mean(0) for part in z.chunk(CLASSES)]))
    return Statistics(attention, torch.stack([part.mean(0) for part in features.embedding.chunk(CLASSES)]))


def plain_augment(x: Tensor, drawn: augment.Draw | None) -> Tensor:
    """Affine families with a matrix for each image in a Python loop; the others as they are."""
    if drawn is None or drawn.family not in ("scale", "rotate"):
        return augment.apply(x, drawn)
    rows = []
    for _ in range(len(x)):
        u = drawn.numbers[:, 0]
        if drawn.family == "scale":
            factor = 1 / augment.SCALE_RATIO + u * (augment.SCALE_RATIO - 1 / augment.SCALE_RATIO)
            rows.append([[float(factor[0]), 0.0, 0.0], [0.0, float(factor[1]), 0.0]])
        else:
            angle = float((augment.ROTATE_DEGREES * torch.pi / 180) * (2 * u[0] - 1))
            rows.append([[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0]])
    grid = F.affine_grid(torch.tensor(rows, dtype=x.dtype), list(x.shape), align_corners=True)
    return F.grid_sample(x, grid, align_corners=True)


class Plain:
    """The plain iteration on the same draws as ``DataDAM.step``."""

    def __init__(self) -> None:
        self.twin = method("float32")
        self.images = self.twin.images.detach().clone().requires_grad_()
        self.optimiser = torch.optim.SGD([self.images], lr=self.twin.config.lr_img, momentum=0.5)

    def step(self, iteration: int) -> float:
        """One update; returns the loss."""
        twin = self.twin
        draw_seed = derive(twin.seed, "draw", iteration)
        net = build("ConvNetD3", (1, 28, 28), CLASSES, derive(twin.seed, "network", iteration))
        for parameter in net.parameters():
            parameter.requires_grad = False
        real, synthetic = [], []
        for label in range(CLASSES):
            generator = torch_generator(draw_seed, "real", label)
            drawn = twin._draw(draw_seed, label, (28, 28))
            batch = twin.real.take(twin.real.draw_from_class(label, BATCH, generator))
            real.append(plain_augment(batch, drawn))
            synthetic.append(plain_augment(self.images[label * IPC : (label + 1) * IPC], drawn))
        goal = plain_statistics(plain_features(net, torch.cat(real)))
        ours = plain_statistics(plain_features(net, torch.cat(synthetic)))
        loss = matching_loss(goal, ours, twin.config.task_balance, twin.config.loss_scale).total
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return loss.item()


def worker(name: str) -> None:
    """Serve steps of one form."""
    step = Plain().step if name == "plain" else method(name).step
    iteration = iter(range(10**6))
    serve(lambda: step(next(iteration)))


def main(rounds: int) -> None:
    """Check the agreement, then time."""
    plain, ours = Plain(), method("float32")
    for iteration in range(3):
        expected, found = plain.step(iteration), ours.step(iteration)["loss"]
        assert abs(found / expected - 1) < 1e-4, (iteration, expected, found)
    print(f"{torch.get_num_threads()} threads, {rounds} rounds; losses agree within 1e-4 over 3 steps")
    for title, environment in (("default allocator for the plain form", {}), ("tuned allocator for both", ALLOCATOR)):
        print(title)
        compare(__file__, "plain", ["float32", "bfloat16"], environment, ALLOCATOR, rounds)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
