"""Keep freed memory for the next step instead of giving it back to the system.

glibc hands blocks above 32 MiB back as soon as they are freed and asks for them anew, page by page, each page zeroed.
A training step frees and asks for the same large blocks over and over: at 256 tokens a product of attention weights
and a dropout mask took 41 ms that way and 7 ms with the memory kept (docs/experiments.md). What is kept is at most
what a step had in use at once.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Tell the C library of this process; False where it is not glibc. Changes speed, never a result."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL("libc.so.6")
        return bool(library.mallopt(_M_MMAP_MAX, 0)) and bool(library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
    except (OSError, AttributeError):
        return False
