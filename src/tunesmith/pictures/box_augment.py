"""Pictures for training a detector, varied together with their boxes.

Every draw follows from the seed alone. Whatever is drawn, a picture goes one way: a window of it is cut out, perhaps
mirrored, and scaled to fit; its boxes are shifted, clipped and scaled with it. A box of which less than the visibility
share is left is dropped, never the picture. A mosaic does this to four pictures and lays them around a point
(Bochkovskiy et al. 2020, arXiv:2004.10934).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator

from tunesmith.plugin import Options

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from tunesmith.pictures.windows import Boxed, Sides, Window

Share = Annotated[float, Field(ge=0, le=1)]
TRIES = 8
"""Windows drawn before a picture stays whole because each would have lost every box."""
WINDOWED = 0.5
"""Chance of a window; the others stay whole, for a detector must also know whole pictures."""
STRETCH = 4 / 3
"""Most that the ratio of a window's sides differs from the picture's."""

GROUND = (124, 116, 104)
"""Colour around a picture that is made smaller than the one size a detector takes: the mean of ImageNet."""

_STILL = {"crop": 1.0, "scale_low": 1.0, "scale_high": 1.0, "colour": 0.0, "mosaic": 0.0}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "none": {**_STILL, "flip": 0.0},
    "light": _STILL,
    "standard": {},
    "strong": {"crop": 0.3, "scale_low": 0.5, "scale_high": 1.5, "colour": 0.4, "mosaic": 0.5},
}
"""What each preset sets; the rest is as the fields' own values, which are those of `standard`."""


class BoxAugment(Options):
    """How training pictures and their boxes are varied. A bare word is a preset."""

    preset: Literal["none", "light", "standard", "strong"] = Field(
        "light", description="a set of values for the rest; what is given beside it goes before it"
    )
    flip: Share = Field(0.5, description="share of pictures mirrored left to right")
    crop: float = Field(
        0.6, ge=0.05, le=1, description="least area of a random window, as a share; half of the pictures stay whole"
    )
    scale_low: float = Field(0.8, ge=0.25, le=1, description="least size, as a factor of the size that fits")
    scale_high: float = Field(
        1.25, ge=1, le=4, description="greatest size; what no longer fits is cut off at a random place"
    )
    colour: float = Field(0.2, ge=0, lt=1, description="most change of brightness, contrast and saturation, as a share")
    visibility: Share = Field(0.3, description="least share of a box that must be left; boxes with less are dropped")
    mosaic: Share = Field(0.0, description="share of pictures laid together with three others")

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        given = {"preset": given} if isinstance(given, str) else given
        return {**PRESETS.get(str(given.get("preset", "light")), {}), **given} if isinstance(given, Mapping) else given

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A preset's bare word, or the fields."""
        schema = handler.resolve_ref_schema(handler(core))
        words = schema["properties"]["preset"]["enum"]
        return {"title": "BoxAugment", "description": schema.pop("description", ""), "anyOf": [{"enum": words}, schema]}


@dataclass(frozen=True, slots=True)
class _Draws:
    """All chances of one example, always drawn in the same order, so that one option changes no other's draws."""

    mosaic: float
    flip: float
    whole: float
    scale: float
    rooms: list[list[float]]
    """[TRIES, 4]: of each window area, ratio of the sides, place across, place down."""
    colour: list[float]
    """Brightness, contrast, saturation."""


def _draws(seed: int, number: int = 0) -> _Draws:
    import numpy as np

    generator = np.random.default_rng([seed, number])
    mosaic, flip, whole, scale = generator.random(4).tolist()
    return _Draws(mosaic, flip, whole, scale, generator.random((TRIES, 4)).tolist(), generator.random(3).tolist())


def wants_mosaic(options: BoxAugment, seed: int) -> bool:
    """Whether this seed draws a mosaic, so that three more pictures are read only when they are needed."""
    return _draws(seed).mosaic < options.mosaic


