"""PAD: prioritize alignment in dataset distillation (Li et al., arXiv 2408.03360); with it MTT and DATM.

A network trained on the synthetic images should go where experts went that were trained on the real ones. Each iteration
takes an expert and a start epoch t, lets a student take ``syn_steps`` steps from the expert's parameters θ*_t on the
synthetic images, and moves images, label logits and the student's rate so that it ends nearer to θ*_{t+M}. PAD aligns what
is matched: the experts follow a curriculum (``experts/curriculum.py``), and the share α of the parameters that lie in
shallow layers does not count. MTT is PAD without both and with hard labels; DATM is it with soft ones and a widening range.

Shapes: C classes, n = C·ipc images, K channels, H×W pixels, P parameters, N student steps.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from raydistill.data import augment, formation
from raydistill.data.images import DeviceImages
from raydistill.distill import unroll
from raydistill.distill.method import Method, MethodConfig, NetworkFactory, Phase
from raydistill.distill.unroll import Form, Matched, Problem, Step
from raydistill.errors import ConfigError
from raydistill.experts.curriculum import CurriculumConfig
from raydistill.experts.difficulty import DifficultyConfig
from raydistill.experts.trajectory import EXPERT, ExpertConfig, Trajectory
from raydistill.models.fit import answers
from raydistill.models.flat import Layout, call
from raydistill.precision import Precision, autocast
from raydistill.seeding import numpy_generator, torch_generator

ONE_HOT = 5.0
"Logit of the own class where no expert labels an image; the softmax then gives it 94 % of ten classes."

LABELLERS = 10
"Experts whose logits the first soft labels are the mean of."

SMALLEST_RATE = 1e-6
"The learned rate is kept above."


class PADConfig(MethodConfig):
    """PAD's settings; ``PRESETS`` holds the paper's, the report's, MTT's and DATM's."""

    method: Literal["PAD"] = "PAD"
    "Li et al., arXiv 2408.03360; MTT and DATM are settings of it."
    experts: ExpertConfig = ExpertConfig()
    "What is matched."
    first_experts: int | None = Field(None, ge=1)
    """Experts drawn from in the first iteration; ``None``: all. With fewer, ``run`` distils while the others are trained: where
    nothing is searched, more than one worker fits, and budget.final_cpus is budget.cpus."""
    all_experts_at: int | None = Field(None, ge=1)
    """Iteration from which all are drawn from, ``None``: half of them; until then their number grows linearly. By iterations,
    not by what is there."""
    syn_steps: int = Field(20, ge=1)
    "N, steps of the student."
    expert_epochs: int = Field(2, ge=1)
    "M, epochs of the expert that those steps should make good."
    min_start_epoch: int = Field(0, ge=0)
    "The earliest start epoch, an expert's snapshot that a student begins from."
    max_start_epoch: int = Field(10, ge=1)
    "Start epochs are drawn from min_start_epoch up to, not with, this one."
    current_max_start_epoch: int | None = Field(None, ge=1)
    "That bound at the first iteration; ``None``: it does not widen."
    expansion_end: int | None = Field(None, ge=1)
    "Iteration at which it has grown to max_start_epoch; ``None``: half of them."
    alpha: float = Field(0.25, ge=0, lt=1)
    "α, the share of the parameters that does not count."
    drop: Literal["depth", "loss"] = "depth"
    "Which: those of the shallowest layers (the paper), or those with the smallest error (the released code)."
    batch_syn: int | None = Field(None, ge=1)
    "Images of a student step; ``None``: all."
    syn_lr: float = Field(0.01, gt=0)
    "The student's rate at first; it is learned."
    lr_lr: float = Field(1e-5, ge=0)
    "Its own learning rate."
    labels: Literal["soft", "hard"] = "soft"
    "Soft: logits learned with the images, at first the mean of the experts that are right."
    lr_y: float = Field(2.0, ge=0)
    "Learning rate of the label logits (momentum 0.9)."
    threshold: float = Field(1.1, gt=0)
    "A step whose matching loss is above, or no number, is skipped and counted; where all are, the distillation has diverged."
    gradient: Form = "adjoint"
    "How the gradient goes through the student's steps, see ``distill/unroll.py``."
    window: int | None = Field(None, ge=1)
    """Last steps that are gone through, for gradient=window; how many the student takes is then drawn for each iteration, from
    this number to syn_steps."""
    precision: Precision = "float32"
    "Of the student's convolutions; parameters, images and sums stay float32."

    @model_validator(mode="after")
    def _consistent(self) -> "PADConfig":
        if self.min_start_epoch >= (self.current_max_start_epoch or self.max_start_epoch):
            raise ValueError(f"min_start_epoch={self.min_start_epoch} leaves no start epoch; lower it")
        if (self.current_max_start_epoch or 1) > self.max_start_epoch:
            raise ValueError(
                f"current_max_start_epoch={self.current_max_start_epoch} is above max_start_epoch={self.max_start_epoch}"
            )
        if (self.first_experts or 1) > self.experts.count:
            raise ValueError(
                f"first_experts={self.first_experts} is above experts.count={self.experts.count}; lower it"
            )
        stored = self.experts.epochs
        if stored is not None and self.epochs_read > stored:
            raise ValueError(
                f"expert_epochs={self.expert_epochs}: start epoch + expert_epochs reaches {self.epochs_read} but the "
                f"trajectory has {stored} epochs; lower max_start_epoch to {max(1, stored - self.expert_epochs + 1)} or "
                "record longer experts"
            )
        if (self.gradient == "window") != (self.window is not None):
            raise ValueError(f"window={self.window} and gradient={self.gradient!r}: the one needs the other")
        return self

    @property
    def epochs_read(self) -> int:
        """The last epoch of a trajectory that matching reads."""
        return self.max_start_epoch - 1 + self.expert_epochs

    def expert_bound(self, iteration: int) -> int:
        """Experts below this index may be drawn in ``iteration``."""
        first, count = self.first_experts or self.experts.count, self.experts.count
        at = self.all_experts_at or max(1, self.iterations // 2)
        return min(count, first + (count - first) * iteration // at)

    def start_bound(self, iteration: int) -> int:
        """The widening start range: epochs below this one may be drawn in ``iteration``."""
        if self.current_max_start_epoch is None:
            return self.max_start_epoch
        at = self.expansion_end or max(1, self.iterations // 2)
        grown = (self.max_start_epoch - self.current_max_start_epoch) * iteration // at
        return min(self.max_start_epoch, self.current_max_start_epoch + grown)


class PAD(Method):
    """A PAD distillation under way; see ``Method`` for the arguments."""

    Config = PADConfig

    def __init__(
        self,
        config: PADConfig,
        real: DeviceImages,
        images: Tensor,
        labels: Tensor,
        network: NetworkFactory,
        seed: int,
        experts: Sequence[Trajectory] = (),
    ) -> None:
        self.config, self.labels, self.seed, self.experts = config, labels, seed, experts
        self.net: nn.Module = copy.deepcopy(network(0)).requires_grad_(False).train()
        self.layout = Layout.of(self.net)
        if not len(experts):
            raise ConfigError("PAD needs expert trajectories; train them with `raydistill experts SEARCH`")
        for index in range(self._experts_at(0)):
            _check(experts[index], self.layout, config)
        self.images = images.detach().clone()
        self.rate = torch.tensor(config.syn_lr, device=images.device)
        self.velocity = {"images": torch.zeros_like(self.images), "rate": torch.zeros_like(self.rate)}
        self.skips = torch.zeros((), dtype=torch.int64)
        self.logits = None
        if config.labels == "soft":
            self.logits = self._first_labels(len(real.classes))
            self.velocity["logits"] = torch.zeros_like(self.logits)

    @classmethod
    def phases(cls, config: PADConfig) -> tuple[PADConfig, list[Phase]]:
        """An iteration's cost is that of its student's steps; two of them show it, but all of them what ``full`` keeps."""
        steps = config.syn_steps if config.gradient == "full" else min(2, config.syn_steps)
        window = None if config.window is None else steps  # its sample always takes as many
        sample = config.model_copy(update={"syn_steps": steps, "window": window})
        mean = (config.syn_steps + min(config.window or config.syn_steps, config.syn_steps)) / 2
        return sample, [Phase(f"{steps} student steps", config.iterations * mean / steps, range(1, 2))]

    def step(self, iteration: int) -> Mapping[str, float]:
        """One update of images, rate and labels, unless the loss is above ``threshold`` or no number.

        Such a step is skipped and counted, whatever its loss; the loss that is told is the true one.
        """
        start = self._start_epoch(iteration)
        found = unroll.matching(self._problem(iteration, *start), self.config.gradient, self.config.window)
        taken = self._take(found, self.config.lr_at(iteration))
        self.skips += not taken
        numbers = {
            "loss": float(found.loss),
            "start_epoch": float(start[1]),
            "syn_lr": float(self.rate),
            "skipped": float(self.skips),
        }
        if self.logits is not None:
            shares = self.logits.softmax(1)
            numbers["label_entropy"] = float(-(shares * shares.clamp_min(1e-12).log()).sum(1).mean())
        return numbers

    def state(self) -> dict[str, Tensor]:
        """Images, rate, labels, their momenta, and how many steps were skipped."""
        found = {"images": self.images, "rate": self.rate, "skipped": self.skips}
        if self.logits is not None:
            found["logits"] = self.logits
        return found | {f"velocity.{name}": value for name, value in self.velocity.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue bit by bit from ``state``."""
        for name, value in self.state().items():
            value.copy_(state[name])

    @property
    def skipped(self) -> int:
        """Steps above ``threshold``, or without a finite loss and gradient."""
        return int(self.skips)

    @property
    def student_lr(self) -> float:
        """The learned rate, with which students of the set are trained."""
        return float(self.rate)

    def _start_epoch(self, iteration: int) -> tuple[Trajectory, int]:
        generator = numpy_generator(self.seed, "start", iteration)
        expert = self.experts[int(generator.integers(self._experts_at(iteration)))]
        _check(expert, self.layout, self.config)
        return expert, int(generator.integers(self.config.min_start_epoch, self.config.start_bound(iteration)))

    def _experts_at(self, iteration: int) -> int:
        return min(len(self.experts), self.config.expert_bound(iteration))

    def _problem(self, iteration: int, expert: Trajectory, epoch: int) -> Problem:
        device = self.images.device
        expanded = formation.expand(self.images, self.config.factor)
        labels = self.labels if self.logits is None else self.logits
        return Problem(
            logits=self._forward,
            images=expanded,
            labels=formation.expand_labels(labels, self.config.factor),
            rate=self.rate,
            start=expert.snapshot(epoch).to(device),
            target=expert.snapshot(epoch + self.config.expert_epochs).to(device),
            steps=self._steps(iteration, len(expanded), (expanded.shape[-2], expanded.shape[-1])),
            keep=(unroll.drop_shallow if self.config.drop == "depth" else unroll.drop_nearest)(self.config.alpha),
        )

    def _student_steps(self, iteration: int) -> int:
        """N; with a window drawn, so that it lies elsewhere each time (RaT-BPTT, Feng et al., ICLR 2024)."""
        window, most = self.config.window, self.config.syn_steps
        if window is None or window >= most:
            return most
        return int(numpy_generator(self.seed, "steps", iteration).integers(window, most + 1))

    def _steps(self, iteration: int, n: int, size: tuple[int, int]) -> list[Step]:
        """Batches of the student: permutations of all images, one after another."""
        batch = min(self.config.batch_syn or n, n)
        orders: list[Tensor] = []
        steps = []
        for i in range(self._student_steps(iteration)):
            if not orders:
                order = torch.randperm(n, generator=torch_generator(self.seed, "order", iteration, i))
                orders = list(torch.split(order, batch))
            indices = orders.pop(0).to(self.images.device)
            generator = torch_generator(self.seed, "augment", iteration, i)
            steps.append(Step(indices, augment.draw(self.config.augment, len(indices), size, generator)))
        return steps

    def _forward(self, vector: Tensor, inputs: Tensor) -> Tensor:
        with autocast(self.config.precision, inputs.device):
            return call(self.net, self.layout, vector, inputs)

    def _take(self, found: Matched, lr_img: float) -> bool:
        loss = float(found.loss)
        pieces = [found.images, found.rate, *(() if found.labels is None else (found.labels,))]
        if not loss <= self.config.threshold or not all(bool(torch.isfinite(p).all()) for p in pieces):
            return False
        config = self.config
        self._descend("images", self.images, self._to_stored(found.images), lr_img, config.momentum)
        self._descend("rate", self.rate, found.rate, config.lr_lr, 0.5)
        self.rate.clamp_(min=SMALLEST_RATE)
        if self.logits is not None and found.labels is not None:
            labels = found.labels.reshape(len(self.labels), -1, self.logits.shape[1]).sum(1)
            self._descend("logits", self.logits, labels, config.lr_y, 0.9)
        return True

    def _to_stored(self, gradient: Tensor) -> Tensor:
        """From the gradient to the expanded images to that to the stored ones."""
        if self.config.factor == 1:
            return gradient
        stored = self.images.detach().requires_grad_()
        return torch.autograd.grad(formation.expand(stored, self.config.factor), stored, gradient)[0]

    def _descend(self, name: str, value: Tensor, gradient: Tensor, lr: float, momentum: float) -> None:
        """SGD with momentum, in place."""
        self.velocity[name].mul_(momentum).add_(gradient)
        value.sub_(self.velocity[name], alpha=lr)

    def _first_labels(self, classes: int) -> Tensor:
        """Per image the mean logits [n, C] of the experts that are right about it; scaled one-hot where none is."""
        one_hot = ONE_HOT * F.one_hot(self.labels, classes).to(torch.float32)
        if self.config.init == "noise":
            return one_hot
        sums, right = torch.zeros_like(one_hot), torch.zeros(len(one_hot), 1, device=one_hot.device)
        inputs = formation.expand(self.images, self.config.factor)
        for index in range(min(LABELLERS, self._experts_at(0))):
            vector = self.experts[index].snapshot(self.config.epochs_read).to(self.images.device)
            with torch.inference_mode():
                parts = [call(self.net, self.layout, vector, part) for part in torch.split(inputs, 100)]
            logits = torch.cat(parts).reshape(len(self.labels), -1, classes).mean(1)
            agrees = (answers(logits) == self.labels)[:, None]
            sums += torch.where(agrees, logits, 0)
            right += agrees
        return torch.where(right > 0, sums / right.clamp_min(1), one_hot)


def _check(expert: Trajectory, layout: Layout, config: PADConfig) -> None:
    if expert.layout != layout:
        raise ConfigError(f"{expert.path} is of another network than {config.network}; train experts of its own")
    if not expert.first <= config.min_start_epoch <= config.epochs_read <= expert.epochs:
        raise ConfigError(
            f"{expert.path} has epochs {expert.first} to {expert.epochs}, matching reads {config.min_start_epoch} to "
            f"{config.epochs_read}; train the others with `raydistill experts SEARCH`"
        )


PRESETS: dict[str, dict[str, Any]] = {
    # Li et al., CIFAR-10 with ten images a class.
    "paper": {
        "experts": ExpertConfig(
            count=100,
            curriculum=CurriculumConfig(),
            recipe=EXPERT.override({"sharpness": 0.01, "augment": "natural"}),
            difficulty=DifficultyConfig().override({"recipe.augment": "natural"}),
        ),
        "augment": "natural",
        "iterations": 10000,
        "syn_steps": 80,
        "expert_epochs": 2,
        "current_max_start_epoch": 10,
        "max_start_epoch": 20,
        "expansion_end": 1000,
        "alpha": 0.25,
        "lr_img": 100,
        "lr_y": 2,
    },
    # The report's: K = 100 experts of ζ_θ = 50 steps, one student step each (ζ_S), T = 10 passes, η_S = 1, α = .5. One epoch
    # has no room for a curriculum: of PAD it is the filter.
    "seed_report": {
        "experts": ExpertConfig(count=100, epoch_steps=50),
        "iterations": 1000,
        "syn_steps": 1,
        "expert_epochs": 1,
        "max_start_epoch": 1,
        "alpha": 0.5,
        "lr_img": 1,
        "labels": "hard",
    },
    # Cazenavette et al.: no curriculum, no filter, hard labels.
    "mtt": {"alpha": 0, "labels": "hard", "experts": ExpertConfig(curriculum=None)},
    # Guo et al.: soft labels and a widening range, no curriculum, no filter.
    "datm": {"alpha": 0, "current_max_start_epoch": 5, "experts": ExpertConfig(curriculum=None)},
}
"Settings by where they come from; ``PAD.Config(**PRESETS[name])`` builds them."
