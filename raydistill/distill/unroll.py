"""The gradients of trajectory matching: one loss, several ways through the student's steps.

A student starts at an expert's parameters θ_0 and takes N steps on the synthetic images,

    θ_{i+1} = θ_i − syn_lr · ∇_θ ℓ_i(θ_i),     ℓ_i = mean cross entropy of step i's batch,

and the loss says how near it came to where the expert went (MTT, Cazenavette et al., CVPR 2022):

    L = Σ_K (θ_N − θ*)² / Σ_K (θ_0 − θ*)²,     K the kept parameters (PAD, Li et al. 2024).

``matching`` computes L and its gradients to images, label logits and syn_lr by one of four forms:

* ``full``: autograd through all steps at once. Exact; memory grows with N.
* ``adjoint``: the student's steps are taken without a graph, then retraced backwards one by one with the adjoint
  λ_i = λ_{i+1} − syn_lr · ∇²ℓ_i(θ_i) λ_{i+1}. Exact; holds the graph of one step and N vectors [P].
* ``two_pass``: TESLA (Cui et al., ICML 2023): each step's parameters are held fixed with respect to the images. One
  adjoint for all steps, no second derivative in θ. Exact for N = 1, an approximation above; memory does not grow with N.
* ``window``: exact gradients through the last ``window`` steps only, as if the student had started there; what came before
  is constant. With an N that is drawn for each iteration, as ``pad`` does, this is RaT-BPTT (Feng et al., ICLR 2024).

Shapes: n images, K channels, H×W pixels, C classes, P parameters, N steps, b images in a step's batch.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from raydistill.data import augment
from raydistill.data.augment import Draw

Form = Literal["adjoint", "full", "two_pass", "window"]
Logits = Callable[[Tensor, Tensor], Tensor]
"(θ [P], inputs [b, K, H, W]) → logits [b, C]."
Keep = Callable[[Tensor], Tensor]
"Squared errors [P] → which parameters count, bool [P]."

CHUNK, PIXELS = 128, 2**19
"""Images whose graph is held at once on a CPU, and their pixels: ten of 3×224×224, with ConvNetD7 2.6 GiB by what four took.
Gradients of a sum add up. Smaller pieces were no faster on images of 28×28, and slow small nets."""


class Step(NamedTuple):
    """One student step: which images, and how they are augmented."""

    indices: Tensor
    "int64 [b]."
    draw: Draw | None


class Matched(NamedTuple):
    """The loss and what it asks of images, labels and rate."""

    loss: Tensor
    "L, a scalar."
    images: Tensor
    "∂L/∂images [n, K, H, W]."
    labels: Tensor | None
    "∂L/∂label logits [n, C]; ``None`` for hard labels."
    rate: Tensor
    "∂L/∂syn_lr, a scalar."
    student: Tensor
    "θ_N [P]."


class Problem(NamedTuple):
    """What is differentiated: a student's steps towards an expert's parameters."""

    logits: Logits
    images: Tensor
    "[n, K, H, W], encoded."
    labels: Tensor
    "int64 [n], or label logits float [n, C] whose softmax are the targets."
    rate: Tensor
    "syn_lr, a scalar."
    start: Tensor
    "θ_0 [P]."
    target: Tensor
    "θ* [P]."
    steps: Sequence[Step]
    keep: Keep

    @property
    def soft(self) -> bool:
        """Whether labels are learned logits."""
        return self.labels.is_floating_point()


def matching(problem: Problem, form: Form = "adjoint", window: int | None = None) -> Matched:
    """The matching loss and its gradients.

    Args:
        problem: the student and where it should come to.
        form: how to go through its steps, see above.
        window: last steps that are differentiated through (``window`` only).
    """
    if form == "full":
        return _full(problem)
    before = len(problem.steps) - window if form == "window" and window is not None else 0
    path = _walk(problem, keep_from=max(0, before), store=form != "two_pass")
    loss, adjoint = _loss(problem, path.last)
    if form == "two_pass":
        return _two_pass(problem, path, loss, adjoint)
    images, labels, rate = _zeros(problem)
    for step, theta in zip(reversed(problem.steps[max(0, before) :]), reversed(path.stored), strict=True):
        back = _retrace(problem, step, theta, adjoint, through_theta=True)
        images -= problem.rate * back.images
        if labels is not None and back.labels is not None:
            labels -= problem.rate * back.labels
        rate -= back.along
        adjoint = adjoint - problem.rate * back.theta
    return Matched(loss, images, labels, rate, path.last)


def drop_shallow(share: float) -> Keep:
    """PAD's paper: the first ``share`` of the parameters, those of the shallow layers, do not count."""

    def keep(errors: Tensor) -> Tensor:
        kept = torch.ones_like(errors, dtype=torch.bool)
        kept[: int(share * len(errors))] = False
        return kept

    return keep


def drop_nearest(share: float) -> Keep:
    """PAD's released code: the ``share`` of the parameters with the smallest squared errors do not count."""

    def keep(errors: Tensor) -> Tensor:
        kept = torch.ones_like(errors, dtype=torch.bool)
        kept[errors.argsort()[: int(share * len(errors))]] = False
        return kept

    return keep


class _Path(NamedTuple):
    """Where the student went: θ_i for the steps that are retraced, θ_N, and Σ g_i."""

    stored: list[Tensor]
    last: Tensor
    total: Tensor


