"""The worker processes of ``OnRay.map``: given work once they are up, replaced when they or their machines die.

A new worker may have to wait for room: the machine that the one before it was on may be gone. So items are not tied to it;
whoever is up and free takes the next one, and a worker that comes up late finds what is left. Where nodes join, workers do.
"""

import logging
import signal
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from raydistill.errors import EnvironmentIssue, FullDisk, OutOfGPUMemory, OutOfMemory, RaydistillError
from raydistill.runtime import leaving, room
from raydistill.runtime.base import SMALLER, Result, Share, Told, memory_watched, threads

MAX_RESTARTS = 2
"How often an item of ``map`` is run again after its process died, the machine living on."

LOOK_EVERY = 5.0
"Seconds between two looks at whether there is room for more workers."

VERDICT_SECONDS = 60.0
"For a machine to answer, before it is taken for dead; Ray itself needs half of that to notice."

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Worker:
    """A worker process as the driver knows it."""

    actor: Any
    share: Share
    node: str = ""
    "The machine that it came up on."


class Pool:
    """Workers of one kind; those that are left when a ``map`` ends wait for the next, for their imports cost seconds."""

    def __init__(self, full: set[str]) -> None:
        self.full = full
        "Ids of nodes whose disks are."
        self._idle: list[_Worker] = []
        self._starting: dict[Any, _Worker] = {}
        self._share, self._threads = Share(0, 0), 0.0
        self._common: tuple[dict[str, Any], Any] | None = None

    def run(
        self,
        function: Callable[..., Result],
        items: Sequence[Mapping[str, Any]],
        shared: Mapping[str, Any],
        share: Share,
        told: Told,
    ) -> Iterator[tuple[int, Result]]:
        """As ``Runtime.map``, on as many processes as there are places for."""
        if not items:
            return
        if (self._share, self._threads) != (share, share.cpus):
            self.release()
            self._share, self._threads = share, share.cpus
        under_way = _UnderWay(self, function, items, shared, told)
        try:
            yield from under_way.results()
        finally:
            under_way.stop()

    def common(self, shared: Mapping[str, Any]) -> Any:
        """``shared`` in the object store; put there once where call after call comes with the same, as a study's rounds do."""
        import ray

        if self._common is None or not _same(self._common[0], shared):
            self._common = None  # before there are two
            self._common = (dict(shared), ray.put(dict(shared)))
        return self._common[1]

    def release(self) -> None:
        """End the workers that wait, and those that are not up yet."""
        import ray

        self._common = None
        self._idle += self._starting.values()
        self._starting.clear()
        while self._idle:
            ray.kill(self._idle.pop().actor)

    def enlarge(self, share: Share) -> None:
        """From now on new workers have this share; those at work go on with theirs until they are done."""
        self.release()
        self._share = share


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether these are the same objects under the same names; numbers and texts by their value."""
    return one.keys() == other.keys() and all(
        value is other[name] or (isinstance(value, int | float | str) and value == other[name])
        for name, value in one.items()
    )


class _UnderWay:
    """One ``map``: what waits, who is coming up, who is at what."""

    def __init__(
        self,
        pool: Pool,
        function: Callable[..., Any],
        items: Sequence[Mapping[str, Any]],
        shared: Mapping[str, Any],
        told: Told,
    ) -> None:

        self.pool, self.function, self.items, self.told = pool, function, items, told
        module = function.__module__.removeprefix("raydistill.")
        self.name = f"{RaydistillWorker.__name__}.{module}.{function.__name__}"
        self.common = pool.common(shared)
        self.waiting = deque(range(len(items)))
        self.deaths: defaultdict[int, list[str]] = defaultdict(list)
        self.starting = pool._starting
        self.busy: dict[Any, tuple[_Worker, int]] = {}
        self.stillborn, self.alive, self.looked, self.without_room = 0, _ids(), -LOOK_EVERY, False

    def results(self) -> Iterator[tuple[int, Any]]:
        """(index, result) of every item as they come."""
        import ray

        while self.waiting or self.busy:
            if time.monotonic() - self.looked >= LOOK_EVERY:
                self._fill()
            with signals_through():
                done, _ = ray.wait([*self.busy, *self.starting], num_returns=1, timeout=LOOK_EVERY)
            if not done:
                continue
            if done[0] in self.starting:
                self._came_up(done[0])
                continue
            worker, index = self.busy.pop(done[0])
            try:
                result = ray.get(done[0])
            except ray.exceptions.RayActorError:
                self._died(worker, index)
                continue
            except ray.exceptions.OutOfMemoryError as error:  # its process was ended by Ray's memory monitor
                self._too_small(worker, index, OutOfMemory(str(error).split(".")[0]))
                continue
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, OutOfMemory):
                    self._too_small(worker, index, error.cause)
                    continue
                if isinstance(error.cause, FullDisk):
                    self._no_space(worker, index, error.cause)
                    continue
                self.pool._idle.append(worker)
                raise (error.cause if isinstance(error.cause, RaydistillError) else error) from None
            self._send(worker)
            yield index, result

    def stop(self) -> None:
        """End who is still at work."""
        import ray

        for worker, _ in self.busy.values():
            ray.kill(worker.actor)

    def _fill(self) -> None:
        """Set to work who waits from an earlier ``map``, and start workers for the room there is."""
        self.looked = time.monotonic()
        places = room.places(self.pool._share, self.pool.full)
        if not places and not self.without_room:
            logger.warning("no machine that is up has room for %s; waiting for one", self.pool._share)
        self.without_room = not places
        places = max(1, places)
        # Who is idle is always used; who still starts may never find room.
        while self.waiting and self.pool._idle:
            self._send(self.pool._idle.pop())
        for _ in range(min(len(self.waiting) + len(self.busy), places) - len(self.busy) - len(self.starting)):
            self._add_worker()

    def _add_worker(self) -> None:
        import ray

        share = self.pool._share
        options: dict[str, Any] = {
            "num_cpus": share.cpus,
            "num_gpus": share.gpus,
            "accelerator_type": share.accelerator,
        }
        if self.pool.full:
            options["label_selector"] = room.elsewhere(self.pool.full)
        actor: Any = ray.remote(RaydistillWorker).options(**options).remote(self.pool._threads)
        self.starting[actor.up.remote()] = _Worker(actor, share)

    def _send(self, worker: _Worker) -> None:
        import ray

        # One of a larger share is waiting for its room, or one on another machine.
        if worker.share != self.pool._share or worker.node in self.pool.full:
            ray.kill(worker.actor)
            self._fill()
        elif self.waiting:
            index = self.waiting.popleft()
            call = worker.actor.call.options(name=self.name)
            self.busy[call.remote(self.function, self.common, dict(self.items[index]))] = (worker, index)
        else:
            self.pool._idle.append(worker)

    def _came_up(self, done: Any) -> None:
        import ray

        worker = self.starting.pop(done)
        try:
            worker.node = ray.get(done)
        except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError) as error:
            before, self.alive = self.alive, _ids()
            if before <= self.alive:  # else it died with its machine
                self.stillborn += 1
            if self.stillborn > MAX_RESTARTS:
                raise EnvironmentIssue(
                    f"{self.stillborn} workers in a row died before they were up (killed, or out of memory?); "
                    f"start again, with fewer workers if memory is short. The last: {_last_line(error)}"
                ) from None
            self._fill()
            return
        self.stillborn = 0
        self._send(worker)

    def _died(self, worker: _Worker, index: int) -> None:
        import ray

        deaths = self.deaths[index]
        deaths.append(worker.node)
        if len(deaths) > MAX_RESTARTS:  # an item is not to blame for a machine that died under it
            living = {node for node in set(deaths) if _lives(node)}
            deaths[:] = [node for node in deaths if node in living]
        if len(deaths) > MAX_RESTARTS:
            raise EnvironmentIssue(
                f"the process of item {index} died {len(deaths)} times (out of memory?); "
                "use fewer workers, or smaller batches"
            ) from None
        logger.warning("the worker of item %d died, or its machine; the item is done again", index)
        self.waiting.appendleft(index)
        ray.kill(worker.actor)
        self.pool.release()  # they may have died with it, or wait for room that is gone
        self._fill()

    def _too_small(self, worker: _Worker, index: int, error: OutOfMemory) -> None:
        """Do an item again with a larger share, and all that come after it."""
        import ray

        ray.kill(worker.actor)
        if worker.share == self.pool._share:
            share = room.larger(worker.share, isinstance(error, OutOfGPUMemory), self.pool.full)
            if share is None:
                raise type(error)(
                    f"piece {index + 1} of {len(self.items)} ran out of memory with {worker.share} ({error}); {SMALLER}"
                )
            self.pool.enlarge(share)
        self.waiting.appendleft(index)
        self.told(index, f"out of memory with {worker.share}; done again with {self.pool._share}")
        self._fill()

    def _no_space(self, worker: _Worker, index: int, error: FullDisk) -> None:
        """Do an item again on another machine, and send nothing more to this one."""
        import ray

        ray.kill(worker.actor)
        self.pool.full.add(worker.node)
        self.pool.release()  # they may be on it, or wait for room there
        if not room.places(self.pool._share, self.pool.full):
            raise error
        self.waiting.appendleft(index)
        self.told(index, f"{error}; done again on another machine")
        self._fill()


def _ids() -> set[str]:
    return {node["NodeID"] for node in room.alive()}


def _lives(node: str) -> bool:
    """Whether a machine is there. Ray takes its time to notice that one is not, so it is asked itself."""
    if node not in _ids():
        return False
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node, soft=False)
    asked = ray.remote(_ids).options(num_cpus=0, scheduling_strategy=there).remote()
    try:
        ray.get(asked, timeout=VERDICT_SECONDS)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(asked, force=True)
        return False
    except ray.exceptions.RayError:
        return False
    return True


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
        leaving.watch()

    def up(self) -> str:
        """Answers once the process runs: the id of its node."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def call(self, function: Callable[..., Any], shared: Mapping[str, Any], item: Mapping[str, Any]) -> Any:
        """One piece of work."""
        with threads(self.cpus), memory_watched():
            return function(**shared, **item, device=device())


def _last_line(error: Exception) -> str:
    """Of what Ray says of a process: the exception in it, where one was raised."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:300]
