"""What every distillation method must do; a new one passes this battery, or it is not one."""

import contextlib
import copy
import math
import random
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from raydistill import registry
from raydistill.data.images import DeviceImages
from raydistill.distill.initialise import initial_images, labels_of
from raydistill.distill.method import Method, MethodConfig
from tests.distill import small

DESCENT = 30
"Steps within which the loss must have gone down on the battery's easy problem."


def check_method(method_class: type[Method], config: MethodConfig) -> None:
    """Hold ``method_class`` under ``config`` to the contract; raises ``AssertionError`` naming the breach."""
    with _no_data_may_be_read():
        _check_labels_and_images(method_class, config)
        _check_arguments_are_left_alone(method_class, config)
        _check_determinism(method_class, config)
        _check_state(method_class, config)
        _check_purity(method_class, config)
        _check_descent(method_class, config)


class _ReadsDataError(Exception):
    pass


def begin(method_class: type[Method], config: MethodConfig, seed: int = 0, start: Tensor | None = None) -> Method:
    """The method at step 0 of the battery's problem: three easy classes of 8×8 images, from noise."""
    real = small.real()
    if start is None:
        start = initial_images("noise", real, config.ipc, config.factor, 0, None)
    labels = labels_of(len(real.classes), config.ipc)
    return _made(method_class, config, real, start, labels, seed)


def _made(
    method_class: type[Method], config: MethodConfig, real: DeviceImages, start: Tensor, labels: Tensor, seed: int
) -> Method:
    more: dict[str, Any] = {"experts": small.experts()} if hasattr(config, "experts") else {}
    return method_class(config, real, start, labels, lambda s: small.network(config.network, s), seed, **more)


def _run(method: Method, first: int, last: int) -> list[dict[str, float]]:
    return [dict(method.step(iteration)) for iteration in range(first, last)]


def _images(method: Method) -> Tensor:
    return method.images.detach().clone()


def _copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


@contextlib.contextmanager
def _no_data_may_be_read() -> Iterator[None]:
    """A method is given the training images; any way to others goes through the registry of sources."""
    original = registry.resolve

    def resolve(kind: str, name: str) -> Any:
        if kind == "data source":
            raise _ReadsDataError(name)
        return original(kind, name)

    try:
        with mock.patch.object(registry, "resolve", resolve):
            yield
    except _ReadsDataError as error:
        raise AssertionError(f"it reads data of its own ({error})") from error


def _check_labels_and_images(method_class: type[Method], config: MethodConfig) -> None:
    method = begin(method_class, config)
    count, device = len(small.CLASSES) * config.ipc, torch.device("cpu")
    before = _images(method)
    for moment in ("at the start", "after three steps"):
        expected = torch.arange(len(small.CLASSES)).repeat_interleave(config.ipc)
        assert torch.equal(method.labels, expected), f"labels are not sorted with ipc of each class {moment}"
        assert method.labels.dtype == torch.int64, f"labels are {method.labels.dtype} {moment}"
        assert method.images.shape == (count, 1, 8, 8), f"images are {list(method.images.shape)} {moment}"
        assert method.images.dtype == torch.float32, f"images are {method.images.dtype} {moment}"
        assert method.images.device == device, f"images are on {method.images.device} {moment}"
        assert torch.isfinite(method.images.detach()).all(), f"images are not finite {moment}"
        if moment == "at the start":
            for numbers in _run(method, 0, 3):
                assert "loss" in numbers, "a step tells no loss"
                assert all(type(v) is float for v in numbers.values()), "a step's numbers are no floats"
                assert all(map(math.isfinite, numbers.values())), f"a step's numbers are not finite: {numbers}"
    assert not torch.equal(_images(method), before), "the images do not move"


def _check_arguments_are_left_alone(method_class: type[Method], config: MethodConfig) -> None:
    real = small.real()
    start = initial_images("noise", real, config.ipc, config.factor, 0, None)
    labels = labels_of(len(real.classes), config.ipc)
    kept, pixels, real_labels = start.clone(), real.pixels.clone(), real.labels.clone()
    values = copy.deepcopy(config.to_json())
    method = _made(method_class, config, real, start, labels, 0)
    _run(method, 0, 2)
    assert torch.equal(start, kept), "it changes the initial images that it was given"
    assert torch.equal(real.pixels, pixels), "it changes the real images"
    assert torch.equal(real.labels, real_labels), "it changes the real labels"
    assert config.to_json() == values, "it changes its config"


def _global_state() -> tuple[bytes, str, str]:
    return torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), repr(random.getstate())


def _check_determinism(method_class: type[Method], config: MethodConfig) -> None:
    method = begin(method_class, config)
    first, second = _global_state(), []
    numbers = _run(method, 0, 4)
    assert _global_state() == first, "it draws from a global random state"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        again = begin(method_class, config)
        second = _run(again, 0, 4)
    assert numbers == second, "equal seeds give other numbers"
    assert torch.equal(method.images, again.images), "equal seeds give other images"
    _run(other := begin(method_class, config, seed=1), 0, 4)
    assert not torch.equal(method.images, other.images), "the seed names nothing"


def _check_state(method_class: type[Method], config: MethodConfig) -> None:
    method = begin(method_class, config)
    _run(method, 0, 3)
    state = method.state()
    assert all(isinstance(t, Tensor) for t in state.values()), "its state holds other things than tensors"
    state = _copied(state)
    numbers = _run(method, 3, 6)
    fresh = begin(method_class, config, start=torch.zeros_like(_images(method)))
    fresh.restore(state)
    assert _run(fresh, 3, 6) == numbers, "restored, it goes on with other numbers"
    assert torch.equal(fresh.images, method.images), "restored, it goes on with other images"
    method.restore(state)
    assert _run(method, 3, 6) == numbers, "wound back, it goes on with other numbers"


def _check_purity(method_class: type[Method], config: MethodConfig) -> None:
    """A step depends on the state and the iteration's number alone, not on what was computed before."""
    start = _copied(begin(method_class, config).state())
    fresh, worn = begin(method_class, config), begin(method_class, config)
    _run(worn, 0, 5)
    _run(worn, 11, 12)
    for method in (fresh, worn):
        method.restore(start)
    assert dict(fresh.step(7)) == dict(worn.step(7)), "a step depends on the steps before it"
    assert torch.equal(fresh.images, worn.images), "a step's images depend on the steps before it"


def _check_descent(method_class: type[Method], config: MethodConfig) -> None:
    losses = [numbers["loss"] for numbers in _run(begin(method_class, config), 0, DESCENT)]
    early, late = np.mean(losses[:5]), np.mean(losses[-5:])
    assert late < early, f"the loss does not go down on an easy problem: {early:.4g} → {late:.4g}"
