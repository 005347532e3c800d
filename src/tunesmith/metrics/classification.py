"""Scores of a classifier from its logits: numpy for counts, scikit-learn for ranking and correlation.

Conventions, so that figures can be compared with other programs':

- F1 of a class is 2 tp / (2 tp + fp + fn). A class that no example has and no answer names has no F1: it is left out,
  of the macro mean too (scikit-learn's `zero_division=nan`). Micro F1 with nothing to find and nothing found is 0.
- AUROC is the macro mean of one-vs-rest areas, each class alike, ranked by log odds; where a class has no positive or
  no negative example the key is left out of the scores, since an area over fewer classes is another figure.
- ECE is the expected calibration error of Guo et al. 2017 (arXiv:1706.04599, eq. 3): 15 bins of equal width,
  half-open (a, b], of the highest probability.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tunesmith.errors import NotFiniteError

Statistic = Callable[[np.ndarray, np.ndarray], float]
"""A score of (logits [examples, classes], targets); what `metrics.interval` puts an interval around."""

BINS = 15


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities of classes that exclude each other, float64 [examples, classes]."""
    values = np.asarray(logits, np.float64)
    shifted = values - values.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of classes that exclude each other, float64 [examples, classes]."""
    return np.asarray(np.exp(log_softmax(logits)))


def log_odds(logits: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)) of classes that exclude each other, float64 [examples, classes]: z_c - logsumexp of the others.

    Ranks as the probabilities do, and still tells examples apart where those are 1.0 or 0.0 to the last bit.
    """
    logs = log_softmax(logits)
    if logs.shape[1] < 2:
        return logs
    top = logs.argmax(axis=1, keepdims=True)
    # Of the likeliest class 1 - p may be lost to rounding, so it is summed from the others; of these p is at most 1/2.
    others = logs.copy()
    np.put_along_axis(others, top, -np.inf, axis=1)
    most = others.max(axis=1, keepdims=True)
    base = np.where(np.isneginf(most), 0.0, most)  # all others impossible: -inf - -inf would be no number
    with np.errstate(divide="ignore"):
        rest = base + np.log(np.exp(others - base).sum(axis=1, keepdims=True))
    odds = logs - np.log1p(-np.exp(others))
    np.put_along_axis(odds, top, np.take_along_axis(logs, top, axis=1) - rest, axis=1)
    return np.asarray(odds)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of classes that do not exclude each other, float64; exact for large values of either sign."""
    values = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def negative_log_likelihood(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean over examples of -log p(target), in nats; for targets [examples, classes] the mean over all entries of the
    binary cross-entropy.
    """
    if targets.ndim == 2:
        values = np.asarray(logits, np.float64)
        return float(np.mean(np.logaddexp(0.0, values) - values * targets))
    return float(-np.mean(log_softmax(logits)[np.arange(len(targets)), targets]))


def confusion(targets: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts [classes, classes]: row the truth, column the answer. Both inputs are class indices [examples]."""
    cells = np.asarray(targets, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def f1_by_class(positives: np.ndarray, named: np.ndarray, both: np.ndarray) -> np.ndarray:
    """F1 of each class [classes] from how often it is true, is answered, and both; NaN where neither ever is."""
    total = np.asarray(positives + named, np.float64)
    return np.asarray(np.divide(2.0 * both, total, out=np.full(total.shape, np.nan), where=total > 0))


def accuracy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Share of examples whose highest logit is the target's."""
    return float(np.mean(logits.argmax(axis=1) == targets))


def macro_f1(logits: np.ndarray, targets: np.ndarray) -> float:
    """Plain mean of the classes' F1."""
    counts = confusion(targets, logits.argmax(axis=1), logits.shape[1])
    return float(np.nanmean(f1_by_class(counts.sum(axis=1), counts.sum(axis=0), counts.diagonal())))


def matthews(logits: np.ndarray, targets: np.ndarray) -> float:
    """Matthews correlation of truth and answer (Gorodkin 2004 for several classes), -1 to 1; 0 where undefined."""
    counts = confusion(targets, logits.argmax(axis=1), logits.shape[1]).astype(np.float64)
    true, named, total = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    spread = (total**2 - true @ true) * (total**2 - named @ named)
    return float((counts.trace() * total - true @ named) / np.sqrt(spread)) if spread > 0 else 0.0


def area_under_roc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Macro one-vs-rest area; `scores` and 0/1 `truth` are [examples, classes]. NaN where a class has but one side."""
    from sklearn.metrics import roc_auc_score

    positives = truth.sum(axis=0)
    if ((positives == 0) | (positives == len(truth))).any():
        return float("nan")
    return float(roc_auc_score(truth, scores, average="macro"))


def confidence_bins(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Counts, summed confidence and summed correctness of equal-width bins (a, b] of [0, 1]: float64 [3, bins]."""
    place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], confidence, side="left")
    weights = (None, confidence, np.asarray(correct, np.float64))
    return np.stack([np.bincount(place, weights=w, minlength=bins).astype(np.float64) for w in weights])


def expected_calibration_error(probabilities: np.ndarray, targets: np.ndarray, bins: int = BINS) -> float:
    """Mean gap between stated and real rightness over `bins` bins, 0 to 1 (see the module's conventions)."""
    correct = probabilities.argmax(axis=1) == targets
    _, stated, right = confidence_bins(probabilities.max(axis=1), correct, bins)
    return float(np.abs(stated - right).sum() / len(targets))


