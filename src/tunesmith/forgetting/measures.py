"""The numbers of forgetting, with their definitions.

With a_0 the old task's main score of the untouched model and a_1 ... a_T those seen since, the last after training
(signs turned where lower is better, so that above 0 is always lost):

    initial minus last      a_0 - a_T, on the same examples; the interval is a paired bootstrap over them
    highest minus last      max(a_0, ..., a_T) - a_T       Chaudhry et al. 2018, arXiv:1801.10112, eq. 3
    off                     a_0 - a with the method switched off; 0 where it gives the untouched model back
    backward transfer       mean over j < T of R[T][j] - R[j][j], of a matrix R[i][j] of the score on task j after
                            task i; above 0 is gained      Lopez-Paz and Ranzato 2017, arXiv:1706.08840, section 2

Without labels: agreement, Kullback-Leibler divergence, and linear CKA (Kornblith et al. 2019, arXiv:1905.00414, eq. 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tunesmith.forgetting.base import OpenTask
from tunesmith.metrics import interval
from tunesmith.metrics.boxes import nothing_to_score
from tunesmith.metrics.classification import log_softmax
from tunesmith.types import Interval, MainScore


def lost(first: float, last: float, main: MainScore) -> float:
    """`first` minus `last`, or the reverse where lower is better: above 0 is lost. NaN where there was nothing to
    score."""
    if nothing_to_score(main.name, first) or nothing_to_score(main.name, last):
        return float("nan")
    return first - last if main.better == "higher" else last - first


def highest(values: Sequence[float], main: MainScore) -> float:
    """The best of the scores; those that are not numbers count for nothing, NaN with no other."""
    known = [value for value in values if value == value]
    if not known:
        return float("nan")
    return max(known) if main.better == "higher" else min(known)


def backward_transfer(matrix: Sequence[Sequence[float]], main: MainScore) -> float:
    """Mean over the tasks before the last of what later tasks gave to it (below 0: took).

    matrix[i][j]: main score on task j after task i was learned, at least for j <= i; two tasks or more.
    """
    last = len(matrix) - 1
    if last < 1:
        raise ValueError("backward transfer needs two tasks or more, learned one after the other")
    return float(np.mean([-lost(matrix[j][j], matrix[last][j], main) for j in range(last)]))


def average_forgetting(matrix: Sequence[Sequence[float]], main: MainScore) -> float:
    """Mean over the tasks before the last of the highest score at any stage before the last, minus that after it."""
    last = len(matrix) - 1
    if last < 1:
        raise ValueError("forgetting over a sequence needs two tasks or more, learned one after the other")
    best = [highest([matrix[i][j] for i in range(j, last)], main) for j in range(last)]
    return float(np.mean([lost(best[j], matrix[last][j], main) for j in range(last)]))


def turned(difference: Interval, main: MainScore) -> Interval:
    """An interval of last minus first as one of what is lost."""
    if main.better == "lower":
        return difference
    value, low, high = (0.0 - end for end in (difference.value, difference.high, difference.low))  # never -0.0
    return Interval(value, low, high, difference.share)


def agrees(answers: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """1.0 where both give the same answer, else 0.0, [examples]; both are logits [examples, classes]."""
    return np.asarray(answers.argmax(axis=1) == reference.argmax(axis=1), np.float64)


def divergence(reference: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """KL(reference || answers) of each example's class probabilities, in nats, float64 [examples]; both are logits.

    Of equal logits it is 0 exactly.
    """
    before, now = log_softmax(reference), log_softmax(answers)
    found: np.ndarray = (np.exp(before) * (before - now)).sum(axis=1)
    return np.asarray(np.maximum(found, 0.0))


def cosine(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosine between the two vectors of each example, float64 [examples]; 0 where one of them is 0."""
    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    bottom = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    cosines: np.ndarray = np.divide((x * y).sum(axis=1), bottom, out=np.zeros(len(x)), where=bottom > 0)
    return cosines


def linear_cka(one: np.ndarray, other: np.ndarray) -> float:
    """How alike two sets of features [examples, size] of the same examples are, whatever their rotation and scale.

    With centred X and Y: |Y'X|^2 / (|X'X| |Y'Y|), Frobenius norms; 1 for the same structure. 0 where `other` is the
    same for all examples and `one`, the reference, is not: nothing of its structure is left. NaN where the reference
    is the same for all. With few examples for the size it is biased upwards.
    """
    x, y = _centred(one), _centred(other)
    own, others = np.linalg.norm(x.T @ x), np.linalg.norm(y.T @ y)
    if own > 0 and others == 0:
        return 0.0
    bottom = own * others
    return min(float(np.linalg.norm(y.T @ x) ** 2 / bottom), 1.0) if bottom > 0 else float("nan")


