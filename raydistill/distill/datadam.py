"""DataDAM: dataset distillation by attention matching (Sajedi et al., ICCV 2023).

For a network that is not trained on the synthetic images, the real and the synthetic images of a class should excite the
same places in every layer and have the same mean embedding. Each iteration takes one network, passes ``batch_real`` real
images and the ``ipc`` synthetic ones of each class under one shared (Siamese) augmentation draw, and moves the synthetic
images down the gradient of

    loss = loss_scale · (L_SAM + task_balance · L_MMD)                                     (paper, eq. 3–6)
    L_SAM = Σ_k Σ_{l<L} ‖ mean_real z_l − mean_syn z_l ‖²,  z_l = vec(Σ_c |f_c|^p) / ‖·‖₂
    L_MMD = Σ_k ‖ mean_real e − mean_syn e ‖²

Networks may be drawn afresh each iteration (the paper) or kept in a pool of partly trained ones. For a pool the real
side of the loss depends only on (network, draw), so it is computed once and reused: the update is the same function of
both, at the cost of the synthetic images alone.

Shapes: C classes, n = C·ipc images, K channels, H×W pixels, L blocks, E the embedding's length.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from raydistill.data import augment, formation
from raydistill.data.images import DeviceImages
from raydistill.distill.method import Method, MethodConfig, NetworkFactory, Phase
from raydistill.models.convnet import Features
from raydistill.models.fit import Fit, Recipe, at_once
from raydistill.precision import Precision, computed_in
from raydistill.seeding import derive, torch_generator


class Statistics(NamedTuple):
    """What is matched: per block but the last, class means of z_l [C, h_l·w_l]; and of the embedding [C, E]."""

    attention: list[Tensor]
    embedding: Tensor


def attention_map(maps: Tensor, power: float, nonnegative: bool = False) -> Tensor:
    """z = vec(Σ_c |f_c|^p)/‖·‖₂ (paper, eq. 2).

    Args:
        maps: f, [n, W, h, w].
        power: p.
        nonnegative: promise that no f is below zero, which spares the absolute value.

    Returns:
        Unit rows [n, h·w], float32 or wider.
    """
    wide = torch.promote_types(maps.dtype, torch.float32)
    match power:
        case 1:
            raised = maps if nonnegative else maps.abs()
        case 2:
            raised = maps.square()
        case 4:
            raised = maps.square().square()
        case _:
            raised = maps.abs().pow(power)
    return F.normalize(_channel_sum(raised, wide), dim=1)


def _channel_sum(maps: Tensor, wide: torch.dtype) -> Tensor:
    """Σ_c of maps [n, W, h, w] → [n, h·w].

    Of bfloat16 maps on the CPU, ``sum`` to float32 would first make a wide copy; see ``_SumOfParts``.
    """
    flat = maps.flatten(2)
    if maps.dtype != torch.bfloat16 or maps.device.type != "cpu" or maps.shape[1] % 8:
        return flat.sum(1, dtype=wide)
    summed: Tensor = _SumOfParts.apply(flat)
    return summed


class _SumOfParts(torch.autograd.Function):
    """Σ_c of bfloat16 maps [n, W, h·w], W a multiple of 8 → float32 [n, h·w], in a third of the time.

    Eight parts are each summed in float32 and rounded; the way back is a view.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        """The sums."""
        ctx.channels = maps.shape[1]
        n, channels, positions = maps.shape
        return maps.reshape(n, 8, channels // 8, positions).sum(2).sum(1, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """That of the sums, for each channel the same."""
        return gradient.to(torch.bfloat16).unsqueeze(1).expand(-1, ctx.channels, -1)


def class_means(rows: Tensor, classes: int) -> Tensor:
    """Mean over the equally many images of each class: [C·m, d], sorted by class, → [C, d]."""
    return rows.view(classes, -1, rows.shape[1]).mean(1)


def statistics(features: Features, classes: int, power: float, nonnegative: bool = False) -> Statistics:
    """Class means of attention maps (all blocks but the last) and of the embedding for images sorted by class."""
    wide = torch.promote_types(features.embedding.dtype, torch.float32)
    attention = [class_means(attention_map(m, power, nonnegative), classes) for m in features.maps[:-1]]
    return Statistics(attention, class_means(features.embedding.to(wide), classes))


class Loss(NamedTuple):
    """The loss and its two parts, unscaled; scalars."""

    total: Tensor
    sam: Tensor
    mmd: Tensor


def matching_loss(real: Statistics, synthetic: Statistics, task_balance: float, loss_scale: float) -> Loss:
    """loss_scale · (L_SAM + task_balance · L_MMD), sums over classes and positions (paper, eq. 3–6)."""
    pairs = zip(real.attention, synthetic.attention, strict=True)
    sam = (
        torch.stack([(r - s).square().sum() for r, s in pairs]).sum()
        if real.attention
        else real.embedding.new_zeros(())
    )
    mmd = (real.embedding - synthetic.embedding).square().sum()
    return Loss(loss_scale * (sam + task_balance * mmd), sam, mmd)


class DataDAMConfig(MethodConfig):
    """DataDAM's settings; ``PRESETS`` holds the paper's, the released code's and the report's."""

    method: Literal["DataDAM"] = "DataDAM"
    "Sajedi et al., ICCV 2023."
    power: float = Field(4, ge=1, le=8)
    "p of the attention maps."
    loss_scale: float = Field(1.0, gt=0)
    "Under plain SGD only the product loss_scale·lr_img acts; search one of the two."
    task_balance: float = Field(0.01, ge=0)
    "λ, the weight of the embedding term."
    batch_real: int = Field(64, ge=1)
    "Real images a class and network."
    network_pool: int | None = Field(None, ge=1)
    "K networks kept and visited in turn; ``None``: a fresh one each iteration."
    network_stages: tuple[int, ...] = (0,)
    """Training steps on real data (ζ_θ) after which a network is matched in. Several: each initialisation enters the pool
    once per stage."""
    training: Recipe = Recipe(momentum=0, weight_decay=0)
    "How the networks take those steps (η_θ is its ``lr``)."
    pool_draws: int = Field(8, ge=1)
    "Real statistics kept per network of the pool, each for its own real batch and augmentation draw."
    precision: Precision = "float32"
    "Of the networks' forward and backward passes; images and statistics stay float32."

    @model_validator(mode="after")
    def _consistent(self) -> "DataDAMConfig":
        stages = self.network_stages
        if not stages or min(stages) < 0 or list(stages) != sorted(set(stages)):
            raise ValueError(f"network_stages={stages} must be ascending step counts from 0, such as (0, 50)")
        if self.network_pool is None and len(stages) > 1:
            raise ValueError("several network_stages need a network_pool; set network_pool or give one stage")
        if self.network_pool is not None and self.network_pool % len(stages):
            raise ValueError(
                f"network_pool={self.network_pool} is no multiple of its {len(stages)} network_stages; "
                f"use {len(stages) * max(1, self.network_pool // len(stages))}"
            )
        return self


class DataDAM(Method):
    """A DataDAM distillation under way; see ``Method`` for the arguments."""

    Config = DataDAMConfig

    def __init__(
        self,
        config: DataDAMConfig,
        real: DeviceImages,
        images: Tensor,
        labels: Tensor,
        network: NetworkFactory,
        seed: int,
    ) -> None:
        self.config = config
        self.real = real
        self.labels = labels
        self.seed = seed
        self.network = network
        self.classes = len(real.classes)
        self.images = images.detach().clone().requires_grad_()
        self.velocity = torch.zeros_like(self.images, requires_grad=False)
        self._pool: dict[int, nn.Module] = {}
        self._known: dict[tuple[int, int], Statistics] = {}

    @classmethod
    def phases(cls, config: DataDAMConfig) -> tuple[DataDAMConfig, list[Phase]]:
        """A pool costs most at its networks' first visits, less at each new draw, and least once all is known."""
        if config.network_pool is None:
            return super().phases(config)
        width = len(config.network_stages)
        draws = min(2, config.pool_draws)
        sample = config.model_copy(update={"network_pool": width, "pool_draws": draws})
        names = ("first visits of networks", "new draws", "iterations with known statistics")
        starts = (0, width, draws * width)
        found = zip(names, cls._phases(config), starts, strict=True)
        return sample, [Phase(name, n, range(at, at + width)) for name, n, at in found if n]

    @classmethod
    def pace(cls, config: DataDAMConfig, classes: int) -> list[tuple[int, float]]:
        """In images that pass a network: a pass back counts twice."""
        if config.network_pool is None:
            return super().pace(config, classes)
        synthetic = 3.0 * classes * config.ipc * config.factor**2
        real = float(classes * config.batch_real)
        training = 3.0 * config.training.batch * config.network_stages[-1] / len(config.network_stages)
        costs = (synthetic + real + training, synthetic + real, synthetic)
        return list(zip(cls._phases(config), costs, strict=True))

    @staticmethod
    def _phases(config: DataDAMConfig) -> tuple[int, int, int]:
        """Iterations with a network's first visit, with a new draw of one, and with nothing new."""
        pool = config.network_pool or 0
        first = min(config.iterations, pool)
        drawn = min(config.iterations, pool * config.pool_draws) - first
        return first, drawn, config.iterations - first - drawn

    def step(self, iteration: int) -> Mapping[str, float]:
        """One update of all images (SGD with momentum)."""
        draw_seed, net, real = self._visit(iteration)
        synthetic = self._synthetic_statistics(net, draw_seed)
        loss = matching_loss(real, synthetic, self.config.task_balance, self.config.loss_scale)
        (gradient,) = torch.autograd.grad(loss.total, self.images)
        with torch.no_grad():
            self.velocity.mul_(self.config.momentum).add_(gradient)
            self.images.sub_(self.velocity, alpha=self.config.lr_at(iteration))
        return {"loss": loss.total.item(), "loss_sam": loss.sam.item(), "loss_mmd": loss.mmd.item()}

    def state(self) -> dict[str, Tensor]:
        """Images and momentum; networks and real statistics follow from the seed."""
        return {"images": self.images.detach(), "velocity": self.velocity}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue bit by bit from ``state``."""
        with torch.no_grad():
            self.images.copy_(state["images"])
            self.velocity.copy_(state["velocity"])

    def _visit(self, iteration: int) -> tuple[int, nn.Module, Statistics]:
        """The iteration's network, the seed of its draws, and the real side of the loss."""
        size = self.config.network_pool
        if size is None:
            (steps,) = self.config.network_stages
            draw_seed = derive(self.seed, "draw", iteration)
            net = next(self._trained(iteration, (steps,)))
            return draw_seed, net, self._real_statistics(net, draw_seed)
        visit, place = divmod(iteration, size)
        order = torch.randperm(size, generator=torch_generator(self.seed, "order", visit))
        member, slot = int(order[place]), visit % self.config.pool_draws
        draw_seed = derive(self.seed, "draw", member, slot)
        net = self._pooled(member)
        if (member, slot) not in self._known:
            self._known[member, slot] = self._real_statistics(net, draw_seed)
        return draw_seed, net, self._known[member, slot]

    def _pooled(self, member: int) -> nn.Module:
        stages = self.config.network_stages
        if member not in self._pool:
            origin = member // len(stages)
            for stage, net in enumerate(self._trained(origin, stages)):
                self._pool[origin * len(stages) + stage] = net
        return self._pool[member]

    def _trained(self, origin: int, stages: Sequence[int]) -> Iterator[nn.Module]:
        """Frozen copies of one network after each of ``stages`` training steps."""
        net = self.network(derive(self.seed, "network", origin))
        fit = Fit(net, self.real, self.config.training, derive(self.seed, "train", origin))
        for steps in stages:
            fit.run(steps - fit.step)
            yield frozen(net, self.config.precision)

    def _real_statistics(self, net: nn.Module, draw_seed: int) -> Statistics:
        with torch.inference_mode():
            moved = (self._real_batch(draw_seed, label) for label in range(self.classes))
            if has_batch_norm(net):
                # Its statistics are those of all classes together, as in the released code.
                return self._features(net, torch.cat(list(moved)), self.classes)
            # One class at a time: the maps stay small enough for the processor's cache.
            return _joined([self._by_pieces(net, batch) for batch in moved])

    def _real_batch(self, draw_seed: int, label: int) -> Tensor:
        generator = torch_generator(draw_seed, "real", label)
        batch = self.real.take(self.real.draw_from_class(label, self.config.batch_real, generator))
        return augment.apply(batch, self._draw(draw_seed, label, batch.shape[-2:]))

    def _synthetic_statistics(self, net: nn.Module, draw_seed: int) -> Statistics:
        images = formation.expand(self.images, self.config.factor)
        per_class = images.view(self.classes, -1, *images.shape[1:])
        moved = [
            augment.apply(per_class[label], self._draw(draw_seed, label, images.shape[-2:]))
            for label in range(self.classes)
        ]
        if not has_batch_norm(net) and pieces(moved[0]) > 1:
            return _joined([self._by_pieces(net, batch) for batch in moved])
        return self._features(net, torch.cat(moved), self.classes)

    def _by_pieces(self, net: nn.Module, batch: Tensor) -> Statistics:
        """Statistics of the images of one class; of large ones in equal pieces, whose maps the way back makes anew."""
        count = pieces(batch)
        if count == 1:
            return self._features(net, batch, 1)
        parts = [
            checkpoint(self._features, net, piece, 1, use_reentrant=False, preserve_rng_state=False)
            if piece.requires_grad
            else self._features(net, piece, 1)
            for piece in batch.chunk(count)
        ]
        attention = [
            torch.cat(layer).mean(0, keepdim=True) for layer in zip(*(p.attention for p in parts), strict=True)
        ]
        return Statistics(attention, torch.cat([p.embedding for p in parts]).mean(0, keepdim=True))

    def _features(self, net: Any, batch: Tensor, classes: int) -> Statistics:
        if computed_in(self.config.precision, batch.device) == torch.bfloat16:
            batch = batch.to(torch.bfloat16)
        return statistics(net.features(batch), classes, self.config.power, getattr(net, "nonnegative", False))

    def _draw(self, draw_seed: int, label: int, size: Sequence[int]) -> augment.Draw | None:
        generator = torch_generator(draw_seed, "augment", label)
        return augment.draw(self.config.augment, 1, (size[0], size[1]), generator, shared=True)


def frozen(net: nn.Module, precision: Precision) -> nn.Module:
    """A copy whose parameters take no gradient, in train mode (batch norm uses the batch's own statistics)."""
    twin = copy.deepcopy(net).requires_grad_(False).train()
    device = next(net.parameters()).device
    return twin.to(torch.bfloat16) if computed_in(precision, device) == torch.bfloat16 else twin


def pieces(batch: Tensor) -> int:
    """Into how many equal pieces a batch [n, K, H, W] is cut so that none is too large to keep all its maps."""
    most = at_once(batch, len(batch))
    return next(count for count in range(1, len(batch) + 1) if len(batch) % count == 0 and len(batch) // count <= most)


def has_batch_norm(net: nn.Module) -> bool:
    """Whether images of one batch see each other's statistics."""
    return any(isinstance(module, nn.BatchNorm2d) for module in net.modules())


def _joined(parts: Sequence[Statistics]) -> Statistics:
    attention = [torch.cat(layer) for layer in zip(*(p.attention for p in parts), strict=True)]
    return Statistics(attention, torch.cat([p.embedding for p in parts]))


PRESETS: dict[str, dict[str, Any]] = {
    # Sajedi et al., section 4.1; above fifty images a class they take lr_img 10.
    "paper": {"power": 4, "network": "ConvNetD3", "loss_scale": 1, "iterations": 8000, "lr_img": 1, "batch_real": 64},
    # The released code's defaults, which differ: exponent 1, batch norm, a factor of 100.
    "code": {"power": 1, "network": "ConvNetBN", "loss_scale": 100, "iterations": 20000, "lr_img": 1, "batch_real": 64},
    # The report's: K = 100 networks trained for ζ_θ = 50 steps each, T = 10 passes, η_S = .1 and a factor of 10,000.
    "seed_report": {
        "power": 4,
        "network": "ConvNetD3",
        "loss_scale": 10000,
        "iterations": 1000,
        "lr_img": 0.1,
        "batch_real": 256,
        "network_pool": 100,
        "network_stages": (50,),
        "pool_draws": 10,
    },
}
"Settings by where they come from; ``DataDAM.Config(**PRESETS[name])`` builds them."
