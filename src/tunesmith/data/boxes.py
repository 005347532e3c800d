"""The check of boxes: each is used as it is, clipped to its picture, or refused with a reason; and their count.

Boxes are kept in pixels of the upright picture, 0 at its left and upper edge, to a hundredth of a pixel: finer than
any label is drawn, and coarse enough that the six decimals of a YOLO file and the pixels of a COCO file say the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tunesmith.data.box_readers.base import Corners, RawBox
from tunesmith.data.encoding import wrong_bytes
from tunesmith.data.labels import among

LEAST_SIDE = 1.0
"""Pixels that a box must have on each side, after clipping; a smaller one is a slip of the mouse."""
_DECIMALS = 2


@dataclass(slots=True)
class BoxCount:
    """What became of one table's boxes. clipped: those of the used ones that were cut at the picture's edge.

    with_picture: sound or not, they went with a picture that cannot be used. crowd: of the used ones.
    """

    read: int = 0
    used: int = 0
    clipped: int = 0
    quarantined: int = 0
    with_picture: int = 0
    crowd: int = 0

    def check(self) -> None:
        """The law of boxes."""
        assert self.read == self.used + self.quarantined + self.with_picture, f"boxes were lost: {self}"


class Box(NamedTuple):
    """A sound box in pixels."""

    x1: float
    y1: float
    x2: float
    y2: float
    name: str
    crowd: bool


class Settled(NamedTuple):
    """The boxes of one picture. clipped and refused: the box as read, and why."""

    boxes: list[Box]
    clipped: list[tuple[RawBox, str]]
    refused: list[tuple[RawBox, str]]


def settle(boxes: Iterable[RawBox], width: int, height: int, allowed: Sequence[str] | None) -> Settled:
    """Check every box against its picture of `width` x `height` pixels. allowed: the only class names, if given."""
    done = Settled([], [], [])
    seen: dict[Box, str] = {}
    for raw in boxes:
        corners, reason = _corners(raw, width, height, allowed)
        if corners is None or raw.name is None:
            done.refused.append((raw, reason))
            continue
        cut = _cut(corners, width, height)
        if reason := _too_small(corners, cut, width, height):
            done.refused.append((raw, reason))
            continue
        box = Box(*cut, raw.name, raw.crowd)
        if box in seen:
            done.refused.append((raw, f"it repeats {seen[box]}: same class, same corners"))
            continue
        seen[box] = raw.id
        done.boxes.append(box)
        if cut != corners:
            done.clipped.append((raw, f"clipped from {_shown(corners)} to the picture's {width} x {height} pixels"))
    return done


def as_json(boxes: Sequence[Box]) -> str:
    """`[[x1, y1, x2, y2, "class", crowd 0 or 1], ...]`, the text that examples carry."""
    return json.dumps([[*box[:5], int(box.crowd)] for box in boxes], ensure_ascii=False)


def wrong_size(size: tuple[float, float] | None, width: int, height: int) -> str:
    """Why boxes drawn on a picture of `size` do not fit this one; "" where they do or no size is known."""
    if size is None or (round(size[0]), round(size[1])) == (width, height):
        return ""
    return (
        f"the annotations say that the picture is {size[0]:g} x {size[1]:g} pixels, but upright (turned as its EXIF "
        f"data say) it is {width} x {height}: its boxes would lie elsewhere"
    )


def _corners(raw: RawBox, width: int, height: int, allowed: Sequence[str] | None) -> tuple[Corners | None, str]:
    """Corners in pixels, rounded, not yet clipped; else why there are none."""
    if raw.reason or raw.corners is None or raw.name is None:
        return None, raw.reason or "it has no corners or no class"
    if wrong_bytes(raw.name):
        return None, f"its class {raw.name!r} holds what is no character"
    if allowed is not None and not among(raw.name, allowed):
        return None, f'its class "{raw.name}" is not among data.labels'
    x1, y1, x2, y2 = raw.corners
    if raw.relative:
        x1, y1, x2, y2 = x1 * width, y1 * height, x2 * width, y2 * height
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        return None, "its corners are not finite"
    if x1 > x2 or y1 > y2:
        return None, f"its corners are swapped: {_shown((x1, y1, x2, y2))}"
    x1, y1, x2, y2 = (round(value, _DECIMALS) for value in (x1, y1, x2, y2))
    return (x1, y1, x2, y2), ""


def _cut(corners: Corners, width: int, height: int) -> Corners:
    x1, y1, x2, y2 = corners
    x1, x2 = (min(max(value, 0.0), float(width)) for value in (x1, x2))
    y1, y2 = (min(max(value, 0.0), float(height)) for value in (y1, y2))
    return x1, y1, x2, y2


def _too_small(corners: Corners, cut: Corners, width: int, height: int) -> str:
    if corners[0] == corners[2] or corners[1] == corners[3]:
        return f"it has no area: {_shown(corners)}"
    if cut[0] == cut[2] or cut[1] == cut[3]:
        return f"it lies wholly outside the picture of {width} x {height} pixels: {_shown(corners)}"
    if cut[2] - cut[0] < LEAST_SIDE or cut[3] - cut[1] < LEAST_SIDE:
        return f"less than {LEAST_SIDE:g} pixel of it lies in the picture: {_shown(corners)}"
    return ""


def _shown(corners: Corners) -> str:
    return f"({', '.join(f'{value:g}' for value in corners)})"
