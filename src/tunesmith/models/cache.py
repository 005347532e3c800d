"""Model folders that can be made again, kept where they are found the next time: whole, or not there at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.errors import DiskError

_STALE_SECONDS = 86_400


def cache_folder() -> Path:
    """Where what can be made again is kept: `TUNESMITH_CACHE`, else tunesmith in `XDG_CACHE_HOME` or ~/.cache."""
    told = os.environ.get("TUNESMITH_CACHE")
    if told:
        return Path(told).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tunesmith"


@contextmanager
def kept(target: Path, what: str, *, is_whole: Callable[[Path], bool], needed: int) -> Iterator[Path | None]:
    """None where `target` is there and whole; else an empty folder to fill, which takes its place after the block.

    what: how messages call it. needed: bytes. Of two processes at once both work and one folder stays. DiskError where
    there is no room or no right to write.
    """
    if is_whole(target):
        yield None
        return
    with _disk_faults(target.parent, what):
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        _make_room(target.parent, needed)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=target.parent) as scratch:
            fresh = Path(scratch) / "model"
            fresh.mkdir()
            yield fresh
            _put(fresh, target, Path(scratch), is_whole)


def _put(fresh: Path, target: Path, scratch: Path, is_whole: Callable[[Path], bool]) -> None:
    try:
        fresh.rename(target)
    except OSError:
        if is_whole(target):
            return  # another process was faster
        target.rename(scratch / "broken")
        fresh.rename(target)


def _sweep(folder: Path) -> None:
    """Take away what killed processes left more than a day ago."""
    for left in folder.glob(".making-*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _make_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(errno.ENOSPC, f"{needed / 2**20:,.0f} MiB are needed and {free / 2**20:,.0f} are free")


@contextmanager
def _disk_faults(folder: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"{what} cannot be written to {folder}: {error.strerror or error}. Make room, or name another place for it "
            "by the environment variable TUNESMITH_CACHE."
        ) from error
