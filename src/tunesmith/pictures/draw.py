"""Boxes with their names drawn into pictures, and small pictures for pages.

The truth is a dashed green box, an answer a whole one in the colour of its class. Lines and letters grow with the
picture, so that they can be read on a thumbnail as on a photograph. A name is written in the first font on this
machine that has all of its letters; where none has, the number of the class stands for it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

Colour = tuple[int, int, int]
Box = Sequence[float]
Place = tuple[float, float, float, float]

TRUTH: Colour = (24, 160, 72)
"""Of the truth; no class has a colour near it."""
COLOURS: tuple[Colour, ...] = (
    *((47, 127, 214), (217, 115, 13), (155, 89, 208), (214, 51, 108)),
    *((14, 150, 170), (176, 137, 0), (150, 97, 61), (100, 116, 139)),
)
"""Of the classes in their order, then over again; each can be told from a white and from a dark page."""

FONTS = (
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "NotoSansSC-Regular.otf", "SourceHanSansSC-Regular.otf"),
    *("wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "NotoSerifCJK-Regular.ttc"),
    *("NotoSerifCJK-Bold.ttc", "msyh.ttc", "simhei.ttf", "simsun.ttc", "malgun.ttf", "PingFang.ttc"),
    *("STHeiti Light.ttc", "Hiragino Sans GB.ttc", "Arial Unicode.ttf", "DejaVuSans.ttf", "NotoSans-Regular.ttf"),
)
"""Files in which names are looked for, after Pillow's own font, in the folders where the system keeps its fonts."""

LEAST_SCORE = 0.5
"""Answers with a lower score are not drawn beside the truth: a detector gives a hundred for every picture."""
LONGEST_NAME = 24
"""Most letters of a name that are written."""


def drawn(
    picture: np.ndarray,
    boxes: Sequence[Box] | np.ndarray,
    names: Sequence[str],
    scores: Sequence[float] | None = None,
    *,
    labels: Sequence[str] = (),
    truth: bool = False,
) -> np.ndarray:
    """A copy of a picture, uint8 [height, width, 3], with its boxes [boxes, 4] (xyxy, pixels) and their names.

    Where boxes crowd, a name that would cover a surer answer's name is left out; its colour still tells the class.

    labels: all classes in their order, which gives a name its colour and its number (the order of first use where a
    name is not among them). truth: dashed and green, whatever the class.
    """
    from PIL import Image, ImageDraw

    image = Image.fromarray(np.ascontiguousarray(picture))
    pen = ImageDraw.Draw(image)
    order = {name: place for place, name in enumerate(dict.fromkeys([*labels, *names]))}
    given = [None] * len(names) if scores is None else list(scores)
    shown = sorted(zip(boxes, names, given, strict=True), key=lambda one: one[2] or 0.0)  # the surest lies on top
    for box, name, _ in shown:
        colour = TRUTH if truth else COLOURS[order[name] % len(COLOURS)]
        _outline(pen, _inside(box, image.size), colour, _line_width(image.size), dashed=truth)
    taken: list[Place] = []
    for box, name, score in reversed(shown):
        colour = TRUTH if truth else COLOURS[order[name] % len(COLOURS)]
        _caption(pen, _inside(box, image.size), written(name, order[name], _letters(image.size)), score, colour, taken)
    return np.asarray(image)


