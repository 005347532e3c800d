"""What every part of a search works with: its limits, its crew, its clock, and who is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tunesmith.errors import InterruptedRun
from tunesmith.run.search.book import Book
from tunesmith.run.search.clock import Clock
from tunesmith.run.search.launch import Crew
from tunesmith.run.stopping import Stop

POLL: Final = 0.03
"""Seconds between two looks at the runs under way."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a search goes. seconds: of work over all restarts, confirmation included. seeds: new ones that the winner
    and the default are run on in the end."""

    trials: int = 30
    seconds: float | None = None
    jobs: int = 1
    seeds: int = 3


@dataclass(slots=True)
class Session:
    """One start of a search."""

    book: Book
    limits: Limits
    crew: Crew
    clock: Clock
    stop: Stop
    say: Say
    took: list[float] = field(default_factory=list)
    """Seconds that runs which ended in this session took, starting and scoring included."""

    def breathe(self) -> None:
        """Wait a moment. InterruptedRun when a signal asked to stop: runs under way are then ended resumably."""
        self.clock.tick()
        if self.stop.asked:
            raise InterruptedRun(
                "the search is stopped and every trial kept. Go on with the same command "
                f"(--output {self.book.folder})."
            )
        time.sleep(POLL)

    def expected(self) -> float:
        """Seconds that a run is expected to take, 0 where nothing is known yet: the middle of those that ended."""
        return sorted(self.took)[len(self.took) // 2] if self.took else 0.0

    def reserve(self) -> float:
        """Seconds kept for the confirmation: its runs at the pace so far, at most half of all time."""
        if self.limits.seconds is None or not self.limits.seeds:
            return 0.0
        rounds = -(-2 * self.limits.seeds // self.limits.jobs)
        return min(0.5 * self.limits.seconds, rounds * self.expected())
