"""What the model gets right and wrong: confusion, classes, the worst mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tunesmith.metrics.classification import confusion, f1_by_class
from tunesmith.run.report_parts.facts import Answers, Facts

MATRIX_CLASSES = 20
"""Most classes for which the whole matrix is drawn; above, the pairs most often confused are listed."""
PAIRS, MISTAKES = 15, 10


def confusions(facts: Facts) -> dict[str, Any]:
    """`matrix` (rows of label and cells: count, share of the row), or `pairs` for many classes; empty if neither."""
    answers, labels = facts.after, facts.labels
    if answers is None or answers.truth.ndim == 2:
        return {}
    counts = confusion(answers.truth, answers.said, len(labels))
    rows = np.maximum(counts.sum(axis=1), 1)
    shares = counts / rows[:, None]
    if len(labels) <= MATRIX_CLASSES:
        cells = [
            {"label": label, "cells_of": list(zip(counts[i].tolist(), shares[i].tolist(), strict=True)), "place": i}
            for i, label in enumerate(labels)
        ]
        return {"matrix": cells, "labels": labels}
    wrong = counts - np.diag(counts.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [
        {
            "truth": labels[t],
            "said": labels[s],
            "count": int(wrong[t, s]),
            "share": float(shares[t, s]),
            "of": int(rows[t]),
        }
        for t, s in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[t, s]
    ]
    return {"pairs": pairs, "wrong": int(wrong.sum()), "classes": len(labels)}


def classes(facts: Facts) -> list[dict[str, Any]]:
    """A row for each class, weakest first: rows in train and test, precision, recall, F1 before and after."""
    if facts.after is None:
        return []
    true, said, both = _counts(facts.after, len(facts.labels))
    f1 = f1_by_class(true, said, both)
    earlier = _counts(facts.before, len(facts.labels)) if facts.before is not None else None
    f1_before = f1_by_class(*earlier) if earlier else np.full(len(true), np.nan)
    counted = (facts.manifest.get("data") or {}).get("summary", {}).get("class_counts", {}).get("train", {})
    table = [
        {
            "label": label,
            "known": label in facts.known,
            "train": counted.get(label),
            "test": int(true[i]),
            "precision": both[i] / said[i] if said[i] else float("nan"),
            "recall": both[i] / true[i] if true[i] else float("nan"),
            "before": float(f1_before[i]),
            "after": float(f1[i]),
        }
        for i, label in enumerate(facts.labels)
    ]
    return sorted(table, key=lambda row: (np.isnan(row["after"]), row["after"]))


def old_and_new(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, float, float]]:
    """Of the classes that the model knew before the run, and of the new ones: which, how many, and the mean of their
    scores `before` and `after`. Empty where all of them are one or the other."""
    kinds = {"known before": [row for row in rows if row["known"]], "new": [row for row in rows if not row["known"]]}
    if not all(kinds.values()):
        return []
    return [(kind, len(own), _mean([row["before"] for row in own]), _mean([row["after"] for row in own]))
            for kind, own in kinds.items()]  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    told = [value for value in values if value == value]
    return float(np.mean(told)) if told else float("nan")


def _counts(answers: Answers, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often each class is true, is said, and both: three arrays [classes]."""
    if answers.truth.ndim == 2:
        return answers.truth.sum(axis=0), answers.said.sum(axis=0), (answers.truth & answers.said).sum(axis=0)
    table = confusion(answers.truth, answers.said, classes)
    return table.sum(axis=1), table.sum(axis=0), table.diagonal()


def mistakes(facts: Facts) -> list[dict[str, Any]]:
    """The wrong answers of which the model was most sure, surest first."""
    answers = facts.after
    if answers is None:
        return []
    places = surest_mistakes(answers.truth, answers.said, answers.probabilities)
    return [told(answers, place, facts.labels) for place in places]


def surest_mistakes(truth: np.ndarray, said: np.ndarray, probabilities: np.ndarray) -> list[int]:
    """Places of the wrong answers of which the model was most sure, surest first; at most `MISTAKES`."""
    if truth.ndim == 2:
        wrong = np.flatnonzero((truth != said).any(axis=1))
        weight = np.abs(probabilities - truth).max(axis=1)
    else:
        wrong = np.flatnonzero(truth != said)
        weight = probabilities[np.arange(len(said)), said]
    order: list[int] = wrong[np.argsort(-weight[wrong], kind="stable")][:MISTAKES].tolist()
    return order


def told(answers: Answers, place: int, labels: list[str]) -> dict[str, Any]:
    """One answer: what was asked, the truth and what the model says with its probabilities, and where it stands."""
    row, chances = answers.rows[place], answers.probabilities[place]

    def named(values: np.ndarray) -> list[tuple[str, float]]:
        chosen = np.flatnonzero(values) if answers.truth.ndim == 2 else [int(values)]
        return [(labels[i], float(chances[i])) for i in chosen]

    return {
        "text": row.get("text", ""),
        "pair": row.get("text_pair"),
        "truth": named(answers.truth[place]),
        "said": named(answers.said[place]),
        "right": bool(answers.right[place]),
        "file": row.get("file", ""),
        "line": row.get("line", ""),
    }


def turned(facts: Facts) -> dict[str, int] | None:
    """How many answers fine-tuning put right and how many it spoilt; None unless both sides saw the same examples."""
    before, after = facts.before, facts.after
    if before is None or after is None or not np.array_equal(before.truth, after.truth):
        return None
    if any(a.get(key) != b.get(key) for a, b in zip(before.rows, after.rows, strict=True) for key in ("text", "image")):
        return None
    return {
        "fixed": int((after.right & ~before.right).sum()),
        "spoilt": int((before.right & ~after.right).sum()),
        "wrong": int((~after.right).sum()),
    }
