"""The reliability picture: how often the model is right when it says how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from tunesmith.evaluate.calibration import Bin, reliability
from tunesmith.run.report_parts.charts import (
    SIDE,
    SIDE_LEFT,
    SIDE_TOP,
    square_axes,
    square_place,
    square_titles,
    svg,
)
from tunesmith.run.report_parts.facts import Answers, Facts

BARS = 56
"""Height of the counts below the square, in pixels."""


def calibration(facts: Facts) -> dict[str, Any]:
    """The picture and the expected calibration error without and with the stored temperature; empty without answers."""
    if facts.after is None:
        return {}
    temperature = facts.scores.get("temperature")
    plain = _bins(facts.after, 1.0)
    told: dict[str, Any] = {"ece": _error(plain), "temperature": None}
    tempered = None
    if isinstance(temperature, int | float) and temperature > 0:
        tempered = _bins(facts.after, float(temperature))
        told |= {"temperature": float(temperature), "ece_tempered": _error(tempered)}
    return told | {"picture": _picture(plain, tempered, told)}


def _bins(answers: Answers, temperature: float) -> tuple[Bin, ...]:
    chances = np.clip(answers.probabilities, 1e-12, 1.0)
    if answers.truth.ndim == 2:
        odds = (chances / np.clip(1.0 - chances, 1e-12, 1.0)) ** (1.0 / temperature)
        tempered = odds / (1.0 + odds)
    else:
        powers = np.exp(np.log(chances) / temperature)
        tempered = powers / powers.sum(axis=1, keepdims=True)
    return reliability(tempered, answers.truth)


def _error(bins: tuple[Bin, ...]) -> float:
    filled = [b for b in bins if b.count]
    return sum(b.count * abs(b.confidence - b.accuracy) for b in filled) / sum(b.count for b in filled)


def _picture(plain: tuple[Bin, ...], tempered: tuple[Bin, ...] | None, told: dict[str, Any]) -> Markup:
    parts = square_axes()
    x1, y1 = square_place(1.0, 1.0)
    x0, y0 = square_place(0.0, 0.0)
    parts.append(Markup('<line class="ideal" x1="{:g}" y1="{:g}" x2="{:g}" y2="{:g}"/>').format(x0, y0, x1, y1))
    parts.append(_line(plain, "second"))
    if tempered is not None:
        parts.append(_line(tempered, "bold"))
    parts += _histogram(tempered or plain)
    parts += square_titles("confidence", "share right", below=34 + BARS + 18)
    words = f"Reliability: expected calibration error {told['ece']:.3f} as trained"
    if tempered is not None:
        words += f", {told['ece_tempered']:.3f} at temperature {told['temperature']:.2f}"
    return svg(parts, SIDE_LEFT + SIDE + 14, SIDE_TOP + SIDE + 34 + BARS + 24, words + ".")


def _line(bins: tuple[Bin, ...], style: str) -> Markup:
    """Bins as dots, larger where more examples lie (area by count), those with enough to tell joined by a line."""
    filled = [b for b in bins if b.count]
    most, all_of_them = max(b.count for b in filled), sum(b.count for b in filled)
    places = [square_place(b.confidence, b.accuracy) for b in filled]
    # a bin of two answers says nothing: it keeps its small dot, but the line passes it by
    telling = [place for place, b in zip(places, filled, strict=True) if b.count >= max(5, all_of_them / 100)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in telling)
    dots = Markup("").join(
        Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title></circle>').format(
            style, x, y, 2.5 + 4.5 * (b.count / most) ** 0.5, _words(b)
        )
        for (x, y), b in zip(places, filled, strict=True)
    )
    return Markup('<polyline class="{}" points="{}"/>').format(style, points) + dots


def _words(one: Bin) -> str:
    return f"says {one.confidence:.0%}, right {one.accuracy:.0%}, {one.count:,} answers"


def _histogram(bins: tuple[Bin, ...]) -> list[Markup]:
    most = max(b.count for b in bins)
    base = SIDE_TOP + SIDE + 34 + BARS
    bar = Markup('<rect class="count" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
    bars = [
        bar.format(SIDE_LEFT + b.low * SIDE + 1, base - h, (b.high - b.low) * SIDE - 2, h, f"{b.count:,} answers")
        for b in bins
        if (h := BARS * b.count / most)
    ]
    label = '<text class="tick" text-anchor="end" x="{}" y="{}">{:,}</text>'
    bars.append(Markup(label).format(SIDE_LEFT - 8, base - BARS + 9, most))
    bars.append(Markup(label).format(SIDE_LEFT - 8, base, 0))
    bars.append(
        Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(SIDE_LEFT, SIDE_LEFT + SIDE, base, base)
    )
    return bars
