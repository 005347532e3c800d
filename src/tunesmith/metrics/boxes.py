"""Scores of detections: COCO's average precision through pycocotools, its intervals, curves, and kinds of errors.

Detections are padded arrays float32 [pictures, most, 6] of x1, y1, x2, y2, score, class (score -1: no box here), truth
is float32 [pictures, most, 6] of x1, y1, x2, y2, class, crowd (class -1: no box here); pixels, classes by number.
A crowd is neither to be found nor held against a detection that lies in it. Where there is no truth at all, a score is
-1.0, as pycocotools has it: never NaN, and never mistaken for a score. A difference of scores may be -1.0 in earnest
and is NaN there. Areas are those of boxes (COCO's own files bring the areas of outlines, so its official small, medium
and large differ a little).
Source: Lin et al. 2014, arXiv:1405.0312; cocoapi, PythonAPI/pycocotools/cocoeval.py.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tunesmith.metrics.box_errors import error_kinds as error_kinds
from tunesmith.metrics.interval import bootstrap
from tunesmith.types import Interval

MOST = 100
"""Detections of a picture and class that count, the highest scores first (COCO's own bound)."""
NONE = -1.0
"""The score where there is no truth."""


def nothing_to_score(name: str, value: float) -> bool:
    """Whether a score of that name is the -1 by which COCO's say that no picture holds a true box."""
    return name.startswith("ap") and value < 0


class Curve(NamedTuple):
    """Precision of one class at 101 recalls from 0 to 1, and the score of the detection that reaches each; both are 0
    where the recall is not reached."""

    recall: np.ndarray
    precision: np.ndarray
    score: np.ndarray


def average_precision(detections: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """COCO's scores: `ap` (mean over IoU 0.50 to 0.95), `ap50`, `ap75`, `ap_small`, `ap_medium`, `ap_large`, and
    `ap/NAME` of each class."""
    judged = evaluated(detections, targets, labels)
    with contextlib.redirect_stdout(io.StringIO()):
        judged.accumulate()
        judged.summarize()
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    scores = {name: float(value) for name, value in zip(names, judged.stats, strict=False)}
    precision = judged.eval["precision"]  # [IoUs, recalls, classes, areas, bounds]
    for number, name in enumerate(labels):
        scores[f"ap/{name}"] = _mean(precision[:, :, number, 0, -1])
    return scores


def precision_recall(
    detections: np.ndarray, targets: np.ndarray, labels: Sequence[str], iou: float = 0.5
) -> dict[str, Curve]:
    """The curve of each class that has any truth, for boxes that count as found from this IoU on."""
    judged = evaluated(detections, targets, labels, ious=(iou,), areas=("all",))
    with contextlib.redirect_stdout(io.StringIO()):
        judged.accumulate()
    precision, scores = (judged.eval[key][0, :, :, 0, -1] for key in ("precision", "scores"))
    recall = np.asarray(judged.params.recThrs)
    return {
        name: Curve(recall, precision[:, number], np.maximum(scores[:, number], 0.0))
        for number, name in enumerate(labels)
        if precision[0, number] > -1
    }


class _Ranked(NamedTuple):
    """Detections of one class, the highest score first [detections], that may count at any IoU.

    picture: of each; found, counted: whether it is right, and whether it counts at all [IoUs, detections] (none does
    that matches a crowd). truth: boxes to be found, of each picture [pictures].
    """

    picture: np.ndarray
    found: np.ndarray
    counted: np.ndarray
    truth: np.ndarray


class Matches:
    """Which detection found what, of every picture: all that average precision needs, for any choice of pictures.

    A picture that is drawn twice counts twice; precision and recall then follow from weighted sums. That is what
    pycocotools gives for the repeated pictures, up to the order of equal scores.
    """

    def __init__(self, detections: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> None:
        self.pictures = len(targets)
        judged = evaluated(detections, targets, labels, areas=("all",))
        self.recalls = np.asarray(judged.params.recThrs)
        self._classes = [
            ranked
            for number in range(len(labels))
            if (ranked := self._ranked(judged.evalImgs[number * self.pictures : (number + 1) * self.pictures]))
        ]

    def _ranked(self, judged: Sequence[Mapping[str, Any] | None]) -> _Ranked | None:
        truth = np.zeros(self.pictures, dtype=np.int64)
        scores, picture, found, counted = [], [], [], []
        for number, one in enumerate(judged):
            if one is None:
                continue
            truth[number] = int((np.asarray(one["gtIgnore"]) == 0).sum())
            count = len(one["dtScores"])
            scores.append(np.asarray(one["dtScores"], dtype=np.float64))
            picture.append(np.full(count, number))
            found.append(np.asarray(one["dtMatches"]) > 0)
            counted.append(~np.asarray(one["dtIgnore"], dtype=bool))
        if not truth.any():
            return None
        order = np.argsort(-np.concatenate(scores), kind="mergesort")  # as cocoeval.py: equal scores keep their order
        right, counts = np.concatenate(found, axis=1)[:, order], np.concatenate(counted, axis=1)[:, order]
        return _Ranked(np.concatenate(picture)[order], right & counts, counts, truth)

    def ap(self, times: np.ndarray | None = None) -> float:
        """`ap` when each picture counts so many times [pictures]; of all pictures once where that is not given."""
        times = np.ones(self.pictures, dtype=np.int64) if times is None else times
        scores = [score for one in self._classes if (score := self._class_ap(one, times)) is not None]
        return float(np.mean(scores)) if scores else NONE

    def _class_ap(self, ranked: _Ranked, times: np.ndarray) -> float | None:
        truth = float(times @ ranked.truth)
        if not truth:
            return None
        weight = times[ranked.picture].astype(np.float64)
        everything = np.cumsum(weight) if ranked.counted.all() else None
        total = 0.0
        for found, counted in zip(ranked.found, ranked.counted, strict=True):
            places = np.flatnonzero(found & (weight > 0))  # precision matters only where something is found
            hits = np.cumsum(weight[places])
            seen = (np.cumsum(weight * counted) if everything is None else everything)[places]
            # The machine's least number is pycocotools' own guard against 0 / 0.
            precision = np.maximum.accumulate((hits / (seen + np.spacing(1)))[::-1])[::-1]
            at = np.searchsorted(hits / truth, self.recalls, side="left")
            total += float(precision[at[at < len(precision)]].sum())
        return total / (len(self.recalls) * len(ranked.found))

    def interval(self, before: Matches | None = None, *, seed: int = 0, resamples: int = 200) -> Interval:
        """Percentile bootstrap over pictures of `ap`, or of what it gains over `before`. Without truth all of it is
        -1.0 for the score, and NaN for the gain: -1.0 would be a difference."""
        if not self._classes:
            nothing = NONE if before is None else float("nan")
            return Interval(nothing, nothing, nothing)

        def statistic(rows: np.ndarray, _: np.ndarray) -> float:
            times = np.bincount(rows, minlength=self.pictures)
            value = self.ap(times)
            if value == NONE:
                return float("nan")  # not one box of truth was drawn: this resample is left out
            return value - (0.0 if before is None else before.ap(times))

        pictures = np.arange(self.pictures)
        return bootstrap(statistic, pictures, pictures, seed=seed, resamples=resamples)


def evaluated(
    detections: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    *,
    ious: Sequence[float] | None = None,
    areas: Sequence[str] = ("all", "small", "medium", "large"),
) -> Any:
    """A COCOeval that has matched detections to the truth; pictures and classes are numbered from 1, in order."""
    from pycocotools.cocoeval import COCOeval

    if len(detections) != len(targets):
        raise ValueError(f"{len(detections)} pictures have detections, {len(targets)} have truth")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _as_coco(targets, labels, scores=False)
        judged = COCOeval(truth, _as_coco(detections, labels, scores=True), "bbox")
        chosen = [judged.params.areaRngLbl.index(area) for area in areas]
        judged.params.areaRng = [judged.params.areaRng[number] for number in chosen]
        judged.params.areaRngLbl = list(areas)
        judged.params.imgIds = list(range(1, len(targets) + 1))
        judged.params.catIds = list(range(1, len(labels) + 1))
        judged.params.maxDets = [1, 10, MOST]
        if ious is not None:
            judged.params.iouThrs = np.asarray(ious)
        judged.evaluate()
    return judged


def _as_coco(boxes: np.ndarray, labels: Sequence[str], *, scores: bool) -> Any:
    """Pycocotools' table of these boxes. Ids start at 1: it takes a match with number 0 for no match."""
    from pycocotools.coco import COCO

    table = COCO()
    pictures, places = np.nonzero(boxes[:, :, 4] >= 0)
    values = boxes[pictures, places].astype(np.float64)
    sides = values[:, 2:4] - values[:, :2]
    found: list[dict[str, Any]] = []
    for number, (picture, row, side) in enumerate(zip(pictures.tolist(), values.tolist(), sides.tolist(), strict=True)):
        kind = int(row[5] if scores else row[4])
        one = {"id": number + 1, "image_id": picture + 1, "category_id": kind + 1, "bbox": [*row[:2], *side]}
        one.update({"area": side[0] * side[1], "iscrowd": 0 if scores else int(row[5])})
        found.append({**one, "score": row[4]} if scores else one)
    table.dataset = {
        "images": [{"id": number + 1} for number in range(len(boxes))],
        "annotations": found,
        "categories": [{"id": number + 1, "name": name} for number, name in enumerate(labels)],
    }
    table.createIndex()
    return table


def _mean(precision: np.ndarray) -> float:
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else NONE
