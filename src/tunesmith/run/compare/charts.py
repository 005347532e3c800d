"""The pictures of a comparison as inline SVG: rows as dots with their intervals over two measures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from tunesmith.run.compare.verdict import SHARES, Row
from tunesmith.run.report_parts import words
from tunesmith.run.report_parts.charts import number, svg, ticks
from tunesmith.run.report_parts.words import brief, shown
from tunesmith.types import Interval

WIDTH, HEIGHT = 480, 330
LEFT, RIGHT, TOP, BOTTOM = 58, 18, 16, 46
LETTER = 6.6
"""Pixels that a letter of a label takes, on average."""
MOST_LABELS = 14
PICTURES = 3
"""Old tasks that get a picture; the table has them all."""


@dataclass(frozen=True, slots=True)
class Dot:
    """A row in a picture: where it stands, the ends of its intervals (NaN: none), whether it is on the front."""

    name: str
    x: float
    y: float
    x_ends: tuple[float, float]
    y_ends: tuple[float, float]
    front: bool


def axis_of(rows: Sequence[Row]) -> tuple[float, float] | None:
    """The ends of all rows' intervals, which the fine lines of the table share."""
    ends = [end for row in rows if row.score is not None for end in (row.score.value, row.score.low, row.score.high)]
    known = [end for end in ends if not math.isnan(end)]
    return (min(known), max(known)) if known and min(known) < max(known) else None


def reach(row: Row, axis: tuple[float, float] | None) -> Markup:
    """The interval of a row as a fine line with a dot, on the axis of the table."""
    if axis is None or row.score is None or math.isnan(row.score.value):
        return Markup("")
    low, high = (row.score.value if math.isnan(end) else end for end in (row.score.low, row.score.high))
    left, at, right = (
        f"{100 * (value - axis[0]) / (axis[1] - axis[0]):.2f}%" for value in (low, row.score.value, high)
    )
    style = " front" if row.on_front else ""
    return Markup(
        '<svg role="img" aria-label="{}"><rect class="track" y="6" width="100%" height="6" rx="3"/>'
        '<line class="reach{}" x1="{}" x2="{}" y1="9" y2="9" style="stroke-width:2.5"/>'
        '<circle class="dot{}" cx="{}" cy="9" r="5"/></svg>'
    ).format(f"{row.name}: {words.score(row.score.value)}", style, left, right, style, at)


def pictures(rows: Sequence[Row], olds: Sequence[Mapping[str, str]]) -> list[tuple[str, Markup]]:
    """The new score against forgetting of each old task, and against time."""
    if len(rows) < 2:
        return []
    metric = words.name(str(rows[0].runs[0].scores["main_score"]["name"]))
    share = rows[0].runs[0].scores["main_score"]["name"] in SHARES
    drawn = []
    for old in olds[:PICTURES]:
        some = [row for row in rows if old["name"] in row.forgetting]
        if not some:
            continue
        scale = 100.0 if old["unit"] == "points" else 1.0
        dots = [_place(row, _scaled(row.forgetting[old["name"]], scale)) for row in some]
        title = f"New score and forgetting of {words.brief(old['name'], 40)}"
        label = f"{metric} against forgetting of {old['name']} of {len(dots)} rows; the numbers are in the table."
        x_title = f"forgetting, {old['unit']}"
        drawn.append((title, scatter(dots, label=label, x_title=x_title, y_title=metric, share=share)))
    timed = [row for row in rows if "seconds" in row.cost]
    if len(timed) > 1:
        unit, length = next(((u, s) for u, s in (("hours", 3600), ("minutes", 60), ("seconds", 1))
                             if max(row.cost["seconds"] for row in timed) >= 3 * s), ("seconds", 1))  # fmt: skip
        dots = [_place(row, Interval(row.cost["seconds"] / length, math.nan, math.nan)) for row in timed]
        label = f"{metric} against time of {len(dots)} rows; the numbers are in the table."
        drawn.append(("New score and time", scatter(dots, label=label, x_title=f"training time, {unit}",
                                                    y_title=metric, from_zero=True, share=share)))  # fmt: skip
    return drawn


def _place(row: Row, across: Interval) -> Dot:
    assert row.score is not None
    ends = (across.low, across.high), (row.score.low, row.score.high)
    return Dot(row.name, across.value, row.score.value, *ends, row.on_front)


def _scaled(interval: Interval, scale: float) -> Interval:
    return Interval(interval.value * scale, interval.low * scale, interval.high * scale, interval.share)


