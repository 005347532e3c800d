"""Percentile bootstrap intervals over examples (Efron and Tibshirani 1993, chapters 13 and 16).

Resamples of the examples are drawn with replacement from a counter-based generator (Philox), so the same seed gives
the same interval on every machine, and `before` and `after` of one seed see the same resamples.

What such an interval says: how far the score would move with another test set of this size from the same source. It
says nothing of other seeds of the training, and it is too narrow on few examples: a score of 1.0 gets [1, 1] however
few there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from tunesmith.metrics.classification import Statistic
from tunesmith.pulse import pulse
from tunesmith.types import Interval

RESAMPLES = 1000


def bootstrap(
    statistic: Statistic,
    logits: np.ndarray,
    targets: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    share: float = 0.95,
) -> Interval:
    """Interval of any statistic of (logits, targets), both with examples on the first axis.

    Resamples on which the statistic is NaN (a class fell out) are left out; with none left, both ends are NaN. A
    statistic that resampling biases (calibration error) may lie outside its percentiles: the interval is then widened
    to hold it, the one departure from the textbook.
    """
    value = statistic(logits, targets)
    return _interval(
        value, _draws(lambda rows: statistic(logits[rows], targets[rows]), len(targets), seed, resamples), share
    )


def bootstrap_mean(values: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES, share: float = 0.95) -> Interval:
    """Interval of the mean of one number an example (right or wrong, a loss), vectorised.

    Of the same seed it gives the same interval as `bootstrap` of the same mean.
    """
    numbers = np.asarray(values, np.float64)
    means = np.concatenate([numbers[rows].mean(axis=1) for rows in _resamples(len(numbers), seed, resamples)])
    return _interval(float(numbers.mean()), means, share)


def bootstrap_counts(
    statistic: Callable[[np.ndarray], np.ndarray],
    examples: int,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    share: float = 0.95,
) -> Interval:
    """Interval of a statistic that is worked out for many resamples at once: it takes how often each example is in
    each of them, [resamples, examples], and gives [resamples]. The same resamples as in `bootstrap` of the same seed.
    """
    value = float(statistic(np.ones((1, examples)))[0])
    draws = [
        statistic(np.stack([np.bincount(row, minlength=examples) for row in rows]))
        for rows in _resamples(examples, seed, resamples)
    ]
    return _interval(value, np.concatenate(draws), share)


def paired_difference(
    statistic: Statistic,
    before: np.ndarray,
    after: np.ndarray,
    targets: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    share: float = 0.95,
) -> Interval:
    """Interval of statistic(after) minus statistic(before), both on the same examples in the same order.

    Each resample takes the same examples for both, so what makes an example hard cancels out, and the interval is
    narrower than two separate ones suggest.
    """
    if len(before) != len(after):
        raise ValueError(f"paired scores need the same examples: {len(before)} before, {len(after)} after")
    value = statistic(after, targets) - statistic(before, targets)

    def once(rows: np.ndarray) -> float:
        return statistic(after[rows], targets[rows]) - statistic(before[rows], targets[rows])

    return _interval(value, _draws(once, len(targets), seed, resamples), share)


def paired_mean_difference(
    before: np.ndarray, after: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES, share: float = 0.95
) -> Interval:
    """`paired_difference` of the mean of one number an example, vectorised (accuracy: right or wrong)."""
    if len(before) != len(after):
        raise ValueError(f"paired scores need the same examples: {len(before)} before, {len(after)} after")
    gain = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    return bootstrap_mean(gain, seed=seed, resamples=resamples, share=share)


def _resamples(examples: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Row numbers [some resamples, examples], in pieces of about 32 MiB so that a large test part fits in memory."""
    if examples == 0:
        raise ValueError("an interval needs at least one example")
    generator = np.random.Generator(np.random.Philox(seed))
    piece = max(1, 4_000_000 // examples)
    for start in range(0, resamples, piece):
        pulse(start, resamples)
        yield generator.integers(0, examples, size=(min(piece, resamples - start), examples))


def _draws(once: Callable[[np.ndarray], float], examples: int, seed: int, resamples: int) -> np.ndarray:
    return np.array([once(rows) for piece in _resamples(examples, seed, resamples) for rows in piece])


def _interval(value: float, draws: np.ndarray, share: float) -> Interval:
    defined = draws[~np.isnan(draws)]
    if not defined.size or value != value:
        return Interval(value, float("nan"), float("nan"), share)
    low, high = np.quantile(defined, [(1 - share) / 2, (1 + share) / 2])
    return Interval(value, float(min(low, value)), float(max(high, value)), share)
