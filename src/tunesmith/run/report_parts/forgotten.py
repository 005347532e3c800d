"""What was forgotten: old tasks before and after, with the method off, and the line between untouched and tuned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from tunesmith.run.report_parts import words
from tunesmith.run.report_parts.charts import Line, line_chart
from tunesmith.run.report_parts.facts import Facts


def forgotten(facts: Facts) -> dict[str, Any]:
    """`rows` of the table, `definitions` of the numbers in it, `courses` and `line` as SVG; {} where no old task was
    scored."""
    old = facts.scores.get("old_tasks") or {}
    rows = [row for name, task in old.items() for row in _rows(name, task)]
    if not rows:
        return {}
    return {
        "rows": rows,
        "off": any(row["off"] is not None for row in rows),
        "definitions": [(name, told) for name, task in old.items() if (told := _told(task))],
        "course": _course(facts),
        "line": _line(facts.scores.get("retention") or {}),
    }


def _rows(name: str, task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a score, the main one first. Forgetting above 0 means that something was lost."""
    main = task.get("main_score") or {}
    before, after, off = task.get("before") or {}, task.get("after") or {}, task.get("off") or {}
    wanted = [main.get("name"), *before] if main else list(before)
    rows = []
    for metric in dict.fromkeys(m for m in wanted if m in before and m in after):
        if str(metric).startswith(words.BY_CLASS):
            continue
        is_main = metric == main.get("name")
        lower = main.get("better") == "lower" if is_main else metric in words.LOWER_IS_BETTER
        early, late = (_known(metric, held[metric]) for held in (before, after))
        lost = late - early if lower else early - late
        told = (task.get("forgetting") or {}).get("initial_minus_last") if is_main else None
        rows.append(
            {
                "task": name,
                "examples": task.get("rows"),
                "metric": metric,
                "before": early,
                "after": late,
                "off": _known(metric, off[metric]) if metric in off else None,
                "forgetting": lost,
                "ends": None if told is None else told[1:],
            }
        )
    return rows


def _known(metric: str, value: Any) -> float:
    """A score, NaN where there was nothing to score."""
    found = words.measured(metric, value)
    return float("nan") if found is None else float(found)


def _told(task: Mapping[str, Any]) -> str:
    """What an old task's main score is; and where a choice was made on the very examples that it is of, that."""
    said = str(task.get("definition") or "")
    by = [str(one) for one in task.get("chosen_by") or ()]
    if not by:
        return said
    chose = f"{' and '.join(by)} chose this run’s state by these same examples, since the old task has no others"
    return f"{said} {chose}: on others it may have lost more.".strip()


def _course(facts: Facts) -> list[tuple[str, Markup]]:
    """Each old task's main score at the evaluations, where they were taken."""
    names = dict.fromkeys(n for e in facts.evaluations for n in e.get("scores", {}) if n.startswith("old/"))
    return [(name.removeprefix("old/"), _drawn(facts.evaluations, name)) for name in names]


def _drawn(evaluations: Sequence[Mapping[str, Any]], name: str) -> Markup:
    points = [(e["step"], e["scores"][name]) for e in evaluations if name in e.get("scores", {})]
    steps, values = (np.array(column, np.float64) for column in zip(*points, strict=True))
    told = f"{name} at {len(steps)} evaluations, last {values[-1]:.3f}."
    return line_chart([Line("bold", steps, values, dots=True)], label=told, x_title="step", y_title="score")


def _line(retention: Mapping[str, Any]) -> Markup:
    """New score and what is forgotten along the way from untouched (0) to tuned (1)."""
    curve = retention.get("curve") or []
    if len(curve) < 2:
        return Markup("")
    shares = np.array([point["share"] for point in curve], np.float64)
    new = np.array([point["new_score"] for point in curve], np.float64)
    lost = [max(point["forgetting"].values(), default=float("nan")) for point in curve]
    chosen = float(retention["share"])
    at = int(np.abs(shares - chosen).argmin())
    return line_chart(
        [Line("bold", shares, new, dots=True), Line("second", shares, np.array(lost, np.float64), dots=True)],
        label=f"New score and most forgotten from untouched to tuned; chosen {chosen:.2f}.",
        x_title="share of the way from untouched to tuned",
        y_title="score",
        mark=(shares[at], new[at], f"chosen {chosen:.2f}"),
    )
