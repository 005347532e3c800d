"""Does the model mean what it says? Temperature scaling and reliability (Guo et al. 2017, arXiv:1706.04599)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunesmith.metrics.classification import BINS, confidence_bins, log_softmax

LOWEST, HIGHEST = 0.02, 50.0
"""Limits of the temperature: beyond them a model is right (or no better than chance) on all of validation, and the
likelihood alone would drive the temperature to nothing or to infinity."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Examples whose confidence lies in (low, high]: their mean confidence and share right (NaN when count is 0)."""

    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The one number T > 0 by which logits are divided so that their likelihood is highest; for validation examples.

    logits [examples, classes]; targets class indices [examples], or 0/1 [examples, classes] for multi-label. T above 1
    tempers an overconfident model. Answers stay as they are: dividing keeps the order (and, in multi-label, the sign).
    The likelihood in 1/T has one minimum (it is convex), hence in log T too, where a bounded scalar search finds it.
    Targets are softened to what n examples can tell, (n + 1) / (n + classes) for the true one, so that a model that
    is right on all of few examples is not made sure of everything (Platt 1999, section 2.2, for two classes).
    """
    from scipy.optimize import minimize_scalar

    values, targets = np.asarray(logits, np.float64), np.asarray(targets)
    if len(values) == 0:
        return 1.0
    soft = _softened(targets, values.shape[1])
    found = minimize_scalar(
        lambda log_t: _cross_entropy(values / np.exp(log_t), soft, single=targets.ndim == 1),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def _softened(targets: np.ndarray, classes: int) -> np.ndarray:
    """Targets [examples, classes] as far from 0 and 1 as their number allows."""
    n = len(targets)
    if targets.ndim == 2:
        return np.where(targets > 0.5, (n + 1) / (n + 2), 1 / (n + 2))
    soft = np.full((n, classes), 1 / (n + classes))
    soft[np.arange(n), targets] = (n + 1) / (n + classes)
    return soft


def _cross_entropy(values: np.ndarray, soft: np.ndarray, *, single: bool) -> float:
    if single:
        return float(-(soft * log_softmax(values)).sum(axis=1).mean())
    return float((np.logaddexp(0.0, values) - values * soft).mean())


def reliability(probabilities: np.ndarray, targets: np.ndarray, bins: int = BINS) -> tuple[Bin, ...]:
    """Equal-width bins of confidence, with how often the model was right in each.

    targets [examples]: confidence is the highest probability. targets [examples, classes] of 0/1: every entry counts,
    confidence is its probability and right means that the class applies.
    """
    probabilities, targets = np.asarray(probabilities, np.float64), np.asarray(targets)
    if targets.ndim == 2:
        confidence, correct = probabilities.ravel(), targets.ravel() > 0.5
    else:
        confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    counts, stated, right = confidence_bins(confidence, correct, bins)
    edges = np.linspace(0.0, 1.0, bins + 1)
    with np.errstate(invalid="ignore"):
        means, shares = stated / counts, right / counts
    return tuple(
        Bin(float(edges[i]), float(edges[i + 1]), float(means[i]), float(shares[i]), int(counts[i]))
        for i in range(bins)
    )
