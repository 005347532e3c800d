"""Boxes go with their pixels, whatever is drawn."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tunesmith.pictures.box_augment import PRESETS, BoxAugment, boxed, wants_mosaic, whole
from tunesmith.pictures.windows import fitting, shaped, taken

SEEDS = st.integers(0, 2**63 - 1)
OPTIONS = st.builds(
    BoxAugment,
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    crop=st.floats(0.05, 1),
    scale_low=st.floats(0.25, 1),
    scale_high=st.floats(1, 4),
    colour=st.sampled_from([0.0, 0.9]),
    visibility=st.floats(0, 1),
    mosaic=st.sampled_from([0.0, 0.5, 1.0]),
)
SIDES = st.tuples(st.integers(1, 70), st.integers(1, 70))
CANVASES = st.tuples(st.integers(4, 70), st.integers(4, 70))


def painted(sides: tuple[int, int], boxes: np.ndarray) -> np.ndarray:
    """A black picture with one white rectangle a box."""
    picture = np.zeros((*sides, 3), np.uint8)
    for x1, y1, x2, y2 in boxes.astype(int):
        picture[y1:y2, x1:x2] = 255
    return picture


def found(pixels: torch.Tensor) -> np.ndarray:
    """The box around everything brighter than half."""
    rows, columns = np.nonzero(pixels[0].numpy() > 127)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32)


@st.composite
def pictures(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    height, width = draw(SIDES)
    edges = st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
    rows = np.array(draw(st.lists(edges, max_size=4)), np.float32).reshape(-1, 4)
    ends = np.sort(rows.reshape(-1, 2, 2), axis=1).reshape(-1, 4) * np.array([width, height] * 2, np.float32)
    return np.full((height, width, 3), 90, np.uint8), ends


@settings(max_examples=150, deadline=None)
@given(st.lists(pictures(), min_size=4, max_size=4), OPTIONS, SEEDS, CANVASES, st.booleans())
def test_boxes_stay_inside_have_area_and_are_named(
    four: list[tuple[np.ndarray, np.ndarray]], options: BoxAugment, seed: int, size: tuple[int, int], squash: bool
) -> None:
    mosaic = wants_mosaic(options, seed)
    others = four[1:] if mosaic else ()
    pixels, boxes, kept = boxed(*four[0], options, seed=seed, size=size, squash=squash, others=others)
    height, width = pixels.shape[1:]
    assert pixels.dtype == torch.uint8
    assert height <= size[0]
    assert width <= size[1]
    if squash or mosaic:
        assert (height, width) == size
    assert boxes.dtype == np.float32
    assert boxes.shape == (len(kept), 4)
    assert (boxes >= 0).all()
    assert (boxes <= np.array([width, height] * 2)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (np.diff(kept) > 0).all()
    assert set(kept) <= set(range(sum(len(b) for _, b in (four if mosaic else four[:1]))))


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.sampled_from(["none", "light", "standard"]), st.booleans())
def test_a_painted_rectangle_is_found_where_its_box_says(seed: int, preset: str, squash: bool) -> None:
    generator = np.random.default_rng(seed)
    x1, y1 = generator.integers(5, 60, 2)
    truth = np.array([[x1, y1, x1 + generator.integers(20, 50), y1 + generator.integers(20, 40)]], np.float32)
    options = BoxAugment.model_validate({"preset": preset, "colour": 0.0, "visibility": 0.0})
    pixels, boxes, kept = boxed(painted((110, 130), truth), truth, options, seed=seed, size=(96, 128), squash=squash)
    assert (len(boxes) == 1) == bool((pixels > 127).any())
    if len(boxes):
        # half a pixel by rounding of the painted edge, half by what counts as bright, a hair by the filter
        assert np.abs(found(pixels) - boxes[0]).max() <= 1.25
        assert kept.tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_each_box_of_a_mosaic_lies_on_its_own_pixels(seed: int) -> None:
    generator = np.random.default_rng(seed)
    four = []
    for number in range(4):
        x1, y1 = generator.integers(20, 50, 2)
        truth = np.array([[x1, y1, x1 + 30, y1 + 30]], np.float32)
        four.append((painted((100, 100), truth) // 255 * (60 * (number + 1)), truth))
    options = BoxAugment(mosaic=1, colour=0, visibility=0.0, crop=1)
    pixels, boxes, kept = boxed(*four[0], options, seed=seed, size=(128, 128), others=four[1:])
    assert pixels.shape == (3, 128, 128)
    for place, (x1, y1, x2, y2) in zip(kept, boxes, strict=True):
        if min(x2 - x1, y2 - y1) >= 3:
            middle = pixels[0, int((y1 + y2) / 2), int((x1 + x2) / 2)]
            assert abs(int(middle) - 60 * (place + 1)) <= 2


@settings(max_examples=60, deadline=None)
@given(pictures())
def test_flipping_twice_is_the_identity(one: tuple[np.ndarray, np.ndarray]) -> None:
    picture, boxes = one
    picture = np.random.default_rng(0).integers(0, 256, picture.shape, np.uint8)
    height, width = picture.shape[:2]
    window = (0, 0, width, height)
    _, plain, places = taken(picture, boxes, window, (height, width))
    pixels, once, kept = taken(picture, boxes, window, (height, width), flip=True)
    again, twice, _ = taken(pixels.permute(1, 2, 0).numpy(), once, window, (height, width), flip=True)
    assert np.array_equal(again.permute(1, 2, 0).numpy(), picture)
    # width - x in float32 rounds by up to a last digit of the width: a box as thin as that may vanish when it moves
    rounding = width * 2e-7
    assert set(kept) <= set(places)
    assert set(places[plain[:, 2] - plain[:, 0] > 2 * rounding]) <= set(kept)
    if len(twice) == len(plain):
        assert np.allclose(twice, plain, atol=rounding, rtol=0)


def test_a_box_thinner_than_the_last_digit_may_vanish_when_flipped() -> None:
    picture, boxes = np.full((1, 1, 3), 90, np.uint8), np.array([[0, 0, 1e-9, 1], [0, 0, 0.5, 1]], np.float32)
    assert taken(picture, boxes, (0, 0, 1, 1), (1, 1), flip=True)[2].tolist() == [1]


@settings(max_examples=80, deadline=None)
@given(SIDES, st.floats(0.05, 1), st.floats(0.7, 1.4), st.floats(0, 1), st.floats(0, 1))
def test_a_window_keeps_at_least_its_share(
    sides: tuple[int, int], area: float, stretch: float, across: float, down: float
) -> None:
    x1, y1, x2, y2 = shaped(sides, area, stretch, (across, down))
    assert 0 <= x1 < x2 <= sides[1]
    assert 0 <= y1 < y2 <= sides[0]
    assert (x2 - x1) * (y2 - y1) >= area * sides[0] * sides[1] * (1 - 1e-6)


def test_what_falls_below_the_visible_share_is_dropped() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    boxes = np.array([[0, 0, 40, 100], [10, 0, 60, 100], [50, 0, 100, 100], [3, 3, 3, 9]], np.float32)
    window, out = (30, 0, 100, 100), (100, 70)
    assert taken(picture, boxes, window, out, visibility=0.3)[2].tolist() == [1, 2]  # a quarter of the first is left
    assert taken(picture, boxes, window, out, visibility=0.25)[2].tolist() == [0, 1, 2]
    assert taken(picture, boxes, window, out, visibility=1.0)[2].tolist() == [2]
    assert taken(picture, boxes, window, out, visibility=0.0)[2].tolist() == [0, 1, 2]  # no area: never a box


def test_everything_follows_from_the_seed_alone() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    boxes = np.array([[10, 10, 50, 50]], np.float32)
    options = BoxAugment.model_validate("strong")
    others = [(picture, boxes)] * 3
    state = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    torch.manual_seed(1)
    first = [boxed(picture, boxes, options, seed=s, size=(64, 64), others=others) for s in range(12)]
    torch.manual_seed(2)
    np.random.seed(5)
    before = torch.get_rng_state()
    again = [boxed(picture, boxes, options, seed=s, size=(64, 64), others=others) for s in range(12)]
    assert torch.equal(torch.get_rng_state(), before)  # nor does it draw from anybody else's
    torch.set_rng_state(state[0])
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one[0], two[0])
        assert np.array_equal(one[1], two[1])
    assert len({one[0].numpy().tobytes() for one in first}) == 12


def test_a_window_that_would_lose_every_box_is_not_taken() -> None:
    picture, boxes = np.zeros((100, 100, 3), np.uint8), np.array([[0, 0, 6, 6]], np.float32)
    options = BoxAugment(crop=0.1, scale_low=1, scale_high=1, colour=0)
    kept = [len(boxed(picture, boxes, options, seed=s, size=(64, 64))[1]) for s in range(60)]
    assert kept == [1] * 60
    sizes = {tuple(boxed(picture, boxes, options, seed=s, size=(64, 64))[0].shape) for s in range(60)}
    assert len(sizes) > 1  # windows are taken where they keep it


def test_none_is_the_evaluation_view() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    boxes = np.array([[10, 10, 50, 50]], np.float32)
    drawn = boxed(picture, boxes, BoxAugment.model_validate("none"), seed=3, size=(30, 30))
    plain = whole(picture, boxes, size=(30, 30))
    assert torch.equal(drawn[0], plain[0])
    assert drawn[0].shape == (3, 22, 30)
    assert plain[1][0].tolist() == pytest.approx([3.75, 22 / 6, 18.75, 110 / 6])
    assert whole(picture, boxes, size=(30, 30), squash=True)[0].shape == (3, 30, 30)
    assert whole(picture, np.zeros((0, 4), np.float32), size=(30, 30))[1].shape == (0, 4)


def test_sides_fit_and_are_never_nothing() -> None:
    assert fitting((1, 1000), (64, 64)) == (1, 64)
    assert fitting((480, 640), (320, 320)) == (240, 320)
    assert fitting((480, 640), (320, 320), squash=True) == (320, 320)


def test_a_mosaic_without_three_others_is_refused() -> None:
    picture, boxes = np.zeros((8, 8, 3), np.uint8), np.zeros((0, 4), np.float32)
    with pytest.raises(ValueError, match="three other pictures, 0 came"):
        boxed(picture, boxes, BoxAugment(mosaic=1), seed=0, size=(8, 8))
    seeds = range(400)
    assert 140 < sum(wants_mosaic(BoxAugment(mosaic=0.5), s) for s in seeds) < 260
    assert not any(wants_mosaic(BoxAugment(), s) for s in seeds)


def test_a_bare_word_is_a_preset_and_an_unknown_one_is_refused() -> None:
    assert BoxAugment.model_validate("light") == BoxAugment()
    assert BoxAugment(flip=0) == BoxAugment(preset="light", flip=0)
    assert (BoxAugment(flip=0).crop, BoxAugment(flip=0).colour) == (1, 0)
    assert len({BoxAugment.model_validate(name) for name in PRESETS}) == len(PRESETS)
    assert BoxAugment.model_validate({"preset": "strong", "mosaic": 0}).crop == 0.3
    assert BoxAugment.model_validate({"preset": "strong", "mosaic": 0}).mosaic == 0
    assert BoxAugment.model_validate(BoxAugment.model_validate("strong").model_dump()).mosaic == 0.5
    assert BoxAugment.model_json_schema()["anyOf"][0] == {"enum": list(PRESETS)}
    with pytest.raises(ValidationError, match="'none', 'light', 'standard' or 'strong'"):
        BoxAugment.model_validate("wild")
    with pytest.raises(ValidationError):
        BoxAugment(flip=1.5)


def test_the_options_are_read_without_torch_or_numpy() -> None:
    code = "import sys, tunesmith.pictures.box_augment\nprint({'torch', 'numpy', 'torchvision'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
