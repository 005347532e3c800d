"""What chance may do: intervals and tests over test examples and seeds, Holm's correction, the front of what is best.

Two sources of chance add up as variances: the test examples, whose part is taken by resampling, and the seeds of the
training, whose part is s squared over their number. How many standard errors 95 % are is said by the t distribution
with Welch and Satterthwaite's degrees of freedom (Satterthwaite 1946, Biometrics Bulletin 2, eq. 17).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

from tunesmith.types import Interval

SHARE = 0.95
NORMAL = float(stats.norm.ppf((1 + SHARE) / 2))
"""Standard errors in half of a 95 % interval of a normal distribution."""
FLIPS = 10_000
_PIECE = 4_000_000  # signs that are drawn at a time


def with_seeds(examples: Interval, values: Sequence[float]) -> Interval:
    """An interval over examples, widened by the spread of `values`, one a seed, about their mean. Each side keeps its
    own length; with one seed, or without ends, it stays as it is."""
    count = len(values)
    if count < 2 or math.isnan(examples.low):
        return examples
    seeds = float(np.var(values, ddof=1)) / count
    ends = []
    for side in (examples.value - examples.low, examples.high - examples.value):
        parts = [((max(side, 0.0) / NORMAL) ** 2, math.inf), (seeds, count - 1)]
        ends.append(half_width(parts))
    return Interval(examples.value, examples.value - ends[0], examples.value + ends[1], SHARE)


def half_width(parts: Iterable[tuple[float, float]]) -> float:
    """Half of the 95 % interval of a sum whose variances are these, each with its degrees of freedom."""
    variance, freedom = added(parts)
    return float(stats.t.ppf((1 + SHARE) / 2, freedom)) * math.sqrt(variance)


def tail(difference: float, parts: Iterable[tuple[float, float]]) -> float:
    """Chance of a difference at least as far from 0, either way, if there were none. 1 where there is none."""
    variance, freedom = added(parts)
    if difference == 0:
        return 1.0
    return float(2 * stats.t.sf(abs(difference) / math.sqrt(variance), freedom)) if variance > 0 else 0.0


def added(parts: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The variance of a sum from its parts' variances and degrees of freedom, and its own degrees of freedom."""
    known = [(variance, freedom) for variance, freedom in parts if variance > 0]
    total = sum(variance for variance, _ in known)
    doubt = sum(variance**2 / freedom for variance, freedom in known)
    return total, total**2 / doubt if doubt > 0 else math.inf


def flipped(differences: Sequence[np.ndarray], flips: int = FLIPS, seed: int = 0) -> list[float]:
    """Fisher's permutation test: p of each of these differences [examples], all of the same examples. It is how often
    their sum is at least as far from 0 when each example's sign is drawn at random. The observed signs count as one
    draw, so that p is never 0 (Phipson and Smyth 2010). With differences of -1, 0 and 1 this is McNemar's test."""
    if not differences:
        return []
    table = np.stack([np.asarray(d, np.float64) for d in differences])
    observed = np.abs(table.sum(axis=1))
    room = 1e-9 * np.maximum(1.0, np.abs(table).sum(axis=1))
    generator, reached = np.random.Generator(np.random.Philox(seed)), np.ones(len(table))
    piece = max(1, _PIECE // table.shape[1])
    for start in range(0, flips, piece):
        signs = generator.integers(0, 2, size=(min(piece, flips - start), table.shape[1]), dtype=np.int8) * 2.0 - 1.0
        reached += (np.abs(signs @ table.T) >= observed - room).sum(axis=0)
    return [float(p) for p in reached / (flips + 1)]


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's corrected p of each test (Holm 1979): the k-th smallest of m, times m - k + 1, never below the one before
    it and at most 1."""
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(np.argsort(ps, kind="stable")):
        highest = max(highest, min(1.0, float(ps[place]) * (len(ps) - rank)))
        corrected[place] = highest
    return corrected


def front(losses: np.ndarray) -> list[bool]:
    """Of `losses` [rows, criteria], all better the lower: whether no other row is as low in all and lower in one."""
    return [not any((other <= own).all() and (other < own).any() for other in losses) for own in losses]
