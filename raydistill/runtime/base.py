"""Where work runs. ``Local`` is this process; ``OnRay`` a machine's cores or a cluster. Equal calls give equal numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

Result = TypeVar("Result")


class Runtime(Protocol):
    """Independent pieces of work, spread over what there is."""

    def map(
        self,
        function: Callable[..., Result],
        items: Sequence[Mapping[str, Any]],
        shared: Mapping[str, Any],
        cpus: float = 1,
        gpus: float = 0,
    ) -> Iterator[tuple[int, Result]]:
        """Call ``function(**shared, **item, device=device)`` once for each item.

        Args:
            function: of a module's top level. A pure function of its arguments: an item whose process dies is run again.
            items: small arguments, different for each call.
            shared: large arguments (image sets), the same for every call; handed over once, read-only.
            cpus: cores a call may use; its PyTorch threads are this many, at least one.
            gpus: GPUs, or a share of one, that a call may use; with 0 ``device`` is ``"cpu"``.

        Yields:
            (index of the item, result) as they come. Exceptions of the function are raised here.

        Raises:
            ConfigError: no machine here has so many CPUs or GPUs.
            EnvironmentIssue: an item's process died again and again.
        """

    def close(self) -> None:
        """Give back what the runtime holds; calling it twice is harmless."""


@contextmanager
def threads(cpus: float) -> Iterator[None]:
    """Compute with ``max(1, int(cpus))`` PyTorch threads, everywhere alike: sums depend on how they are split."""
    import torch  # Ray starts while PyTorch loads, so it comes last

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, int(cpus)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
