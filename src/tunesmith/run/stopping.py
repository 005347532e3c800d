"""Signals: before training they end the run at once, during training they wait for a state that can be saved."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tunesmith.errors import InterruptedRun

REPEATED = 5.0
"""Seconds within which a second SIGTERM is the first one again."""


class Stop:
    """Whether a signal asked to stop. A second signal does not wait (a second SIGTERM: after `REPEATED` seconds)."""

    def __init__(self) -> None:
        self.asked = False
        self.wait = False
        self._at = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        if self.asked and number == signal.SIGTERM and time.monotonic() - self._at < REPEATED:
            return  # a scheduler tells every process, and a launcher its own ones once more
        again, self.asked, self._at = self.asked, True, time.monotonic()
        if again or not self.wait:
            raise InterruptedRun(
                f"stopped by {signal.Signals(number).name} before there was anything new to save; "
                "`tunesmith resume RUN` goes on from what was saved before."
            )


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Catch SIGINT and SIGTERM while the block runs (only possible in a program's main thread)."""
    stop = Stop()
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