def boxed(
    stored: np.ndarray,
    boxes: np.ndarray,
    options: BoxAugment,
    *,
    seed: int,
    size: Sides,
    squash: bool = False,
    others: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> Boxed:
    """A varied picture and its boxes: uint8 tensor [3, height, width], float32 [kept, 4], int64 [kept].

    stored: uint8 [height, width, 3]. boxes: float32 [boxes, 4], xyxy in its pixels. size: the most height and width of
    the outcome, which keeps the ratio of the sides and may be smaller. squash: the outcome has this very size, the
    ratio of the sides is not kept, and a smaller picture lies on a ground. A mosaic fills `size`, which is 4 or more.
    others: three more pictures with their boxes, needed where `wants_mosaic`; ValueError where they are missing.
    kept: which boxes are left, as places among the picture's own boxes followed by those of the others.
    """
    draws = _draws(seed)
    if draws.mosaic < options.mosaic:
        if len(others) != 3:
            raise ValueError(f"a mosaic needs three other pictures, {len(others)} came")
        pixels, left, kept = _mosaic([(stored, boxes), *others], options, seed, size)
    else:
        pixels, left, kept = _single(stored, boxes, options, draws, size, squash)
    return _coloured(pixels, options.colour, draws.colour), left, kept


def whole(stored: np.ndarray, boxes: np.ndarray, *, size: Sides, squash: bool = False) -> Boxed:
    """The evaluation view: the whole picture, scaled to fit `size`, and its boxes. Nothing is drawn."""
    from tunesmith.pictures import windows

    height, width = stored.shape[:2]
    out = windows.fitting((height, width), size, squash=squash)
    return windows.taken(stored, boxes, (0, 0, width, height), out)


def _single(
    stored: np.ndarray, boxes: np.ndarray, options: BoxAugment, draws: _Draws, size: Sides, squash: bool
) -> Boxed:
    from tunesmith.pictures import windows

    window = _window(stored, boxes, options, draws)
    # as likely below 1 as above, each side evenly
    lower, upper = min(1.0, 2 * draws.scale), max(0.0, 2 * draws.scale - 1)
    smaller = options.scale_low + lower * (1 - options.scale_low)
    window = windows.zoomed(window, 1 + upper * (options.scale_high - 1), (draws.rooms[0][2], draws.rooms[0][3]))
    height, width = windows.fitting(windows.sides_of(window), size, squash=squash)
    out = max(1, round(height * smaller)), max(1, round(width * smaller))
    flip = draws.flip < options.flip
    found = windows.taken(stored, boxes, window, out, flip=flip, visibility=options.visibility)
    return windows.laid(*found, size, GROUND, (draws.rooms[1][2], draws.rooms[1][3])) if squash else found


def _window(stored: np.ndarray, boxes: np.ndarray, options: BoxAugment, draws: _Draws) -> Window:
    """The whole picture, or a window that keeps a box if there was one."""
    from tunesmith.pictures import windows

    height, width = stored.shape[:2]
    if options.crop < 1 and draws.whole < WINDOWED:
        for area, ratio, across, down in draws.rooms:
            share, stretch = options.crop + area * (1 - options.crop), STRETCH ** (ratio - 0.5)
            window = windows.shaped((height, width), share, stretch, (across, down))
            if not len(boxes) or len(windows.left_in(window, boxes, options.visibility)):
                return window
    return 0, 0, width, height


def _mosaic(four: Sequence[tuple[np.ndarray, np.ndarray]], options: BoxAugment, seed: int, size: Sides) -> Boxed:
    """Four pictures around a point in the middle part of the canvas; each fills its quarter."""
    import numpy as np
    import torch

    from tunesmith.pictures import windows

    draws = _draws(seed)
    down, across = (round(side * (0.35 + 0.3 * draw)) for side, draw in zip(size, draws.rooms[0], strict=False))
    canvas = torch.empty((3, *size), dtype=torch.uint8)
    found, places, start = [], [], 0
    for number, (picture, boxes) in enumerate(four):
        own = _draws(seed, number + 1)
        top, bottom = ((0, down), (down, size[0]))[number // 2]
        left, right = ((0, across), (across, size[1]))[number % 2]
        out = bottom - top, right - left
        window = windows.covering(picture.shape[:2], out, (own.rooms[0][2], own.rooms[0][3]))
        window = windows.zoomed(window, 1 + own.scale * (options.scale_high - 1), (own.rooms[1][2], own.rooms[1][3]))
        pixels, moved, kept = windows.taken(
            picture, boxes, window, out, flip=own.flip < options.flip, visibility=options.visibility
        )
        canvas[:, top:bottom, left:right] = pixels
        found.append(moved + np.array([left, top, left, top], np.float32))
        places.append(kept + start)
        start += len(boxes)
    return (canvas, *windows.solid(np.concatenate(found), np.concatenate(places)))


def _coloured(pixels: Tensor, strength: float, draws: Sequence[float]) -> Tensor:
    """Brightness, contrast and saturation changed by at most `strength`."""
    if not strength:
        return pixels
    from tunesmith.pictures.colour import recoloured

    bright, contrast, vivid = (1 + strength * (2 * draw - 1) for draw in draws)
    return recoloured(pixels, bright, contrast, vivid)
