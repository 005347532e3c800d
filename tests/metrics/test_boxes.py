from __future__ import annotations

import contextlib
import io
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tunesmith.metrics.box_errors import error_kinds, overlaps
from tunesmith.metrics.boxes import (
    NONE,
    Matches,
    average_precision,
    precision_recall,
)

NAMES = ("cat", "dog", "eel")


def random_boxes(seed: int, pictures: int = 12, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Detections that often hit, sometimes twice, with tied scores; crowds; pictures without truth, without answers."""
    draw = np.random.default_rng(seed)
    truth = np.full((pictures, 7, 6), -1, np.float32)
    found = np.full((pictures, 15, 6), -1, np.float32)
    for number in range(pictures):
        there, shown = draw.integers(0, 8), draw.integers(0, 16)
        corner = draw.uniform(0, 200, (there, 2))
        truth[number, :there, :2] = corner
        truth[number, :there, 2:4] = corner + draw.uniform(4, 150, (there, 2))
        truth[number, :there, 4] = draw.integers(0, classes, there)
        truth[number, :there, 5] = draw.random(there) < 0.15
        for place in range(shown):
            score, kind = np.round(draw.random(), 1), draw.integers(0, classes)
            if there and draw.random() < 0.7:
                near = truth[number, draw.integers(0, there)]
                box, kind = near[:4] + draw.normal(0, 5, 4), near[4] if draw.random() < 0.8 else kind
                box[2:] = np.maximum(box[2:], box[:2] + 1)
            else:
                corner = draw.uniform(0, 200, 2)
                box = np.concatenate([corner, corner + draw.uniform(4, 150, 2)])
            found[number, place] = [*box, score, kind]
    return found, truth


def direct(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The twelve numbers of pycocotools, fed by way of its own `loadRes`."""
    table = COCO()
    rows = [(p, *b) for p, boxes in enumerate(truth.astype(float)) for b in boxes if b[4] >= 0]
    annotations = [
        {
            "id": n,
            "image_id": p,
            "category_id": int(kind),
            "bbox": [x, y, u - x, v - y],
            "area": (u - x) * (v - y),
            "iscrowd": int(crowd),
        }
        for n, (p, x, y, u, v, kind, crowd) in enumerate(rows, start=1)
    ]
    images = [{"id": p} for p in range(len(truth))]
    categories = [{"id": n, "name": name} for n, name in enumerate(NAMES)]
    table.dataset = {"images": images, "annotations": annotations, "categories": categories}
    answers = [
        {"image_id": p, "category_id": int(b[5]), "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]], "score": b[4]}
        for p, boxes in enumerate(found.astype(float))
        for b in boxes
        if b[4] >= 0
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        table.createIndex()
        judged = COCOeval(table, table.loadRes(answers), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    return np.asarray(judged.stats)


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    """One picture with these boxes, and one place that is padded."""
    return np.asarray([[*rows, (0, 0, 0, 0, -1, -1)]], dtype=np.float32)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_scores_equal_a_direct_run_of_pycocotools(seed: int) -> None:
    found, truth = random_boxes(seed)
    scores = average_precision(found, truth, NAMES)
    six = [scores[name] for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")]
    assert six == pytest.approx(direct(found, truth)[:6], abs=1e-12)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_counting_matches_equals_pycocotools_when_every_picture_counts_once(seed: int) -> None:
    found, truth = random_boxes(seed)
    assert Matches(found, truth, NAMES).ap() == pytest.approx(direct(found, truth)[0], abs=1e-9)


def test_a_picture_that_is_drawn_twice_counts_as_if_it_stood_there_twice() -> None:
    found, truth = random_boxes(3)
    found[:, :, 4] += np.random.default_rng(0).uniform(0, 0.01, found.shape[:2]) * (found[:, :, 4] >= 0)  # no ties
    rows = np.random.default_rng(1).integers(0, len(truth), len(truth))
    times = np.bincount(rows, minlength=len(truth))
    assert len(np.unique(rows)) < len(rows)
    again = average_precision(found[rows], truth[rows], NAMES)["ap"]
    assert Matches(found, truth, NAMES).ap(times) == pytest.approx(again, abs=1e-9)


def test_class_scores_average_to_the_whole() -> None:
    scores = average_precision(*random_boxes(5), NAMES)
    assert np.mean([scores[f"ap/{name}"] for name in NAMES]) == pytest.approx(scores["ap"], abs=1e-12)


def test_perfect_boxes_score_one_and_no_boxes_score_zero() -> None:
    truth = boxes((10, 10, 60, 60, 0, 0), (80, 10, 120, 60, 2, 0))
    perfect = boxes((10, 10, 60, 60, 0.9, 0), (80, 10, 120, 60, 0.8, 2))
    nothing = np.full((1, 1, 6), -1, np.float32)
    assert average_precision(perfect, truth, NAMES)["ap"] == pytest.approx(1.0)
    assert average_precision(nothing, truth, NAMES)["ap"] == 0.0


@pytest.mark.parametrize("most", [0, 4])
def test_where_there_is_no_truth_scores_are_minus_one_and_never_nan(most: int) -> None:
    found, _ = random_boxes(2, pictures=3)
    nothing = np.full((3, most, 6), -1, np.float32)
    for detections in (found, nothing):
        scores = average_precision(detections, nothing, NAMES)
        assert set(scores.values()) == {NONE}
        interval = Matches(detections, nothing, NAMES).interval(resamples=5)
        assert (interval.value, interval.low, interval.high) == (NONE, NONE, NONE)
        assert precision_recall(detections, nothing, NAMES) == {}


def test_a_class_without_truth_is_left_out_of_the_mean() -> None:
    truth, found = boxes((10, 10, 60, 60, 0, 0)), boxes((10, 10, 60, 60, 0.9, 0), (0, 0, 30, 30, 0.9, 1))
    scores = average_precision(found, truth, NAMES)
    assert scores["ap/dog"] == NONE
    assert scores["ap/cat"] == scores["ap"] == pytest.approx(1.0)


def test_what_lies_in_a_crowd_is_not_held_against_the_model() -> None:
    truth = boxes((0, 0, 200, 200, 0, 1), (300, 300, 350, 350, 0, 0))
    found = boxes((10, 10, 50, 50, 0.9, 0), (300, 300, 350, 350, 0.8, 0))
    assert average_precision(found, truth, NAMES)["ap"] == pytest.approx(1.0)
    assert error_kinds(found, truth, NAMES)["background"] == 0


def test_the_interval_holds_the_score_and_follows_from_the_seed() -> None:
    found, truth = random_boxes(7, pictures=40)
    first, again = (Matches(found, truth, NAMES).interval(seed=4, resamples=60) for _ in range(2))
    other = Matches(found, truth, NAMES).interval(seed=5, resamples=60)
    assert first == again
    assert first != other
    assert first.value == pytest.approx(average_precision(found, truth, NAMES)["ap"], abs=1e-9)
    assert first.low < first.value < first.high


def test_pairing_cancels_what_makes_pictures_hard() -> None:
    found, truth = random_boxes(8, pictures=40)
    same = Matches(found, truth, NAMES).interval(Matches(found, truth, NAMES), resamples=40)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    worse = found.copy()
    worse[:, ::4, 4] = -1
    gain = Matches(found, truth, NAMES).interval(Matches(worse, truth, NAMES), resamples=60)
    before, after = (average_precision(one, truth, NAMES)["ap"] for one in (worse, found))
    assert gain.value == pytest.approx(after - before, abs=1e-9)
    alone = Matches(found, truth, NAMES).interval(resamples=60)
    assert gain.high - gain.low < alone.high - alone.low


def test_two_hundred_resamples_take_far_less_time_than_matching_anew() -> None:
    found, truth = random_boxes(9, pictures=150)
    begun = time.perf_counter()
    matches = Matches(found, truth, NAMES)
    once = time.perf_counter() - begun
    begun = time.perf_counter()
    matches.interval(resamples=200)
    assert time.perf_counter() - begun < 40 * once  # matching anew would take 200 times as long


def test_curves_fall_from_left_to_right_and_average_to_ap50() -> None:
    found, truth = random_boxes(11)
    curves, scores = precision_recall(found, truth, NAMES), average_precision(found, truth, NAMES)
    assert np.mean([curve.precision.mean() for curve in curves.values()]) == pytest.approx(scores["ap50"], abs=1e-12)
    for curve in curves.values():
        assert curve.recall.shape == curve.precision.shape == curve.score.shape == (101,)
        assert (np.diff(curve.precision) <= 1e-12).all()
        assert (curve.score >= 0).all()


def test_each_kind_of_error_is_told_from_the_others() -> None:
    truth = boxes(
        (0, 0, 100, 100, 0, 0),  # found, and found again
        (200, 0, 300, 100, 0, 0),  # a poor box
        (400, 0, 500, 100, 1, 0),  # taken for a cat
        (600, 0, 700, 100, 2, 0),  # missed
    )
    found = boxes(
        (0, 0, 100, 95, 0.9, 0),
        (0, 0, 95, 100, 0.8, 0),
        (250, 0, 350, 100, 0.8, 0),
        (400, 0, 500, 100, 0.8, 0),
        (800, 800, 900, 900, 0.8, 0),
        (600, 0, 700, 100, 0.2, 2),  # right, but its score is too low to be shown
    )
    expected = {"missed": 1, "wrong_class": 1, "poor_box": 1, "background": 1, "duplicate": 1, "right": 1}
    assert error_kinds(found, truth, NAMES) == expected
    assert error_kinds(found, truth, NAMES, least_score=0.1)["missed"] == 0


def test_overlaps_are_areas_shared_over_areas_covered() -> None:
    first, second = np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]])
    assert overlaps(first, second).tolist() == [[pytest.approx(50 / 150), 0.0, 0.0]]
    assert overlaps(first, second, of_first=True)[0, 0] == pytest.approx(0.5)


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    found, truth = random_boxes(1)
    average_precision(found, truth, NAMES)
    precision_recall(found, truth, NAMES)
    assert capsys.readouterr().out == ""


def test_unequal_numbers_of_pictures_are_refused() -> None:
    found, truth = random_boxes(1)
    with pytest.raises(ValueError, match="12 pictures have detections, 11 have truth"):
        average_precision(found, truth[:-1], NAMES)


def test_no_score_is_nan_on_any_random_set() -> None:
    for seed in range(5):
        assert not any(math.isnan(value) for value in average_precision(*random_boxes(seed, 2), NAMES).values())


def test_without_truth_a_gain_is_not_known_and_is_no_total_loss() -> None:
    found, _ = random_boxes(2, pictures=3)
    one = Matches(found, np.full((3, 2, 6), -1, np.float32), NAMES)
    gain = one.interval(one, resamples=5)
    assert all(math.isnan(end) for end in (gain.value, gain.low, gain.high))
