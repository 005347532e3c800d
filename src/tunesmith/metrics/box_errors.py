"""Why detections are wrong, in five kinds: after TIDE (Bolya et al. 2020, arXiv:2008.08115), simplified.

Only detections that a person would be shown count: those with at least `least_score`. They are matched to the truth as
COCO does, the highest score first, at IoU 0.5. Each that found nothing is the first of these that fits:

- poor box: 0.1 <= IoU < 0.5 with a box of its own class;
- wrong class: IoU >= 0.5 with a box of another class;
- duplicate: IoU >= 0.5 with a box of its class that a higher score has found already;
- background: IoU < 0.1 with every box;
- else, a poor box of another class, which TIDE calls both: counted as wrong class.

Missed are the boxes of truth that were not found and that no poor box and no wrong class explains. Unlike TIDE, this
counts errors and does not say how much average precision each costs. Detections that lie in a crowd by half or more of
their own area are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

KINDS = ("missed", "wrong_class", "poor_box", "background", "duplicate")


def error_kinds(
    detections: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    *,
    least_score: float = 0.5,
    iou: float = 0.5,
    background: float = 0.1,
) -> dict[str, int]:
    """How often each kind of error happened, and how many detections are `right`; arrays as in `metrics/boxes.py`."""
    counts = dict.fromkeys((*KINDS, "right"), 0)
    for found, truth in zip(detections, targets, strict=True):
        shown = found[(found[:, 4] >= 0) & (found[:, 4] >= least_score)].astype(np.float64)
        shown = shown[np.argsort(-shown[:, 4], kind="stable")]
        there = truth[truth[:, 4] >= 0].astype(np.float64)
        crowds, there = there[there[:, 5] > 0], there[there[:, 5] == 0]
        _count(shown, there, crowds, iou, background, counts)
    return counts


def _count(
    shown: np.ndarray, there: np.ndarray, crowds: np.ndarray, iou: float, background: float, counts: dict[str, int]
) -> None:
    """The errors of one picture, added to `counts`."""
    overlap = overlaps(shown[:, :4], there[:, :4])  # [detections, truth]
    own = shown[:, None, 5] == there[None, :, 4]
    in_crowd = overlaps(shown[:, :4], crowds[:, :4], of_first=True) >= iou
    in_crowd &= shown[:, None, 5] == crowds[None, :, 4]
    found_by, explained = np.full(len(there), -1), np.zeros(len(there), dtype=bool)
    left = []
    for number in range(len(shown)):
        fits = np.where(own[number] & (found_by < 0), overlap[number], -1.0)
        if fits.size and fits.max() >= iou:
            found_by[int(fits.argmax())] = number
            counts["right"] += 1
        elif not in_crowd[number].any():
            left.append(number)
    for number in left:
        same, other = (np.where(mask, overlap[number], 0.0) for mask in (own[number], ~own[number]))
        best_same, best_other = same.max(initial=0.0), other.max(initial=0.0)
        if background <= best_same < iou:
            counts["poor_box"] += 1
            explained[int(same.argmax())] = True
        elif best_other >= iou:
            counts["wrong_class"] += 1
            explained[int(other.argmax())] = True
        elif best_same >= iou:
            counts["duplicate"] += 1
        elif best_other < background:
            counts["background"] += 1
        else:
            counts["wrong_class"] += 1
            explained[int(other.argmax())] = True
    counts["missed"] += int(((found_by < 0) & ~explained).sum())


def overlaps(first: np.ndarray, second: np.ndarray, *, of_first: bool = False) -> np.ndarray:
    """Intersection over union of boxes x1, y1, x2, y2 [n, 4] and [m, 4] as [n, m]; `of_first`: over the first's area,
    as COCO measures against a crowd. 0 where there is no area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=2)
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0.0, None).prod(axis=1) for boxes in (first, second)]
    whole = np.broadcast_to(areas[0][:, None], shared.shape)
    if not of_first:
        whole = whole + areas[1][None, :] - shared
    ratio: np.ndarray = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    return ratio
