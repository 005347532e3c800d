"""Windows of pictures: a part is cut out, perhaps mirrored, and scaled, and its boxes go with the pixels.

A window is (x1, y1, x2, y2) in whole pixels of the picture, its far ends exclusive; sides are (height, width); boxes
are float32 [boxes, 4], xyxy. Nothing here is drawn by chance: places are given as shares of the room there is.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

Window = tuple[int, int, int, int]
Sides = tuple[int, int]
Boxed = tuple[Tensor, np.ndarray, np.ndarray]
"""Pixels uint8 [3, height, width], the boxes that are left float32 [kept, 4], and which they are int64 [kept]."""


def taken(
    picture: np.ndarray, boxes: np.ndarray, window: Window, out: Sides, *, flip: bool = False, visibility: float = 0.0
) -> Boxed:
    """A window of a picture, mirrored or not, scaled to `out`, with its boxes.

    picture: uint8 [height, width, 3]. Boxes are clipped to the window; those of which less than `visibility` of the
    area is left, or nothing at all, are dropped.
    """
    x1, y1, x2, y2 = window
    pixels = torch.from_numpy(np.array(picture[y1:y2, x1:x2], order="C")).permute(2, 0, 1)
    if sides_of(window) != out:
        pixels = functional.resize(pixels, list(out), antialias=True)
    if flip:
        pixels = pixels.flip(-1)
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    kept = left_in(window, boxes, visibility)
    moved = np.clip(boxes[kept], *_limits(window)) - np.array([x1, y1, x1, y1], np.float32)
    if flip:
        moved = np.stack([x2 - x1 - moved[:, 2], moved[:, 1], x2 - x1 - moved[:, 0], moved[:, 3]], axis=1)
    scaled = moved * np.array([out[1] / (x2 - x1), out[0] / (y2 - y1)] * 2, np.float32)
    # rounding may put an edge a hair outside
    inside = np.clip(scaled, *_limits((0, 0, out[1], out[0])))
    return (pixels.contiguous(), *solid(inside, kept))


def solid(boxes: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The boxes that still have an area: one as thin as float32's last digit loses it when it is moved."""
    good = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return boxes[good], kept[good]


def laid(
    pixels: Tensor,
    boxes: np.ndarray,
    kept: np.ndarray,
    size: Sides,
    ground: tuple[int, int, int],
    place: tuple[float, float],
) -> Boxed:
    """A picture and its boxes on a ground of `size`, no smaller than the picture. place: across and down."""
    height, width = pixels.shape[1:]
    if (height, width) == size:
        return pixels, boxes, kept
    left, top, right, bottom = _placed((0, 0, size[1], size[0]), (height, width), place)
    canvas = torch.tensor(ground, dtype=torch.uint8)[:, None, None].repeat(1, *size)
    canvas[:, top:bottom, left:right] = pixels
    return (canvas, *solid(boxes + np.array([left, top, left, top], np.float32), kept))


def left_in(window: Window, boxes: np.ndarray, visibility: float) -> np.ndarray:
    """Places of the boxes of which enough lies in a window, int64 [kept]."""
    area, left = _areas(boxes), _areas(np.clip(boxes, *_limits(window)))
    # a box that lies wholly inside is kept at visibility 1 too, however its area was rounded
    return np.flatnonzero((left > 0) & (left >= visibility * area * (1 - 1e-6)))


def fitting(sides: Sides, size: Sides, *, squash: bool = False) -> Sides:
    """Sides scaled to fit `size`, their ratio kept (`squash`: not), each at least 1."""
    if squash:
        return size
    factor = min(size[0] / sides[0], size[1] / sides[1])
    height, width = (min(most, max(1, round(side * factor))) for side, most in zip(sides, size, strict=True))
    return height, width


def shaped(sides: Sides, area: float, stretch: float, place: tuple[float, float]) -> Window:
    """A window of at least this share of the area, `stretch` times as wide as one that keeps the sides' ratio (or as
    far as the picture goes). place: across and down."""
    wide = min(1.0, max(area, area**0.5 * stretch))
    # rounded up, so that the share is kept; less a hair, so that a whole side is not made one pixel more
    inner = min(sides[0], math.ceil(sides[0] * area / wide - 1e-9)), min(sides[1], math.ceil(sides[1] * wide - 1e-9))
    return _placed((0, 0, sides[1], sides[0]), inner, place)


def zoomed(window: Window, factor: float, place: tuple[float, float]) -> Window:
    """A window inside a window, each side smaller by `factor`."""
    height, width = sides_of(window)
    return _placed(window, (max(1, round(height / factor)), max(1, round(width / factor))), place)


def covering(sides: Sides, out: Sides, place: tuple[float, float]) -> Window:
    """The largest window of a picture with the sides' ratio of `out`."""
    factor = min(sides[0] / out[0], sides[1] / out[1])
    height, width = (min(most, max(1, round(side * factor))) for side, most in zip(out, sides, strict=True))
    return _placed((0, 0, sides[1], sides[0]), (height, width), place)


def sides_of(window: Window) -> Sides:
    """Height and width of a window."""
    return window[3] - window[1], window[2] - window[0]


def _placed(outer: Window, inner: Sides, place: tuple[float, float]) -> Window:
    height, width = sides_of(outer)
    left = outer[0] + round(place[0] * (width - inner[1]))
    top = outer[1] + round(place[1] * (height - inner[0]))
    return left, top, left + inner[1], top + inner[0]


def _limits(window: Window) -> tuple[np.ndarray, np.ndarray]:
    x1, y1, x2, y2 = window
    return np.array([x1, y1, x1, y1], np.float32), np.array([x2, y2, x2, y2], np.float32)


def _areas(boxes: np.ndarray) -> np.ndarray:
    sides = np.maximum(boxes[:, 2:].astype(np.float64) - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1])
