"""What happened while the model learned: loss, score on the validation examples, learning rate."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from tunesmith.run.report_parts import words
from tunesmith.run.report_parts.charts import Line, line_chart, smooth
from tunesmith.run.report_parts.facts import Facts


def curves(facts: Facts) -> dict[str, Markup]:
    """`loss`, `score`, `rate` and `norm` (of the gradient) as SVG, each empty where its events are missing."""
    return {
        "loss": _loss(facts),
        "score": _score(facts),
        "rate": _simple(facts, "learning_rate"),
        "norm": _simple(facts, "gradient_norm", smoothed=True),
    }


def _column(rows: list[dict[str, Any]], key: str) -> np.ndarray:
    return np.array([_number(row.get(key)) for row in rows], np.float64)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _loss(facts: Facts) -> Markup:
    steps, losses = _column(facts.steps, "step"), _column(facts.steps, "loss")
    good = np.isfinite(losses)
    if not good.any():
        return Markup("")
    steps, losses = steps[good], losses[good]
    smoothed = smooth(losses)
    lines = [Line("soft", steps, losses), Line("bold", steps, smoothed)]
    for key in ("loss", "nll"):
        held = [(e.get("step"), e.get("scores", {}).get(key)) for e in facts.evaluations]
        if any(value is not None for _, value in held):
            xs, ys = (np.array([_number(v) for v in column]) for column in zip(*held, strict=True))
            lines.append(Line("second", xs, ys, dots=True))
            break
    told = f"Training loss over {len(steps):,} steps: smoothed from {smoothed[0]:.3f} to {smoothed[-1]:.3f}."
    return line_chart(lines, label=told, x_title="step", y_title="loss", from_zero=True)


def _score(facts: Facts) -> Markup:
    metric = facts.scores.get("main_score", {}).get("name") or _first_metric(facts)
    if not metric:
        return Markup("")
    steps = _column(facts.evaluations, "step")
    values = np.array([_number(e.get("scores", {}).get(metric)) for e in facts.evaluations])
    best = [i for i, e in enumerate(facts.evaluations) if e.get("best") and np.isfinite(values[i])]
    mark = None
    told = f"{words.name(metric)} on the validation examples at {len(steps)} evaluations."
    if best:
        mark = (steps[best[-1]], values[best[-1]], f"best {values[best[-1]]:.3f}")
        told += f" Best {values[best[-1]]:.3f} at step {steps[best[-1]]:.0f}."
    line = Line("bold", steps, values, dots=True)
    return line_chart([line], label=told, x_title="step", y_title=words.name(metric), mark=mark)


def _first_metric(facts: Facts) -> str:
    for event in facts.evaluations:
        for metric in event.get("scores", {}):
            return str(metric)
    return ""


def _simple(facts: Facts, key: str, *, smoothed: bool = False) -> Markup:
    """One number a step, perhaps with its running mean."""
    steps, values = _column(facts.steps, "step"), _column(facts.steps, key)
    good = np.isfinite(values)
    if not good.any():
        return Markup("")
    steps, values = steps[good], values[good]
    title = key.replace("_", " ")
    told = f"{title.capitalize()} over {len(steps):,} steps, from {values.min():.3g} to {values.max():.3g}."
    bold = Line("bold", steps, smooth(values) if smoothed else values)
    lines = [Line("soft", steps, values), bold] if smoothed else [bold]
    return line_chart(lines, label=told, x_title="step", y_title=title, from_zero=True)
