"""What was foretold before the first step, and what it was in the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunesmith.run.report_parts import words
from tunesmith.run.report_parts.facts import Facts

_STAGES = {
    "before": "scoring the untouched model",
    "training": "training",
    "evaluations": "evaluations",
    "checkpoints": "writing checkpoints",
    "ending": "scoring and writing up",
}


def forecast(facts: Facts) -> dict[str, Any]:
    """`rows` of time and memory in words, and `stages` of the time; empty where nothing was foretold.

    Each row: `name`, `foretold` with its `band`, `actual`, `off` (how far the actual lies from the forecast, in per
    cent of the actual) and `inside` (whether in the band). `made` and `meant`: steps; fewer were made where the run
    stopped early.
    """
    cost = facts.scores.get("cost") or {}
    told = cost.get("forecast") or {}
    rows = [
        row
        for name, key, actual, say in (
            ("Time", "seconds", cost.get("whole_seconds"), words.seconds),
            ("Peak memory", "peak_mib", cost.get("peak_mib"), words.mebibytes),
        )
        if (row := _row(name, told.get(key), actual, say)) is not None
    ]
    if not rows:
        return {}
    foretold, stages = told.get("seconds_of") or {}, cost.get("stages") or {}
    parts = [
        {"name": name, "foretold": words.seconds(foretold.get(key)), "actual": words.seconds(stages.get(key))}
        for key, name in _STAGES.items()
        if key in foretold and key in stages
    ]
    made = max((int(step.get("step") or 0) for step in facts.steps), default=0)
    return {"rows": rows, "stages": parts, "made": made, "meant": int(told.get("steps") or made)}


def _row(name: str, told: Any, actual: Any, say: Callable[[Any], str]) -> dict[str, Any] | None:
    if not (isinstance(told, list) and len(told) == 3 and isinstance(actual, int | float) and actual > 0):
        return None
    value, low, high = (float(each) for each in told)
    off = (value - actual) / actual
    return {
        "name": name,
        "foretold": say(value),
        "band": f"{say(low)} to {say(high)}",
        "actual": say(actual),
        "off": f"{'+' if off >= 0 else '−'}{abs(off):.0%}".replace("%", " %"),
        "inside": low <= actual <= high,
    }
