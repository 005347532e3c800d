from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.box_readers.base import Corners, RawBox, four_numbers
from tunesmith.data.boxes import LEAST_SIDE, Settled, as_json, settle, wrong_size


def settled(
    *corners: Corners, relative: bool = False, name: str = "cat", allowed: tuple[str, ...] | None = None
) -> Settled:
    boxes = [RawBox(f"annotation {n}", name, one, relative=relative) for n, one in enumerate(corners, start=1)]
    return settle(boxes, 120, 90, allowed)


def test_a_sound_box_is_used_as_it_is() -> None:
    done = settled((10, 10, 50, 40))
    assert [tuple(box) for box in done.boxes] == [(10, 10, 50, 40, "cat", False)]
    assert not done.clipped
    assert not done.refused


def test_a_box_that_reaches_outside_is_clipped_and_said_so() -> None:
    done = settled((100, 70, 160, 130), (-20, -20, 20, 20))
    assert [box[:4] for box in done.boxes] == [(100, 70, 120, 90), (0, 0, 20, 20)]
    assert [raw.id for raw, _ in done.clipped] == ["annotation 1", "annotation 2"]
    assert "(100, 70, 160, 130)" in done.clipped[0][1]


@pytest.mark.parametrize(
    ("corners", "reason"),
    [
        ((200, 200, 210, 210), "wholly outside"),
        ((-30, 10, 0, 20), "wholly outside"),
        ((10, 10, 10, 20), "no area"),
        ((60, 50, 10, 10), "swapped"),
        ((10, 50, 60, 10), "swapped"),
        ((3, 3, 3.2, 3.2), "less than 1 pixel"),
        ((119.5, 10, 140, 20), "less than 1 pixel"),
        ((math.nan, 1, 5, 5), "not finite"),
        ((1, 1, math.inf, 5), "not finite"),
    ],
)
def test_what_is_no_box_is_refused_with_the_reason(corners: Corners, reason: str) -> None:
    done = settled(corners)
    assert not done.boxes
    assert reason in done.refused[0][1]


def test_the_same_box_twice_is_used_once() -> None:
    done = settled((10, 10, 50, 40), (10, 10, 50, 40.001))
    assert len(done.boxes) == 1
    assert done.refused[0][1].startswith("it repeats annotation 1")


def test_a_class_that_the_recipe_does_not_list_is_refused() -> None:
    assert "not among data.labels" in settled((1, 1, 9, 9), allowed=("dog", "eel")).refused[0][1]


def test_a_class_name_that_is_no_text_is_refused() -> None:
    assert "no character" in settled((1, 1, 9, 9), name="\ud800").refused[0][1]


@given(st.integers(0, 118), st.integers(0, 88), st.integers(1, 60), st.integers(1, 60))
def test_six_decimals_of_a_share_give_the_pixels_that_were_drawn(x: int, y: int, width: int, height: int) -> None:
    u, v = min(x + width, 120), min(y + height, 90)
    middle, sides = ((x + u) / 2 / 120, (y + v) / 2 / 90), ((u - x) / 120, (v - y) / 90)
    cx, cy, w, h = (round(value, 6) for value in (*middle, *sides))
    done = settled((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), relative=True)
    assert done.boxes[0][:4] == (x, y, u, v)
    assert not done.clipped


@given(st.lists(st.tuples(*[st.floats(-300, 300)] * 4), max_size=6))
def test_every_box_is_used_or_refused_and_used_ones_lie_in_the_picture(corners: list[Corners]) -> None:
    done = settled(*corners)
    assert len(done.boxes) + len(done.refused) == len(corners)
    for x1, y1, x2, y2, *_ in done.boxes:
        assert 0 <= x1 <= x2 - LEAST_SIDE
        assert x2 <= 120
        assert 0 <= y1 <= y2 - LEAST_SIDE
        assert y2 <= 90


def test_boxes_are_written_as_lists_of_corners_class_and_crowd() -> None:
    done = settle([RawBox("a", "猫", (1, 2, 30, 40), crowd=True)], 120, 90, None)
    assert json.loads(as_json(done.boxes)) == [[1, 2, 30, 40, "猫", 1]]


@pytest.mark.parametrize("given_size", [None, (120, 90), (120.0, 90.0)])
def test_a_size_that_fits_or_is_not_known_is_no_fault(given_size: tuple[float, float] | None) -> None:
    assert wrong_size(given_size, 120, 90) == ""


def test_a_size_with_sides_swapped_is_a_fault() -> None:
    assert "90 x 120" in wrong_size((90, 120), 120, 90)


@pytest.mark.parametrize(
    "values", [None, "1 2 3 4", [1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, True], [1, 2, 3, math.nan], [1, 2, 3, 10**400]]
)
def test_four_numbers_are_four_finite_numbers(values: object) -> None:
    assert four_numbers(values)[0] is None
    assert four_numbers(values)[1]
