"""What a process holds; and freed memory kept for the next step instead of given back to the system.

glibc hands blocks above 32 MiB back as soon as they are freed and asks for them anew, page by page, each page zeroed.
A training step frees and asks for the same large blocks over and over: at 256 tokens a product of attention weights
and a dropout mask took 41 ms that way and 7 ms with the memory kept (docs/experiments.md). What is kept is at most
what a step had in use at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

from tunesmith.errors import RunError

MIB = 1024 * 1024

_T = TypeVar("_T")

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4

_FIRST, _GROWTH = 4, 1.2
"""Steps of training that tell what is needed, and how many times that may be held."""


def keep_freed_memory() -> bool:
    """Tell the C library of this process; False where it is not glibc. Changes speed, never a result."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL("libc.so.6")
        return bool(library.mallopt(_M_MMAP_MAX, 0)) and bool(library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
    except (OSError, AttributeError):
        return False


def give_back() -> None:
    """Give everything freed so far back to the system, once: what setting up used is no room that training can use, as
    it lies in pieces between what is still held."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
    trim()


def trim() -> None:
    """Give back what lies free in whole pages; tenths of a second for each GiB, as the next step asks for it anew."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextlib.contextmanager
def told_where_memory_ends() -> Iterator[None]:
    """RunError with what to do in the place of a library's error that says memory has run out."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise RunError(
            f"Memory has run out ({' '.join(str(error).split())[:200] or 'no room'}). Nothing that was saved is lost. "
            "Fit again with --max-memory, which finds settings that fit; or with a smaller train.micro_batch_size, or "
            "with train.checkpoint_activations=true: neither changes what is learned, but where BatchNorm moves."
        ) from error


class Growth:
    """Gives freed memory back once a process holds a fifth more than its first steps needed.

    Each batch has its own shape, and blocks freed by one lie in pieces that fit no later one: a language model's run
    held 3.2 GiB after four steps and 5.2 at its end, of which 1.8 were in use between steps; scoring pictures in seven
    batches of six sizes added 1.2 GiB, of which a pass needs 0.4 (docs/experiments.md).

    first: steps that tell what is needed.
    """

    def __init__(self, first: int = _FIRST) -> None:
        self._first, self._needed, self._looked = first, 0.0, 0

    def look(self) -> bool:
        """To be called after each step; whether memory was given back."""
        held = held_mib()
        if self._looked < self._first:
            self._needed, self._looked = max(self._needed, held), self._looked + 1
            return False
        if held <= _GROWTH * self._needed or torch.accelerator.is_available():
            return False
        trim()
        self._looked = 0  # where the next steps need as much again, it was no freed memory
        return True


def thrifty(batches: Iterable[_T]) -> Iterator[_T]:
    """The same batches, to be passed once through a model: freed memory is given back before the first, since training
    has left it in pieces and scoring needs blocks of other sizes, and as `Growth` does once two have been passed."""
    trim()
    growth = Growth(first=2)
    for batch in batches:
        yield batch
        growth.look()


def peak_mib() -> float:
    """The most memory this process has held at once, MiB: resident memory, or beside an accelerator the most that torch
    has reserved there."""
    if torch.accelerator.is_available():
        return torch.accelerator.max_memory_reserved() / MIB
    try:
        # Not ru_maxrss there: a process that another one starts takes over the peak of its parent.
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # no Linux
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def held_mib() -> float:
    """What this process holds now, as `peak_mib` counts it."""
    if torch.accelerator.is_available():
        return torch.accelerator.memory_reserved() / MIB
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
    except OSError:  # no Linux: the peak so far is the nearest that is known
        return peak_mib()


def shared_bytes() -> int:
    """Bytes free where processes hand each other batches."""
    try:
        return shutil.disk_usage("/dev/shm").free
    except OSError:  # a system that shares memory in another way
        return 1 << 62
