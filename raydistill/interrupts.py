"""Ctrl-C and SIGTERM as one exception: a run stops where it is and can go on; and a machine that is to be taken away."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raydistill.errors import RaydistillError

SAME_SIGNAL_SECONDS = 1.0
"A signal that comes again this soon is the same one."

LEAVING = threading.Event()
"Set where this process's machine is about to be taken away: what is under way is written down at once, and often from then on."


_signals: list[float] = []
"When each signal came since ``interruptible`` was entered."


class Interrupted(BaseException):
    """SIGINT or SIGTERM: the run stops where it is and can go on."""


def interrupted(error: BaseException) -> bool:
    """Whether this is an interruption, or what C code that it went through has made of it, such as a ``SystemError``."""
    known = isinstance(error, Interrupted | KeyboardInterrupt)
    return known or (bool(_signals) and not isinstance(error, RaydistillError))


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into ``Interrupted``, once: one that comes later ends the process the hard way."""

    def stop(number: int, frame: object) -> None:
        _signals.append(time.monotonic())
        if len(_signals) == 1:
            raise Interrupted("interrupted")
        # Wrappers (timeout, uv run) pass a signal on that the terminal has sent to the whole group already.
        if _signals[-1] - _signals[0] > SAME_SIGNAL_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    _signals.clear()
    before: dict[signal.Signals, Any] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, stop)
    try:
        yield
    except BaseException as error:
        if interrupted(error) and not isinstance(error, Interrupted):
            raise Interrupted("interrupted") from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _signals.clear()
