"""A network's parameters as one vector, with a named layout: what expert trajectories store and matching moves.

Shapes: P parameters in the order of ``named_parameters``; n images, C classes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from raydistill.errors import ConfigError


class Slot(NamedTuple):
    """Where one parameter tensor lies in the vector."""

    name: str
    shape: tuple[int, ...]


class Layout:
    """The order of a network's parameters in a vector [P].

    Args:
        slots: contiguous, in order.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = tuple(slots)
        self.size = sum(_count(slot.shape) for slot in self.slots)

    @classmethod
    def of(cls, net: nn.Module) -> "Layout":
        """The layout of ``net``.

        Raises:
            ConfigError: the network keeps running statistics, which a vector of parameters does not hold.
        """
        if any(True for _ in net.buffers()):
            raise ConfigError(
                f"{type(net).__name__} keeps running statistics (batch norm), which trajectories do not hold; "
                "use instance, layer or group norm, such as ConvNetD3"
            )
        return cls([Slot(name, tuple(parameter.shape)) for name, parameter in net.named_parameters()])

    def to_json(self) -> list[dict[str, Any]]:
        """Plain JSON values."""
        return [slot._asdict() for slot in self.slots]

    @classmethod
    def from_json(cls, values: Sequence[dict[str, Any]]) -> "Layout":
        """What ``to_json`` gave."""
        return cls([Slot(v["name"], tuple(v["shape"])) for v in values])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self.slots == other.slots

    def __hash__(self) -> int:
        return hash(self.slots)

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Views of ``vector`` [P] by parameter name; differentiable."""
        parts = torch.split(vector, [_count(slot.shape) for slot in self.slots])
        return {slot.name: part.view(slot.shape) for slot, part in zip(self.slots, parts, strict=True)}


def flatten(net: nn.Module) -> Tensor:
    """A copy of the parameters as one vector [P]; later training of ``net`` does not change it."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in net.parameters()])


def load(net: nn.Module, vector: Tensor) -> None:
    """Set the parameters of ``net`` to ``vector`` [P]."""
    with torch.no_grad():
        for parameter, part in zip(net.parameters(), Layout.of(net).split(vector).values(), strict=True):
            parameter.copy_(part)


def call(net: nn.Module, layout: Layout, vector: Tensor, inputs: Tensor) -> Tensor:
    """Logits [n, C] of ``net`` with the parameters ``vector`` [P]; differentiable in both."""
    logits: Tensor = torch.func.functional_call(net, layout.split(vector), (inputs,))
    return logits


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
