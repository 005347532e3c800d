"""How long a search has worked, over all its restarts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Final

from tunesmith.written import write_whole

WRITE_EVERY: Final = 2.0
"""Seconds between two writes; `kill -9` loses no more than this."""


class Clock:
    """Seconds that were worked on a search, kept in a file. limit: when there is no more, in seconds; None: never."""

    def __init__(self, file: Path, limit: float | None) -> None:
        self.file, self.limit = file, limit
        try:
            self._before = float(json.loads(file.read_text(encoding="utf-8"))["seconds"])
        except (OSError, ValueError, KeyError):
            self._before = 0.0
        self._began = self._written = time.monotonic()

    def seconds(self) -> float:
        """So long so far."""
        return self._before + time.monotonic() - self._began

    def left(self) -> float:
        """Seconds until the limit; infinity without one."""
        return float("inf") if self.limit is None else self.limit - self.seconds()

    def tick(self, *, now: bool = False) -> None:
        """Write it down, once in a while."""
        if now or time.monotonic() - self._written >= WRITE_EVERY:
            self._written = time.monotonic()
            write_whole(self.file, json.dumps({"seconds": round(self.seconds(), 1)}))
