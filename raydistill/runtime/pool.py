"""The worker processes of ``OnRay.map``: given work once they are up, replaced when they or their machines die.

A new worker may have to wait for room: the machine that the one before it was on may be gone. So items are not tied to it;
whoever is up and free takes the next one, and a worker that comes up late finds what is left.
"""

import logging
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from raydistill.errors import EnvironmentIssue, RaydistillError
from raydistill.runtime.base import Result, threads

MAX_RESTARTS = 2
"How often an item of ``map`` is run again after its process died."

logger = logging.getLogger(__name__)


class Pool:
    """Workers of one kind; those that are left when a ``map`` ends wait for the next, for their imports cost seconds."""

    def __init__(self) -> None:
        self._idle: list[Any] = []
        self._starting: dict[Any, Any] = {}
        self._kind = (0.0, 0.0)

    def run(
        self,
        function: Callable[..., Result],
        items: Sequence[Mapping[str, Any]],
        shared: Mapping[str, Any],
        workers: int,
        cpus: float,
        gpus: float,
    ) -> Iterator[tuple[int, Result]]:
        """As ``Runtime.map``, on ``workers`` processes."""
        if self._kind != (cpus, gpus):
            self.release()
            self._kind = (cpus, gpus)
        under_way = _UnderWay(self, function, items, shared)
        try:
            # Who is idle is always used; who still starts may never find room.
            for _ in range(max(workers - len(self._starting), min(workers, len(self._idle)))):
                under_way.add_worker()
            yield from under_way.results()
        finally:
            under_way.stop()

    def release(self) -> None:
        """End the workers that wait, and those that are not up yet."""
        import ray

        self._idle += self._starting.values()
        self._starting.clear()
        while self._idle:
            ray.kill(self._idle.pop())


class _UnderWay:
    """One ``map``: what waits, who is coming up, who is at what."""

    def __init__(
        self, pool: Pool, function: Callable[..., Any], items: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]
    ) -> None:
        import ray

        self.pool, self.function, self.items = pool, function, items
        module = function.__module__.removeprefix("raydistill.")
        self.name = f"{RaydistillWorker.__name__}.{module}.{function.__name__}"
        self.common = ray.put(dict(shared))
        self.waiting, self.deaths = deque(range(len(items))), Counter[int]()
        self.starting = pool._starting
        self.busy: dict[Any, tuple[Any, int]] = {}
        self.stillborn = 0

    def add_worker(self) -> None:
        """One that waits from an earlier ``map``, or a new one, which is given work when it is up."""
        import ray

        if self.pool._idle:
            self._send(self.pool._idle.pop())
            return
        cpus, gpus = self.pool._kind
        worker: Any = ray.remote(RaydistillWorker).options(num_cpus=cpus, num_gpus=gpus).remote(cpus)
        self.starting[worker.up.remote()] = worker

    def results(self) -> Iterator[tuple[int, Any]]:
        """(index, result) of every item as they come."""
        import ray

        while self.waiting or self.busy:
            with signals_through():
                [done], _ = ray.wait([*self.busy, *self.starting], num_returns=1)
            if done in self.starting:
                self._came_up(done)
                continue
            worker, index = self.busy.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayActorError:
                self._died(worker, index)
                continue
            except ray.exceptions.RayTaskError as error:
                self.pool._idle.append(worker)
                raise (error.cause if isinstance(error.cause, RaydistillError) else error) from None
            self._send(worker)
            yield index, result

    def stop(self) -> None:
        """End who is still at work."""
        import ray

        for worker, _ in self.busy.values():
            ray.kill(worker)

    def _send(self, worker: Any) -> None:
        if self.waiting:
            index = self.waiting.popleft()
            call = worker.call.options(name=self.name)
            self.busy[call.remote(self.function, self.common, dict(self.items[index]))] = (worker, index)
        else:
            self.pool._idle.append(worker)

    def _came_up(self, done: Any) -> None:
        import ray

        worker = self.starting.pop(done)
        try:
            ray.get(done)
        except ray.exceptions.RayActorError:
            self.stillborn += 1
            if self.stillborn > MAX_RESTARTS:
                raise EnvironmentIssue(
                    f"{self.stillborn} workers in a row did not start (out of memory?); use fewer workers"
                ) from None
            self.add_worker()
            return
        self.stillborn = 0
        self._send(worker)

    def _died(self, worker: Any, index: int) -> None:
        import ray

        self.deaths[index] += 1
        if self.deaths[index] > MAX_RESTARTS:
            raise EnvironmentIssue(
                f"the process of item {index} died {self.deaths[index]} times (out of memory?); "
                "use fewer workers, or smaller batches"
            ) from None
        logger.warning("the worker of item %d died, or its machine; the item is done again", index)
        self.waiting.appendleft(index)
        ray.kill(worker)
        others = len(self.starting)
        self.pool.release()  # they may have died with it, or wait for room that is gone
        for _ in range(1 + others):
            self.add_worker()


def device() -> str:
    """Where code in a Ray worker computes: its GPU if it was lent one. PyTorch may see GPUs that are not its own."""
    import ray

    return "cuda" if ray.get_gpu_ids() else "cpu"


@contextmanager
def signals_through() -> Iterator[None]:
    """Let what a signal handler raises through Ray, which makes a ``SystemError`` of all but ``KeyboardInterrupt``."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    raised: list[BaseException] = []

    def guard(handler: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], None]:
        def call(number: int, frame: FrameType | None) -> None:
            try:
                handler(number, frame)
            except BaseException as error:
                raised.append(error)
                raise KeyboardInterrupt from error

        return call

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: handler for number in numbers if callable(handler := signal.getsignal(number))}
    for number, handler in before.items():
        signal.signal(number, guard(handler))
    try:
        yield
    except KeyboardInterrupt:
        if raised:
            raise raised[0] from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class RaydistillWorker:
    """A process that does one piece of work after another; its name is what Ray's dashboard shows."""

    def __init__(self, cpus: float) -> None:
        self.cpus = cpus

    def up(self) -> None:
        """Answers once the process runs."""

    def call(self, function: Callable[..., Any], shared: Mapping[str, Any], item: Mapping[str, Any]) -> Any:
        """One piece of work."""
        with threads(self.cpus):
            return function(**shared, **item, device=device())