class Similarity:
    """`linear_cka` of any resample of the same examples, from their Gram matrices [examples, examples]."""

    def __init__(self, one: np.ndarray, other: np.ndarray) -> None:
        self.grams = [_gram(one), _gram(other)]
        self.own = [gram * gram for gram in self.grams]
        self.cross = self.grams[0] * self.grams[1]

    def of(self, counts: np.ndarray) -> np.ndarray:
        """CKA [resamples] of resamples in which each example is `counts` [resamples, examples] times."""
        shares = counts / counts.sum(axis=1, keepdims=True)
        means = [shares @ gram for gram in self.grams]
        inner = [((shares * mean).sum(axis=1)) for mean in means]

        def both(products: np.ndarray, a: int, b: int) -> np.ndarray:
            # sum_ij p_i p_j of the two matrices, each centred under the shares p.
            square = ((shares @ products) * shares).sum(axis=1)
            return np.asarray(square - 2 * (shares * means[a] * means[b]).sum(axis=1) + inner[a] * inner[b])

        own, others = both(self.own[0], 0, 0), both(self.own[1], 1, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: np.ndarray = both(self.cross, 0, 1) / np.sqrt(np.maximum(own * others, 0.0))
        return np.where((own > 0) & (others == 0), 0.0, np.minimum(found, 1.0))


def _centred(features: np.ndarray) -> np.ndarray:
    """Features less their mean over examples; exactly 0 where all are the same, which rounding of a mean may miss."""
    rows = np.asarray(features, np.float64)
    rows = rows - rows[:1]
    return np.asarray(rows - rows.mean(axis=0))


def _gram(features: np.ndarray) -> np.ndarray:
    rows = _centred(features)
    return np.asarray(rows @ rows.T)


def similarity_lost(reference: np.ndarray, first: np.ndarray, last: np.ndarray, *, seed: int) -> Interval:
    """CKA of `first` with the reference minus that of `last`, [examples, size] each, with a paired interval."""
    early, late = Similarity(reference, first), Similarity(reference, last)
    return interval.bootstrap_counts(lambda counts: early.of(counts) - late.of(counts), len(reference), seed=seed)


def summary(
    task: OpenTask,
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    *,
    off: np.ndarray | None = None,
    seen: Sequence[float] = (),
) -> dict[str, Any]:
    """What scores.json says of an old task, as JSON can hold it.

    before, after: raw answers by part. off: those to the first part with the method switched off. seen: main scores at
    evaluations, taken on the part that chooses (the last one). `highest` and `highest_minus_last` are of that part too,
    all else of the first; where there is one part only, both are the same (`note_choice`).
    """
    part, chosen = task.parts[0], task.parts[-1]
    main = task.main
    ends = [task.score(answers[chosen], chosen)[main.name] for answers in (before, after)]
    top = highest([ends[0], *seen, ends[1]], main)
    change = task.forgetting(before[part], after[part], part)
    found: dict[str, Any] = {
        "kind": task.kind,
        "definition": task.definition,
        "main_score": {"name": main.name, "better": main.better},
        "part": part,
        "rows": task.rows(part),
        "before": task.score(before[part], part),
        "after": task.score(after[part], part),
        "highest": top,
        "highest_part": chosen,
        "forgetting": {"initial_minus_last": _ends(change), "highest_minus_last": lost(top, ends[1], main)},
    }
    if off is not None:
        found["off"] = task.score(off, part)
        found["forgetting"]["off"] = _ends(task.forgetting(before[part], off, part))
    return found


def note_choice(old_tasks: Mapping[str, dict[str, Any]], by: Sequence[str]) -> None:
    """Write `chosen_by` into those entries of scores.json whose number is of the very examples that a choice was made
    on: it may look better there than on others. by: what chose this run's state by what old tasks lost."""
    for told in old_tasks.values():
        if by and told["highest_part"] == told["part"]:
            told["chosen_by"] = list(by)


def _ends(found: Interval) -> list[float]:
    return [found.value, found.low, found.high]