def compared(
    picture: np.ndarray,
    truth: Sequence[tuple[Box, str]],
    answers: Sequence[tuple[Box, str, float]],
    *,
    labels: Sequence[str] = (),
    side: int = 320,
    least_score: float = LEAST_SCORE,
) -> np.ndarray:
    """The picture twice, side by side, each at most `side` long: with the truth, and with the answers.

    truth: (box, class) each. answers: (box, class, score) each; those below `least_score` are left out. Boxes are in
    the given picture's pixels. It is made small before it is drawn on, so that names stay readable.
    """
    answers = [one for one in answers if one[2] >= least_score]
    small = _shrunk(picture, side)
    factor = np.array([small.shape[1] / picture.shape[1], small.shape[0] / picture.shape[0]] * 2)

    def scaled(boxes: Sequence[Box]) -> np.ndarray:
        corners: np.ndarray = np.asarray(boxes, np.float64).reshape(-1, 4) * factor
        return corners

    left = drawn(small, scaled([b for b, _ in truth]), [n for _, n in truth], labels=labels, truth=True)
    right = drawn(
        small, scaled([b for b, _, _ in answers]), [n for _, n, _ in answers], [s for *_, s in answers], labels=labels
    )
    gap = np.full((small.shape[0], max(2, side // 80), 3), 255, np.uint8)
    together: np.ndarray = np.concatenate([left, gap, right], axis=1)
    return together


def thumbnail(picture: np.ndarray, side: int = 160) -> bytes:
    """A JPEG of a picture, uint8 [height, width, 3], its longer side at most `side`; never made larger.

    It holds no metadata: no place, no date, no name of a camera.
    """
    from PIL import Image

    kept = io.BytesIO()
    Image.fromarray(_shrunk(picture, side)).save(kept, format="JPEG", quality=85, optimize=True)
    return kept.getvalue()


def _shrunk(picture: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    height, width = picture.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return np.ascontiguousarray(picture)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size, Image.Resampling.LANCZOS))


def _inside(box: Box, size: tuple[int, int]) -> Place:
    """The box within the picture, its ends in order (Pillow refuses others)."""
    x1, x2 = sorted(min(max(float(x), 0.0), size[0] - 1.0) for x in (box[0], box[2]))
    y1, y2 = sorted(min(max(float(y), 0.0), size[1] - 1.0) for y in (box[1], box[3]))
    return x1, y1, x2, y2


def _line_width(size: tuple[int, int]) -> int:
    return max(1, round(max(size) / 250))


def _outline(pen: ImageDraw.ImageDraw, box: Place, colour: Colour, width: int, *, dashed: bool) -> None:
    if not dashed:
        pen.rectangle(box, outline=colour, width=width)
        return
    x1, y1, x2, y2 = box
    for start, end in _dashes(x1, x2, 4 * width):
        pen.line([(start, y1), (end, y1)], fill=colour, width=width)
        pen.line([(start, y2), (end, y2)], fill=colour, width=width)
    for start, end in _dashes(y1, y2, 4 * width):
        pen.line([(x1, start), (x1, end)], fill=colour, width=width)
        pen.line([(x2, start), (x2, end)], fill=colour, width=width)


def _dashes(start: float, end: float, length: int) -> Iterator[tuple[float, float]]:
    """Dashes of a length with gaps of the same, the first and last at the corners."""
    pieces = 2 * max(0, round((end - start) / (2 * length))) + 1
    step = (end - start) / pieces
    for number in range(0, pieces, 2):
        yield start + number * step, start + (number + 1) * step


def _caption(
    pen: ImageDraw.ImageDraw,
    box: Place,
    name: tuple[str, Font],
    score: float | None,
    colour: Colour,
    taken: list[Place],
) -> None:
    """The name on a ground of its colour: above the box, or inside it where there is no room above."""
    width, height = pen.im.size
    text, font = name
    if score is not None:
        text += f" {score:.2f}"
    x1, y1, x2, y2 = pen.textbbox((0, 0), text, font=font)
    wide, high = x2 - x1 + 4, y2 - y1 + 4
    left = min(max(box[0], 0), max(0, width - wide))
    for top in (box[1] - high, min(box[1], max(0, height - high))):
        ground = (left, top, left + wide - 1, top + high - 1)
        if top >= 0 and not any(_meet(ground, other) for other in taken):
            break
    else:
        return
    taken.append(ground)
    pen.rectangle(ground, fill=colour)
    pen.text((left + 2 - x1, top + 2 - y1), text, fill=(255, 255, 255), font=font)


def _meet(one: Place, other: Place) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _letters(size: tuple[int, int]) -> int:
    return max(12, round(max(size) / 34))


def written(name: str, number: int, size: int) -> tuple[str, Font]:
    """A name as it can be written on this machine, and the font for it; `#NUMBER` where no font has its letters."""
    text = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    text = text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1].rstrip() + "…"
    for file in ("", *FONTS):
        font = _font(file, size)
        if font is not None and text and all(_has(file, letter) for letter in set(text) - {" "}):
            return text, font
    own = _font("", size)
    assert own is not None
    return f"#{number}", own


@lru_cache(maxsize=256)
def _font(file: str, size: int) -> Font | None:
    """A font of the system by its file's name, Pillow's own for an empty name; None where it is not there."""
    from PIL import ImageFont

    if not file:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(file, size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _has(file: str, letter: str) -> bool:
    """Whether a font draws this letter as something else than what it draws for one that exists nowhere."""
    font = _font(file, 16)
    if font is None:
        return False
    try:
        drawn_as, missing = (bytes(font.getmask(c)) for c in (letter, "\U0010fffe"))
    except (UnicodeEncodeError, OSError):  # Pillow built without FreeType: Latin letters alone
        return False
    return drawn_as != missing and any(drawn_as)
