"""A process that must not outlive the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def bound_to(parent: int) -> Callable[[], None]:
    """What a process started by `parent` calls first: Linux then kills it when its parent ends, however that is (to be
    exact: when the thread that started it ends). Elsewhere it runs on.

    All that may take a lock is done here already, so that what is given may run between fork and exec.
    """
    prctl: Callable[..., int] | None = None
    if sys.platform == "linux":
        try:
            prctl = ctypes.CDLL(None, use_errno=True).prctl
        except (OSError, AttributeError):
            prctl = None

    def begin() -> None:
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before the line above
            os._exit(1)

    return begin
