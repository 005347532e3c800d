"""Line charts as inline SVG: axes with round ticks, direct labels, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from tunesmith.run.report_parts.words import shown

WIDTH, HEIGHT = 460, 250
TOP, RIGHT, BOTTOM = 14, 16, 42
POINTS = 240
"""Most points that a drawn line keeps: two for every three pixels."""
SIDE, SIDE_LEFT, SIDE_TOP = 300, 62, 10
"""Of a square over two shares: its side and the room left of and above it, in pixels."""


@dataclass(frozen=True, slots=True)
class Line:
    """One series: its style class (`soft`, `bold`, `second`), points, and whether each point gets a dot."""

    style: str
    xs: np.ndarray
    ys: np.ndarray
    dots: bool = False


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers (1, 2, 2.5, 5 times a power of ten) from at or below `low` to at or above `high`."""
    width = high - low
    if not (math.isfinite(width) and width > 0):
        pad = 0.1 * abs(low)  # one value alone stands in the middle
        low, high = (low - pad, low + pad) if pad > 0 else (low, low + 1.0)
        width = high - low
    power = 10.0 ** math.floor(math.log10(width / most))
    step = next(power * s for s in (1, 2, 2.5, 5, 10, 20) if width / (power * s) <= most - 1)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def thin(xs: np.ndarray, ys: np.ndarray, points: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most about `points` of the points, keeping the lowest and highest of every stretch, and both ends."""
    if len(xs) <= points:
        return xs, ys
    kept = {0, len(xs) - 1}
    for piece in np.array_split(np.arange(len(xs)), points // 2):
        kept |= {int(piece[ys[piece].argmin()]), int(piece[ys[piece].argmax()])}
    rows = np.array(sorted(kept))
    return xs[rows], ys[rows]


def smooth(ys: np.ndarray, share: float = 0.05) -> np.ndarray:
    """Running mean over `share` of all points, centred; the window shrinks evenly at the start, where a loss is steep,
    and loses its right half at the end, where it is flat.
    """
    half = max(1, round(len(ys) * share / 2))
    sums = np.concatenate([[0.0], np.cumsum(ys)])
    places = np.arange(len(ys))
    before = np.minimum(half, places)
    after = np.minimum(before, len(ys) - 1 - places)
    return np.asarray((sums[places + after + 1] - sums[places - before]) / (before + after + 1))


def line_chart(
    lines: Sequence[Line],
    *,
    label: str,
    x_title: str,
    y_title: str,
    mark: tuple[float, float, str] | None = None,
    from_zero: bool = False,
) -> Markup:
    """An SVG of these lines; points that are not finite are left out. `mark` is a ringed point with its words.

    `label` says in words what the picture shows, for those who cannot see it.
    """
    lines = [_finite(line) for line in lines]
    lines = [line for line in lines if len(line.xs)]
    if not lines:
        return Markup("")
    xs, ys = np.concatenate([line.xs for line in lines]), np.concatenate([line.ys for line in lines])
    y_ticks = ticks(0.0 if from_zero and ys.min() >= 0 else float(ys.min()), float(ys.max()))
    x_ticks = [t for t in ticks(float(xs.min()), float(xs.max())) if xs.min() <= t <= xs.max()]
    digits = [number(t, y_ticks) for t in y_ticks]
    left = 34 + 8 * max(map(len, digits))
    width, height = WIDTH - left - RIGHT, HEIGHT - TOP - BOTTOM
    x_low, x_width = float(xs.min()), float(np.ptp(xs)) or 1.0

    def x(value: np.ndarray | float) -> np.ndarray:
        return np.round(left + (np.asarray(value) - x_low) / x_width * width, 1)

    def y(value: np.ndarray | float) -> np.ndarray:
        return np.round(TOP + (y_ticks[-1] - np.asarray(value)) / (y_ticks[-1] - y_ticks[0]) * height, 1)

    parts = [
        Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(left, WIDTH - RIGHT, y(t), y(t))
        for t in y_ticks
    ]
    parts += [_text(left - 8, float(y(t)) + 4, d, "end") for t, d in zip(y_ticks, digits, strict=True)]
    parts += [_text(float(x(t)), HEIGHT - BOTTOM + 18, number(t, x_ticks), "middle") for t in x_ticks]
    parts.append(_text(left + width / 2, HEIGHT - 6, x_title, "middle", "title"))
    parts.append(
        Markup('<text class="title" text-anchor="middle" transform="translate(12 {}) rotate(-90)">{}</text>').format(
            TOP + height / 2, escape(shown(y_title))
        )
    )
    parts += [_drawn(line, x, y) for line in lines]
    if mark is not None and math.isfinite(mark[1]):
        parts.append(_mark(float(x(mark[0])), float(y(mark[1])), mark[2], left))
    return svg(parts, WIDTH, HEIGHT, label)


def svg(parts: Sequence[Markup], width: float, height: float, label: str) -> Markup:
    """The picture around its parts, with the words that a screen reader says instead."""
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, escape(shown(label)), Markup("").join(parts)
    )


def square_place(across: float, up: float) -> tuple[float, float]:
    """Where two shares, 0 to 1, lie in the square."""
    return SIDE_LEFT + across * SIDE, SIDE_TOP + (1 - up) * SIDE


def square_axes() -> list[Markup]:
    """Grid lines across the square and its ticks on both sides, in quarters."""
    return [_squarenumber(share) for share in (0, 0.25, 0.5, 0.75, 1.0)]


def square_titles(across: str, up: str, *, below: float = 34) -> list[Markup]:
    """What the square shows on its two sides. below: pixels from its foot to the words."""
    return [
        Markup('<text class="title" text-anchor="middle" x="{:g}" y="{:g}">{}</text>').format(
            SIDE_LEFT + SIDE / 2, SIDE_TOP + SIDE + below, across
        ),
        Markup('<text class="title" text-anchor="middle" transform="translate(12 {:g}) rotate(-90)">{}</text>').format(
            SIDE_TOP + SIDE / 2, up
        ),
    ]


def _squarenumber(share: float) -> Markup:
    x, y = square_place(share, share)
    return Markup(
        '<line class="grid" x1="{l}" x2="{r}" y1="{y:g}" y2="{y:g}"/>'
        '<text class="tick" text-anchor="end" x="{tx}" y="{ty:g}">{share:.0%}</text>'
        '<text class="tick" text-anchor="middle" x="{x:g}" y="{by}">{share:.0%}</text>'
    ).format(
        l=SIDE_LEFT, r=SIDE_LEFT + SIDE, y=y, tx=SIDE_LEFT - 8, ty=y + 4, x=x, by=SIDE_TOP + SIDE + 18, share=share
    )


def _finite(line: Line) -> Line:
    good = np.isfinite(line.xs) & np.isfinite(line.ys)
    return Line(line.style, line.xs[good], line.ys[good], line.dots and int(good.sum()) <= 60)


def _drawn(line: Line, x: object, y: object) -> Markup:
    assert callable(x)
    assert callable(y)
    xs, ys = thin(line.xs, line.ys)
    points = " ".join(f"{a:g},{b:g}" for a, b in zip(x(xs), y(ys), strict=True))
    drawn = Markup('<polyline class="{}" points="{}"/>').format(line.style, points)
    if line.dots or len(xs) == 1:
        dot = Markup('<circle class="{}" cx="{:g}" cy="{:g}" r="3"/>')
        drawn += Markup("").join(dot.format(line.style, a, b) for a, b in zip(x(xs), y(ys), strict=True))
    return drawn


def _mark(x: float, y: float, words: str, left: float) -> Markup:
    """A ring, with its words on the side where there is room."""
    at_right = x > (left + WIDTH) / 2
    below = y < TOP + 24
    return Markup('<circle class="ring" cx="{:g}" cy="{:g}" r="6"/>').format(x, y) + _text(
        x - 10 if at_right else x + 10, y + 22 if below else y - 10, words, "end" if at_right else "start", "mark"
    )


def _text(x: float, y: float, words: str, anchor: str, style: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{:g}" y="{:g}" text-anchor="{}">{}</text>').format(
        style, x, y, anchor, escape(shown(words))
    )


def number(value: float, among: Sequence[float]) -> str:
    """A tick's number with as many places as its neighbours need; powers of ten for very small ones."""
    largest = max(abs(t) for t in among)
    if 0 < largest < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-") if value else "0"
    step = abs(among[1] - among[0]) if len(among) > 1 else 1.0
    places = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 0
    if step and round(step * 10**places, 6) % 1:
        places += 1  # steps of 2.5 and 0.25 need one place more than their power of ten
    return f"{value:,.{places}f}".replace("-", "−")