class _Back(NamedTuple):
    """∂(g·λ) to images, labels and θ; g·λ and g themselves."""

    images: Tensor
    labels: Tensor | None
    theta: Tensor
    along: Tensor
    gradient: Tensor


def _walk(problem: Problem, keep_from: int, store: bool) -> _Path:
    theta, stored, total = problem.start, [], torch.zeros_like(problem.start)
    for i, step in enumerate(problem.steps):
        if store and i >= keep_from:
            stored.append(theta)
        gradient = _gradient(problem, step, theta)
        total += gradient
        theta = theta - problem.rate * gradient
    return _Path(stored, theta, total)


def _loss(problem: Problem, last: Tensor) -> tuple[Tensor, Tensor]:
    """L and ∂L/∂θ_N."""
    difference = last - problem.target
    errors = difference.square()
    kept = problem.keep(errors)
    denominator = (problem.start - problem.target).square()[kept].sum()
    return errors[kept].sum() / denominator, 2 * difference * kept / denominator


def _parts(problem: Problem, step: Step) -> list[tuple[Tensor, Draw | None]]:
    """The step's batch in pieces that fit a CPU's cache; networks with batch norm have no trajectories (``Layout.of``)."""
    size = len(step.indices)
    if problem.images.device.type == "cpu":
        size = max(1, min(CHUNK, PIXELS // (problem.images.shape[-2] * problem.images.shape[-1])))
    parts = []
    for start in range(0, len(step.indices), size):
        draw = step.draw
        if draw is not None and draw.numbers.shape[1] > 1:
            draw = Draw(draw.family, draw.numbers[:, start : start + size])
        parts.append((step.indices[start : start + size], draw))
    return parts


def _share(problem: Problem, theta: Tensor, images: Tensor, labels: Tensor, draw: Draw | None, b: int) -> Tensor:
    """The part of the batch's mean cross entropy that these images have."""
    logits = problem.logits(theta, augment.apply(images, draw))
    logits = logits.to(torch.promote_types(logits.dtype, theta.dtype))
    targets = labels.softmax(1) if problem.soft else labels
    return F.cross_entropy(logits, targets, reduction="sum") / b


def _gradient(problem: Problem, step: Step, theta: Tensor) -> Tensor:
    """∇_θ ℓ(θ), without a graph."""
    leaf = theta.detach().requires_grad_()
    gradient = torch.zeros_like(theta)
    for indices, draw in _parts(problem, step):
        share = _share(problem, leaf, problem.images[indices], problem.labels[indices], draw, len(step.indices))
        gradient += torch.autograd.grad(share, leaf)[0]
    return gradient


def _retrace(problem: Problem, step: Step, theta: Tensor, adjoint: Tensor, through_theta: bool) -> _Back:
    """Derivatives of g(θ)·λ, g = ∇_θ ℓ, one piece of the batch after another."""
    images, labels, along = _zeros(problem)
    to_theta, whole = torch.zeros_like(theta), torch.zeros_like(theta)
    leaf = theta.detach().requires_grad_()
    for indices, draw in _parts(problem, step):
        x = problem.images[indices].requires_grad_()
        y = problem.labels[indices]
        wanted = [x]
        if labels is not None:
            wanted.append(y.requires_grad_())
        if through_theta:
            wanted.append(leaf)
        share = _share(problem, leaf, x, y, draw, len(step.indices))
        (gradient,) = torch.autograd.grad(share, leaf, create_graph=True)
        product = gradient @ adjoint
        found = list(torch.autograd.grad(product, wanted))
        along += product.detach()
        whole += gradient.detach()
        images.index_add_(0, indices, found[0])
        if labels is not None:
            labels.index_add_(0, indices, found[1])
        if through_theta:
            to_theta += found[-1]
    return _Back(images, labels, to_theta, along, whole)


def _two_pass(problem: Problem, path: _Path, loss: Tensor, adjoint: Tensor) -> Matched:
    images, labels, _ = _zeros(problem)
    theta = problem.start
    for step in problem.steps:
        back = _retrace(problem, step, theta, adjoint, through_theta=False)
        images -= problem.rate * back.images
        if labels is not None and back.labels is not None:
            labels -= problem.rate * back.labels
        theta = theta - problem.rate * back.gradient
    return Matched(loss, images, labels, -(path.total @ adjoint), path.last)


def _full(problem: Problem) -> Matched:
    images = problem.images.detach().requires_grad_()
    labels = problem.labels.detach()
    rate = problem.rate.detach().requires_grad_()
    wanted = [images, rate]
    if problem.soft:
        wanted.append(labels.requires_grad_())
    theta = problem.start.detach().requires_grad_()
    for step in problem.steps:
        share = _share(problem, theta, images[step.indices], labels[step.indices], step.draw, len(step.indices))
        (gradient,) = torch.autograd.grad(share, theta, create_graph=True)
        theta = theta - rate * gradient
    kept = problem.keep((theta.detach() - problem.target).square())
    denominator = (problem.start - problem.target).square()[kept].sum()
    loss = (theta - problem.target).square()[kept].sum() / denominator
    found = torch.autograd.grad(loss, wanted)
    return Matched(loss.detach(), found[0], found[2] if problem.soft else None, found[1], theta.detach())


def _zeros(problem: Problem) -> tuple[Tensor, Tensor | None, Tensor]:
    labels = torch.zeros_like(problem.labels) if problem.soft else None
    return torch.zeros_like(problem.images), labels, torch.zeros_like(problem.rate)