def single_label(logits: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """All scores where each example has one class.

    logits [examples, classes], targets class indices [examples]. Gives accuracy, macro_f1, mcc, auroc (unless a class
    is absent), nll (nats), ece, and f1/LABEL of each class that occurs. ValueError when shapes disagree or there is
    no example; NotFiniteError when a logit is not a number.
    """
    logits, targets = _checked(logits, targets, labels)
    probabilities = softmax(logits)
    counts = confusion(targets, logits.argmax(axis=1), len(labels))
    by_class = f1_by_class(counts.sum(axis=1), counts.sum(axis=0), counts.diagonal())
    scores = {
        "accuracy": accuracy(logits, targets),
        "macro_f1": float(np.nanmean(by_class)),
        "mcc": matthews(logits, targets),
        "auroc": area_under_roc(log_odds(logits), np.eye(len(labels), dtype=np.int64)[targets]),
        "nll": negative_log_likelihood(logits, targets),
        "ece": expected_calibration_error(probabilities, targets),
    }
    return _defined(scores) | _f1_scores(labels, by_class)


def multi_label(
    logits: np.ndarray, targets: np.ndarray, labels: Sequence[str], thresholds: np.ndarray | None = None
) -> dict[str, float]:
    """All scores where an example may have several classes or none.

    logits and 0/1 targets [examples, classes]; thresholds are logits [classes] above which a class is answered
    (default 0, a probability of one half). Gives micro_f1, macro_f1, subset_accuracy (share of examples with every
    class right), auroc (unless a class has but one side), nll (binary, mean over entries), f1/LABEL. Errors as
    `single_label`.
    """
    logits, targets = _checked(logits, targets, labels)
    answers = logits > (0.0 if thresholds is None else np.asarray(thresholds, np.float64))
    truth = targets.astype(bool)
    both = (answers & truth).sum(axis=0)
    positives, named = truth.sum(axis=0), answers.sum(axis=0)
    by_class = f1_by_class(positives, named, both)
    occurring = by_class[~np.isnan(by_class)]
    scores = {
        "micro_f1": float(2 * both.sum() / max(positives.sum() + named.sum(), 1)),
        "macro_f1": float(occurring.mean()) if occurring.size else 0.0,
        "subset_accuracy": float(np.mean((answers == truth).all(axis=1))),
        "auroc": area_under_roc(logits, truth.astype(np.int64)),
        "nll": negative_log_likelihood(logits, targets),
    }
    return _defined(scores) | _f1_scores(labels, by_class)


def micro_f1(logits: np.ndarray, targets: np.ndarray) -> float:
    """F1 over all answers together, a class answered above 0; 0/1 targets [examples, classes]. As in `multi_label`."""
    answers, truth = np.asarray(logits) > 0, np.asarray(targets) > 0.5
    return float(2 * (answers & truth).sum() / max(int(truth.sum() + answers.sum()), 1))


def tune_thresholds(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Per class the logit [classes] above which answering it gives the highest F1; for validation examples, never test.

    Candidates lie midway between neighbouring logits and one below the lowest; of equals the one nearest 0 (one half)
    is taken, and a class without a positive example keeps 0. Optimal for F1 on these examples by exhaustion (Lipton et
    al. 2014, arXiv:1402.1892, study the limit).
    """
    values, truth = np.asarray(logits, np.float64), np.asarray(targets) > 0.5
    return np.array([_best_threshold(v, t) for v, t in zip(values.T, truth.T, strict=True)])


def _best_threshold(values: np.ndarray, truth: np.ndarray) -> float:
    if not truth.any():
        return 0.0
    order = np.argsort(-values, kind="stable")
    falling, hits = values[order], np.cumsum(truth[order])
    ends = np.flatnonzero(np.append(falling[1:] < falling[:-1], True))  # a cut between equal values is no cut
    f1 = 2.0 * hits[ends] / (ends + 1 + truth.sum())
    below = np.append(falling[1:], falling[-1] - 2.0)[ends]
    # 0 does as well as the midpoint of the gap that holds it, and is the number people expect
    cuts = np.where((below <= 0) & (falling[ends] > 0), 0.0, (falling[ends] + below) / 2.0)
    best = cuts[np.isclose(f1, f1.max(), rtol=0, atol=1e-12)]
    return float(best[np.abs(best).argmin()])


def _checked(logits: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    logits, targets = np.asarray(logits), np.asarray(targets)
    if logits.ndim != 2 or len(logits) == 0 or logits.shape[1] != len(labels) or len(targets) != len(logits):
        raise ValueError(
            f"scores need logits [examples, classes] and a target for each: "
            f"found logits {list(logits.shape)}, targets {list(targets.shape)}, {len(labels)} labels"
        )
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if broken.size:
        raise NotFiniteError(
            f"the model's answer to {broken.size} of {len(logits)} examples is not a number (first: example "
            f"{broken[0]}); scores of it would mean nothing. Lower the learning rate or use precision: float32."
        )
    return logits.astype(np.float64), targets


def _defined(scores: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if value == value}


def _f1_scores(labels: Sequence[str], by_class: np.ndarray) -> dict[str, float]:
    return _defined({f"f1/{label}": float(value) for label, value in zip(labels, by_class, strict=True)})
