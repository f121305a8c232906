"""Signals that ask to stop: noted when they come, acted upon between two steps."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: SLURM's own choice for "your time is up" is USR2 by convention; a terminal that goes away says HUP.
STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def noted() -> Iterator[list[int]]:
    """Collect the stop signals that arrive during the block; the handlers before are back after it.

    Under ``nohup`` a terminal that goes away goes on being ignored.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    heard = [number for number in STOP if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, note) for number in heard}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
