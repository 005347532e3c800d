"""The reliability picture: how often the model is right when it says how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from tunesmith.evaluate.calibration import Bin, reliability
from tunesmith.run.report_parts.charts import svg
from tunesmith.run.report_parts.facts import Answers, Facts

SIZE, LEFT, TOP, BARS = 300, 62, 10, 56
"""Pixels: side of the square, its margins, height of the counts below it."""


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
    parts = [_axis(share) for share in (0, 0.25, 0.5, 0.75, 1.0)]
    x1, y1 = _place(1.0, 1.0)
    x0, y0 = _place(0.0, 0.0)
    parts.append(Markup('<line class="ideal" x1="{:g}" y1="{:g}" x2="{:g}" y2="{:g}"/>').format(x0, y0, x1, y1))
    parts.append(_line(plain, "second"))
    if tempered is not None:
        parts.append(_line(tempered, "bold"))
    parts += _histogram(tempered or plain)
    base = TOP + SIZE
    parts.append(
        Markup('<text class="title" text-anchor="middle" x="{:g}" y="{:g}">confidence</text>').format(
            LEFT + SIZE / 2, base + 34 + BARS + 18
        )
    )
    parts.append(
        Markup('<text class="title" text-anchor="middle" transform="translate(12 {:g}) rotate(-90)">{}</text>').format(
            TOP + SIZE / 2, "share right"
        )
    )
    words = f"Reliability: expected calibration error {told['ece']:.3f} as trained"
    if tempered is not None:
        words += f", {told['ece_tempered']:.3f} at temperature {told['temperature']:.2f}"
    return svg(parts, LEFT + SIZE + 14, base + 34 + BARS + 24, words + ".")


def _place(confidence: float, right: float) -> tuple[float, float]:
    return LEFT + confidence * SIZE, TOP + (1 - right) * SIZE


def _axis(share: float) -> Markup:
    x, y = _place(share, share)
    return Markup(
        '<line class="grid" x1="{l}" x2="{r}" y1="{y:g}" y2="{y:g}"/>'
        '<text class="tick" text-anchor="end" x="{tx}" y="{ty:g}">{share:.0%}</text>'
        '<text class="tick" text-anchor="middle" x="{x:g}" y="{by}">{share:.0%}</text>'
    ).format(l=LEFT, r=LEFT + SIZE, y=y, tx=LEFT - 8, ty=y + 4, x=x, by=TOP + SIZE + 18, share=share)


def _line(bins: tuple[Bin, ...], style: str) -> Markup:
    """Bins as dots, larger where more examples lie (area by count), those with enough to tell joined by a line."""
    filled = [b for b in bins if b.count]
    most, all_of_them = max(b.count for b in filled), sum(b.count for b in filled)
    places = [_place(b.confidence, b.accuracy) for b in filled]
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
    base = TOP + SIZE + 34 + BARS
    bar = Markup('<rect class="count" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>')
    bars = [
        bar.format(LEFT + b.low * SIZE + 1, base - h, (b.high - b.low) * SIZE - 2, h, f"{b.count:,} answers")
        for b in bins
        if (h := BARS * b.count / most)
    ]
    label = '<text class="tick" text-anchor="end" x="{}" y="{}">{:,}</text>'
    bars.append(Markup(label).format(LEFT - 8, base - BARS + 9, most))
    bars.append(Markup(label).format(LEFT - 8, base, 0))
    bars.append(Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, LEFT + SIZE, base, base))
    return bars
