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
EXACT = 5_000
"""Up to this sum of all differences, in their smallest unit, the permutation test is exact."""


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


def flipped(differences: np.ndarray, parts: int) -> float:
    """Fisher's permutation test of one difference [examples], multiples of 1 / parts: how often its sum is at least as
    far from 0 when each example's sign is drawn at random. With differences of -1, 0 and 1 this is McNemar's test.

    No draws are made, whose number would bound p from below, and Holm's correction of many rows would then call
    nothing real: examples of one size have a binomial sum, and the sums of all sizes are folded. With very many the
    sum is taken as normal.
    """
    whole = np.rint(np.asarray(differences, np.float64) * parts).astype(np.int64)
    observed = abs(int(whole.sum()))
    sizes, counts = np.unique(np.abs(whole[whole != 0]), return_counts=True)
    if not observed:
        return 1.0
    reach = int((sizes * counts).sum())
    if reach > EXACT:
        step = int(np.gcd.reduce(sizes))  # sums lie 2 * step apart
        return float(2 * stats.norm.sf((observed - step) / math.sqrt(float((sizes**2 * counts).sum()))))
    chances = np.ones(1)  # of the sums -reach, 2 - reach, ..., reach
    for size, count in zip(sizes, counts, strict=True):
        own = np.zeros(size * count + 1)
        own[::size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, own)
    return min(1.0, float(chances[np.abs(2 * np.arange(reach + 1) - reach) >= observed].sum()))


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