def scatter(
    dots: Sequence[Dot], *, label: str, x_title: str, y_title: str, from_zero: bool = False, share: bool = False
) -> Markup:
    """Dots with their intervals as fine crosses; those on the front are drawn last and filled. Every dot is named
    where there is room, those on the front first. share: the score upwards is never above 1."""
    x_ticks = _ticks([v for d in dots for v in (d.x, *d.x_ends)], 0.0 if from_zero else None)
    y_ticks = _ticks([v for d in dots for v in (d.y, *d.y_ends)], None, 1.0 if share else None)
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(value: float) -> float:
        return round(LEFT + (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * width, 1)

    def y(value: float) -> float:
        return round(TOP + (y_ticks[-1] - value) / (y_ticks[-1] - y_ticks[0]) * height, 1)

    parts = [_axes(x_ticks, y_ticks, x, y), _titles(x_title, y_title)]
    ordered = sorted(dots, key=lambda dot: dot.front)
    for dot in ordered:
        parts.append(_cross(dot, x, y))
    taken = [box for dot in dots for box in _boxes(dot, x, y)]
    named = 0
    for dot in reversed(ordered):
        parts.append(_dot(dot, x(dot.x), y(dot.y)))
        place = _room(brief(dot.name, 26), x(dot.x), y(dot.y), taken) if named < MOST_LABELS else None
        if place is not None:
            named += 1
            style = "mark" if dot.front else "tick"
            parts.append(_text(place[0], place[1], brief(dot.name, 26), place[2], style))
    return svg(parts, WIDTH, HEIGHT, label)


def _ticks(values: Sequence[float], low: float | None, high: float | None = None) -> list[float]:
    """Round numbers around these values with a little room. low, high: ends that are never passed."""
    known = [value for value in values if math.isfinite(value)]
    least, most = min(known), max(known)
    pad = 0.04 * ((most - least) or abs(least) or 1.0)
    first = least - pad if low is None else min(low, least)
    last = most + pad if high is None else min(high, most + pad)
    return ticks(first, last) if first < last else ticks(first - pad, first)


def _axes(x_ticks: Sequence[float], y_ticks: Sequence[float], x: object, y: object) -> Markup:
    assert callable(x)
    assert callable(y)
    line = Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>')
    parts = [line.format(LEFT, WIDTH - RIGHT, y(t), y(t)) for t in y_ticks]
    parts += [line.format(x(t), x(t), TOP, HEIGHT - BOTTOM) for t in x_ticks]
    parts += [_text(LEFT - 8, y(t) + 4, number(t, y_ticks), "end") for t in y_ticks]
    parts += [_text(x(t), HEIGHT - BOTTOM + 18, number(t, x_ticks), "middle") for t in x_ticks]
    return Markup("").join(parts)


def _titles(x_title: str, y_title: str) -> Markup:
    turned = Markup('<text class="title" text-anchor="middle" transform="translate(12 {}) rotate(-90)">{}</text>')
    middle = TOP + (HEIGHT - TOP - BOTTOM) / 2
    across = _text(LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 6, x_title, "middle", "title")
    return across + turned.format(middle, escape(shown(y_title)))


def _boxes(dot: Dot, x: object, y: object) -> list[tuple[float, float, float, float]]:
    """Where names must not stand: left, top, right, bottom of the dot and of its two lines."""
    assert callable(x)
    assert callable(y)
    at, up = x(dot.x), y(dot.y)
    found = [(at - 7, up - 7, at + 7, up + 7)]
    if all(map(math.isfinite, dot.x_ends)):
        found.append((x(dot.x_ends[0]), up - 1, x(dot.x_ends[1]), up + 1))
    if all(map(math.isfinite, dot.y_ends)):
        found.append((at - 1, y(dot.y_ends[1]), at + 1, y(dot.y_ends[0])))
    return found


def _cross(dot: Dot, x: object, y: object) -> Markup:
    """The two intervals as fine lines through the dot."""
    assert callable(x)
    assert callable(y)
    drawn = Markup("")
    style = "reach front" if dot.front else "reach"
    line = Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>')
    if all(map(math.isfinite, dot.x_ends)):
        drawn += line.format(style, x(dot.x_ends[0]), x(dot.x_ends[1]), y(dot.y), y(dot.y))
    if all(map(math.isfinite, dot.y_ends)):
        drawn += line.format(style, x(dot.x), x(dot.x), y(dot.y_ends[0]), y(dot.y_ends[1]))
    return drawn


def _dot(dot: Dot, x: float, y: float) -> Markup:
    circle = Markup('<circle class="{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>')
    style, radius = ("dot front", 6) if dot.front else ("dot", 5)
    return circle.format(style, x, y, radius, escape(shown(dot.name)))


def _room(
    name: str, x: float, y: float, taken: list[tuple[float, float, float, float]]
) -> tuple[float, float, str] | None:
    """Where a name beside a dot touches nothing that stands already: right, left, above, below, and farther off."""
    wide = LETTER * len(name)
    ways = [(x + 10, y + dy, "start") for dy in (4, -9, 16)] + [(x - 10, y + dy, "end") for dy in (4, -9, 16)]
    ways += [(x, y + dy, "middle") for dy in (-13, 22, -26, 35)]
    ways += [(x + side, y + dy, anchor) for dy in (-22, 29, -35, 42) for side, anchor in ((10, "start"), (-10, "end"))]
    for at, foot, anchor in ways:
        left = at - {"start": 0.0, "end": wide, "middle": wide / 2}[anchor]
        box = (left, foot - 11, left + wide, foot + 3)
        if box[0] < LEFT or box[2] > WIDTH - 2 or box[1] < 2 or box[3] > HEIGHT - BOTTOM + 2:
            continue
        if not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
            taken.append(box)
            return round(at, 1), round(foot, 1), anchor
    return None


def _text(x: float, y: float, told: str, anchor: str, style: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        style, round(x, 1), round(y, 1), anchor, escape(shown(told))
    )
