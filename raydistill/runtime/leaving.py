"""Whether a worker's machine is about to be taken away: a spot machine, or a pod that is moved.

Where `ray start --block` is told to end (SIGTERM), Ray marks its node as draining and lets it live for
``RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S`` (30 s unless set); so do autoscalers. Nothing new is placed there. What is under way
goes on and is checkpointed each second (``LEAVING``), so that whoever takes it over repeats next to nothing.
"""

import logging
import threading
import time

from raydistill.interrupts import LEAVING

LOOK_EVERY = 3.0
"Seconds. A look is one small question to the head."

logger = logging.getLogger(__name__)
_watching = threading.Lock()


def watch() -> None:
    """Look from now on, in this Ray worker, whether its machine leaves; a second call does nothing."""
    if _watching.acquire(blocking=False):
        threading.Thread(target=_look, name="leaving", daemon=True).start()


def _look() -> None:
    import ray

    node = ray.get_runtime_context().get_node_id()
    try:
        # Ray has no public question for it.
        while node not in ray._private.state.state.get_draining_nodes():
            time.sleep(LOOK_EVERY)
    except Exception as error:  # then checkpoints come as often as they always do
        logger.info("cannot tell whether this machine is to be taken away: %s", error)
        return
    logger.warning("this machine is about to be taken away; what is under way here is checkpointed each second")
    LEAVING.set()
