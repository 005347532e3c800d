"""What a detector finds: precision against recall, AP of each class, kinds of errors, pictures with their boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from tunesmith.pictures.draw import COLOURS, LEAST_SCORE
from tunesmith.run.report_parts import words
from tunesmith.run.report_parts.answers import old_and_new
from tunesmith.run.report_parts.charts import (
    SIDE,
    SIDE_LEFT,
    SIDE_TOP,
    square_axes,
    square_place,
    square_titles,
    svg,
    thin,
)
from tunesmith.run.report_parts.facts import Facts
from tunesmith.run.report_parts.pictures import seen, spread

CURVES = len(COLOURS)
"""Most classes whose curve is drawn: as many as there are colours. Of more, the weakest."""
SAMPLES = 8

KINDS = {
    "missed": "true boxes that nothing comes near",
    "wrong class": "well placed, called something else",
    "poor box": "the right class, but too little overlap",
    "background": "answers where nothing is",
    "duplicate": "a second answer for the same object",
}


def detection(facts: Facts) -> dict[str, Any]:
    """`curves`, `classes`, `errors` and `samples` of a finished run on boxes; empty for any other task."""
    if facts.task != "object_detection" or not facts.finished:
        return {}
    by_class = classes(facts)
    return {
        "curves": curves(facts),
        "classes": by_class,
        "old_and_new": old_and_new(by_class),
        "errors": errors(facts),
        "right": _counts(facts).get("right"),
        "samples": samples(facts),
        "least_score": LEAST_SCORE,
    }


def classes(facts: Facts) -> list[dict[str, Any]]:
    """A row a class, weakest first: boxes in train and test, AP before and after (NaN where it has no test box)."""
    counted = (facts.manifest.get("data") or {}).get("summary", {}).get("class_counts", {}).get("train", {})
    tested = Counter(name for row in facts.boxes for name, crowd in _named(row.get("boxes")) if not crowd)
    before, after = facts.scores.get("before") or {}, facts.scores.get("after") or {}
    table = [
        {
            "label": label,
            "known": label in facts.known,
            "train": counted.get(label),
            "test": tested.get(label, 0) if facts.boxes else None,
            "before": _share(before.get(f"ap/{label}")),
            "after": _share(after.get(f"ap/{label}")),
        }
        for label in facts.labels
    ]
    return sorted(table, key=lambda row: (np.isnan(row["after"]), row["after"]))


def errors(facts: Facts) -> list[tuple[str, str, int, float]]:
    """Kinds of errors as (kind, what it means, count, share of the most frequent kind)."""
    counts = [(kind, n) for kind, n in _counts(facts).items() if kind != "right"]
    most = max([1, *(n for _, n in counts)])
    return [(kind, KINDS.get(kind, ""), n, n / most) for kind, n in counts]


def _counts(facts: Facts) -> dict[str, int]:
    """How many answers are of each kind, right ones among them where that was counted."""
    found = facts.detection.get("errors")
    pairs = found.items() if isinstance(found, Mapping) else ()
    return {str(kind).replace("_", " "): int(n) for kind, n in pairs if words.measured("ap", n) is not None}


def samples(facts: Facts) -> list[dict[str, Any]]:
    """Pictures with their boxes, spread evenly over those that were drawn, and how many boxes each side has."""
    kept = [row for row in facts.boxes if row.get("thumbnail")]
    return [
        seen(facts, row)
        | {
            "true": sum(not crowd for _, crowd in _named(row.get("boxes"))),
            "said": sum(score >= LEAST_SCORE for _, score in _named(row.get("predicted"))),
            "file": row.get("file", ""),
        }
        for row in (kept[place] for place in spread(range(len(kept)), SAMPLES))
    ]


def curves(facts: Facts) -> dict[str, Any]:
    """`picture`, its `legend` of (class, colour, AP), and how many classes there are `of`; empty without curves."""
    found = facts.detection.get("curves")
    if not isinstance(found, Mapping):
        return {}
    lines = [(name, line) for name in map(str, found) if (line := _line(found[name])) is not None]
    if not lines:
        return {}
    after, labels = facts.scores.get("after") or {}, facts.labels
    score = {name: _share(after.get(f"ap/{name}")) for name, _ in lines}
    if len(lines) > CURVES:
        lines = sorted(lines, key=lambda one: (np.isnan(score[one[0]]), score[one[0]]))[:CURVES]
        colours = {name: place for place, (name, _) in enumerate(lines)}
    else:
        colours = {name: labels.index(name) if name in labels else place for place, (name, _) in enumerate(lines)}
    legend = [(name, "#{:02x}{:02x}{:02x}".format(*COLOURS[colours[name] % CURVES]), score[name]) for name, _ in lines]
    parts = square_axes()
    parts += [_drawn(line, colour, name) for (name, line), (_, colour, _) in zip(lines, legend, strict=True)]
    parts += square_titles("recall: share of the true boxes found", "precision: share of the answers right")
    told = "Precision against recall: " + ", ".join(f"{words.shown(n, 40)} AP {words.score(s)}" for n, _, s in legend)
    return {
        "picture": svg(parts, SIDE_LEFT + SIDE + 14, SIDE_TOP + SIDE + 40, told + "."),
        "legend": legend,
        "of": len(found),
    }


def _line(curve: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Recall and precision as arrays, without points that are no shares; None where nothing is left."""
    if not isinstance(curve, Mapping):
        return None
    columns = [list(c) for key in ("recall", "precision") if isinstance(c := curve.get(key), list)]
    if len(columns) != 2 or len(columns[0]) != len(columns[1]):
        return None
    recall, precision = (np.array([_share(v) for v in column], np.float64) for column in columns)
    good = np.isfinite(recall) & np.isfinite(precision)
    return (recall[good], precision[good]) if good.any() else None


def _drawn(line: tuple[np.ndarray, np.ndarray], colour: str, name: str) -> Markup:
    xs, ys = thin(*line)
    points = " ".join("{:.1f},{:.1f}".format(*square_place(x, y)) for x, y in zip(xs, ys, strict=True))
    return Markup('<polyline stroke="{}" stroke-width="2.5" points="{}"><title>{}</title></polyline>').format(
        colour, points, words.shown(name, 80)
    )


def _share(value: Any) -> float:
    """A number of 0 to 1; NaN for anything else (-1 is how COCO's scores say that there was nothing to score)."""
    good = isinstance(value, int | float) and 0 <= value <= 1
    return float(value) if good else float("nan")


def _named(boxes: Any) -> list[tuple[str, float]]:
    """Class and last number (crowd or score) of boxes [x1, y1, x2, y2, class, number]; others are left out."""
    rows = boxes if isinstance(boxes, list) else []
    return [
        (str(b[4]), float(b[5])) for b in rows if isinstance(b, list) and len(b) == 6 and isinstance(b[5], int | float)
    ]
