"""How long a pass takes, by what it holds: measured on a few real passes, the first ones thrown away."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

QUANTILES = (0.5, 0.95, 0.05, 0.75, 0.25)
"""Of the passes sorted by size: which are measured, the most telling first."""
ROUNDS = 4
LONG = 4.0
"""A pass that takes this many times the seconds there are is measured once, and no other beside it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a pass by its size, the places it fills (examples times the length of the longest).

    sizes: rising. seconds: the median measured at each. spread: relative standard deviation of the readings around
    the line through them. readings: how many there were.
    """

    sizes: np.ndarray
    seconds: np.ndarray
    spread: float
    readings: int

    def at(self, sizes: np.ndarray) -> np.ndarray:
        """Seconds of passes of these sizes; beyond the largest measured in proportion, below the smallest as that."""
        found = np.interp(sizes, self.sizes, self.seconds)
        return np.asarray(found * np.maximum(1.0, np.asarray(sizes) / self.sizes[-1]))

    def over(self, sizes: np.ndarray) -> float:
        """Seconds of them all."""
        return float(self.at(sizes).sum()) if len(sizes) else 0.0


NONE = Pace(np.array([1.0]), np.zeros(1), 0.0, 0)
"""Of passes that will not be made."""


def measured(run: Callable[[int], float | None], sizes: np.ndarray, *, seconds: float) -> Pace:
    """The pace of passes 0, 1, ... of these sizes, which `run` does by number, returning seconds that do not count.

    The largest and the smallest are run first and thrown away: the largest shows the memory, both warm up caches. Then
    passes of all sizes alternate, other ones in each round, until `seconds` are over; two are measured at least. Where
    the largest takes `LONG` times `seconds` by itself, caches are nothing to it: others are then taken to need time in
    proportion to their size.
    """
    if not len(sizes):  # a process whose share of a step is empty
        return NONE
    order = np.argsort(sizes, kind="stable")
    largest, smallest = int(order[-1]), int(order[0])
    took = _counted(run, largest)
    if took > LONG * seconds:
        return Pace(np.array([0.0, sizes[largest]]), np.array([0.0, took]), 0.0, 1)
    if smallest != largest:
        run(smallest)
    readings: list[tuple[float, float, float]] = []
    begun = time.perf_counter()
    for turn in range(ROUNDS):
        for quantile in QUANTILES:
            place = min(len(order) - 1, round(quantile * (len(order) - 1)) + turn)
            number = int(order[place])
            readings.append((quantile, float(sizes[number]), _counted(run, number)))
            if len(readings) >= 2 and time.perf_counter() - begun > seconds:
                return _through(readings)
    return _through(readings)


def _counted(run: Callable[[int], float | None], number: int) -> float:
    aside: list[float] = []
    whole = timed(lambda: aside.append(run(number) or 0.0))
    return whole - aside[0]


def timed(run: Callable[..., object], *given: object) -> float:
    """Wall seconds of one call, an accelerator's work included."""
    _finish()
    started = time.perf_counter()
    run(*given)
    _finish()
    return time.perf_counter() - started


def _finish() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def _through(readings: Sequence[tuple[float, float, float]]) -> Pace:
    by_quantile = {q: [(size, took) for own, size, took in readings if own == q] for q, _, _ in readings}
    points = sorted(tuple(np.median(np.array(some), axis=0).tolist()) for some in by_quantile.values())
    sizes = np.unique([size for size, _ in points])
    seconds = np.array([np.median([took for other, took in points if other == size]) for size in sizes])
    pace = Pace(sizes, seconds, 0.0, len(readings))
    off = np.array([took for _, _, took in readings]) / pace.at(np.array([size for _, size, _ in readings])) - 1
    return Pace(sizes, seconds, float(off.std()), len(readings))
