"""Boxes and names on pictures: what is drawn, where, and that nothing a name holds can break it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tunesmith.pictures import draw
from tunesmith.pictures.draw import COLOURS, TRUTH, compared, drawn, thumbnail, written

GREY = np.full((120, 160, 3), 128, np.uint8)


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where a picture has exactly this colour."""
    return np.asarray((picture == np.array(colour)).all(axis=2))


def test_a_box_is_drawn_on_its_edges_in_the_colour_of_its_class() -> None:
    picture = drawn(GREY, [[20, 40, 100, 90]], ["WBC"], [0.9], labels=("RBC", "WBC"))
    found = has(picture, COLOURS[1])
    assert found[89:91, 20:100].any(axis=0).all()  # the lower edge, whole
    assert found[41:89, 20].all()
    assert not found[45:85, 30:95].any()
    assert not has(picture, COLOURS[0]).any()
    assert (GREY == 128).all()


def test_the_truth_is_dashed_and_green() -> None:
    found = has(drawn(GREY, [[20, 40, 100, 90]], ["WBC"], truth=True), TRUTH)
    edge = found[90, 20:101]
    assert edge.any()
    assert not edge.all()
    assert edge[0]
    assert edge[-1]


def test_names_are_written_and_a_crowd_keeps_the_surest() -> None:
    plain = drawn(GREY, [[20, 40, 100, 90]], [""])
    named = drawn(GREY, [[20, 40, 100, 90]], ["WBC"])
    assert (plain != named).any()
    sure, unsure = ([20, 40, 100, 90], "sure", 0.9), ([22, 41, 102, 91], "unsure", 0.5)
    both = drawn(GREY, [sure[0], unsure[0]], ["a", "b"], [0.9, 0.5], labels=("a", "b"))
    turned = drawn(GREY, [unsure[0], sure[0]], ["b", "a"], [0.5, 0.9], labels=("a", "b"))
    assert np.array_equal(both, turned)  # the order of the boxes decides nothing


def test_truth_and_answers_stand_side_by_side() -> None:
    big = np.full((480, 640, 3), 128, np.uint8)
    answers = [([100.0, 100.0, 400.0, 400.0], "a", 0.8), ([500.0, 20.0, 600.0, 90.0], "b", 0.3)]
    picture = compared(big, [([100, 100, 400, 400], "a")], answers, labels=("a", "b"), side=320)
    assert picture.shape == (240, 320 + 4 + 320, 3)
    left, right = picture[:, :320], picture[:, 324:]
    assert has(left, TRUTH).any()
    assert not has(right, TRUTH).any()
    assert has(right, COLOURS[0])[60:190, 50].all()  # scaled with the picture
    assert not has(right, COLOURS[1]).any()  # too unsure to be drawn


def test_a_thumbnail_is_a_small_jpeg_without_metadata() -> None:
    data = thumbnail(np.zeros((400, 1000, 3), np.uint8))
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (160, 64), "RGB")
        assert not image.getexif()
    assert data == thumbnail(np.zeros((400, 1000, 3), np.uint8))
    with Image.open(io.BytesIO(thumbnail(np.zeros((9, 1, 3), np.uint8)))) as image:
        assert image.size == (1, 9)  # never enlarged
    with Image.open(io.BytesIO(thumbnail(np.zeros((4000, 2, 3), np.uint8)))) as image:
        assert image.size == (1, 160)  # never nothing


@pytest.mark.parametrize(
    "name",
    ["红细胞", "Эритроцит", "كرية", "赤血球", "\U0001fa78", "\U0010fffd", "a\nb\x00", "", " ", "x" * 500, "\ud800"],
)
def test_no_name_breaks_the_drawing(name: str) -> None:
    text, font = written(name, 7, 14)
    assert text == "#7" or len(text) <= draw.LONGEST_NAME
    assert font.getbbox(text)[2] > 0
    assert has(drawn(GREY, [[20, 40, 100, 90]], [name], [0.5], labels=("a", name)), COLOURS[1]).any()


def test_without_any_other_font_chinese_names_become_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "FONTS", ())
    assert written("红细胞", 3, 14)[0] == "#3"
    assert written("RBC", 3, 14)[0] == "RBC"


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.lists(st.tuples(*[st.floats(-1e4, 1e4)] * 4), max_size=4),
    st.booleans(),
)
def test_boxes_of_any_kind_are_drawn_within_the_picture(
    sides: tuple[int, int], boxes: list[tuple[float, ...]], truth: bool
) -> None:
    picture = np.zeros((*sides, 3), np.uint8)
    found = drawn(picture, boxes, ["a"] * len(boxes), truth=truth)
    assert found.shape == picture.shape
    assert bool(found.any()) == bool(boxes)
