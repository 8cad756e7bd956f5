"""Where work runs. ``Local`` is this process; ``OnRay`` a machine's cores or a cluster. Equal calls give equal numbers."""

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from raydistill.errors import EnvironmentIssue, OutOfGPUMemory, OutOfMemory

Result = TypeVar("Result")

ALLOCATOR = {
    "GLIBC_TUNABLES": ":".join(
        f"glibc.malloc.{name}={value}"
        for name, value in (("mmap_max", 0), ("trim_threshold", 2**35), ("top_pad", 2**28), ("arena_max", 1))
    )
}
"Environment of worker processes, see ``keep_freed_memory``. One arena: Tune runs trials in threads, and the arenas that "
"threads get of their own hold no tensor above 64 MB, so those were mapped anew all the same (measured: 1.5 times slower)."

WAITING = {"GOMP_SPINCOUNT": "5000"}
"""How long a thread of a worker turns in a circle for the others before it gives its core away (libgomp, per piece of work).

Ray makes its workers yield to everything else. Where another process takes a core, the thread there hardly has its turn, and
while the others keep theirs busy with waiting, the kernel moves nothing: one iteration of DataDAM on two threads took 11.6 s
beside one busy process, with this 0.96 s; alone, 0.30 and 0.31 s (``bench_beside.py``)."""


def worker_environment() -> dict[str, str]:
    """What worker processes start with; how their threads wait is left to whoever has set it."""
    return ALLOCATOR | ({} if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys() else WAITING)


class Share(NamedTuple):
    """What a piece of work has of a machine."""

    cpus: float = 1
    gpus: float = 0
    "A fraction of one, or whole ones; 0 for none."
    accelerator: str | None = None
    "Ray's name of the GPU's type, such as ``H100``; ``None``: any."

    def __str__(self) -> str:
        words = [f"cpus={self.cpus:g}", *([f"gpus={self.gpus:g}"] if self.gpus else [])]
        return " ".join(words + ([f"accelerator={self.accelerator}"] if self.accelerator else []))


SMALLER = "use smaller batches or networks, or an --address with more memory"
"What helps where a piece does not fit into the memory there is."

Told = Callable[[int, str], None]
"Told of an item that is done again for another reason than a death: its index, and a sentence."


class Team(NamedTuple):
    """The processes that train one network together, as one of them sees it; alone by default."""

    rank: int = 0
    size: int = 1
    wrap: Callable[[Any], Any] = lambda net: net
    "Makes a network's gradients the mean over the team."
    report: Callable[[Mapping[str, float]], None] = lambda numbers: None
    "Called by every member after each epoch."


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


class Runtime(Protocol):
    """Independent pieces of work, spread over what there is."""

    def map(
        self,
        function: Callable[..., Result],
        items: Sequence[Mapping[str, Any]],
        shared: Mapping[str, Any],
        cpus: float = 1,
        gpus: float = 0,
        accelerator: str | None = None,
        told: Told = lambda index, text: None,
    ) -> Iterator[tuple[int, Result]]:
        """Call ``function(**shared, **item, device=device)`` once for each item.

        An item that runs out of memory is done again with twice the share of what ran out, so with half as many beside it,
        and so are the items after it. Its PyTorch threads stay as many, and with them its numbers.

        Args:
            function: of a module's top level. A pure function of its arguments: an item whose process dies is run again.
            items: small arguments, different for each call.
            shared: large arguments (image sets), the same for every call; handed over once, read-only.
            cpus: cores a call may use; its PyTorch threads are this many, at least one.
            gpus: GPUs, or a share of one, that a call may use; with 0 ``device`` is ``"cpu"``.
            accelerator: the GPU's type, see ``Share``.
            told: called, between two results, when an item is done again with a larger share.

        Yields:
            (index of the item, result) as they come. Exceptions of the function are raised here.

        Raises:
            ConfigError: no machine here has so many CPUs or GPUs.
            OutOfMemory: an item's memory did not suffice and no machine has more.
            EnvironmentIssue: an item's process died again and again, its machine living on.
        """

    def capacity(self, cpus: float, gpus: float, accelerator: str | None = None) -> int:
        """How many calls of these resources can run at once.

        Raises:
            ConfigError: not even one.
            EnvironmentIssue: the cluster did not start, or did not answer.
        """

    def require_shared(self, folder: Path) -> None:
        """Make sure that work can write into ``folder`` wherever it is done.

        Raises:
            EnvironmentIssue: there are several nodes and one does not see it, or cannot reach its storage.
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


@contextmanager
def memory_watched() -> Iterator[None]:
    """Give all exceptions that mean "no memory left" one name, and those of a GPU that fails another.

    Raises:
        OutOfMemory: where PyTorch, NumPy or Python raised an exception of its own.
        EnvironmentIssue: the GPU failed, and would fail whatever comes next in this process.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        import torch

        if isinstance(error, torch.OutOfMemoryError):
            raise OutOfGPUMemory(_first_line(error)) from None
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            raise OutOfMemory(_first_line(error)) from None
        if isinstance(error, torch.AcceleratorError):
            raise EnvironmentIssue(f"the GPU failed ({_first_line(error)})") from error
        raise


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed: else each large tensor is mapped anew, and its page faults cost as much as its sums.

    What ``ALLOCATOR`` does from a process's start; costs peak memory. Nothing happens where the C library is another.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 2**28)):
            mallopt(parameter, value)
