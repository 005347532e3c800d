"""What may be held against what: rows scored on the same test examples, and old tasks whose loss is a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tunesmith.run.compare.chance import SHARE
from tunesmith.run.compare.judged import Judged
from tunesmith.run.report_parts import words
from tunesmith.types import Interval


def same_examples(rows: Sequence[Sequence[Judged]]) -> list[int]:
    """Numbers of the rows, each with its finished runs, that were scored on the test examples of most of them; of as
    many the first. A row without runs, whose score is no number, or whose own runs disagree stands alone or nowhere."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, runs in enumerate(rows):
        if runs and not any(math.isnan(run.value) for run in runs):
            groups.setdefault(tuple(sorted({run.key for run in runs})), []).append(number)
    if not groups:
        return []
    most = max(groups, key=lambda keys: (len(keys) == 1, len(groups[keys]), -groups[keys][0]))
    return groups[most] if len(most) == 1 else groups[most][:1]


def none_shared(rows: Sequence[Sequence[Judged]]) -> bool:
    """Whether no two rows were scored on the same test examples, though several have a score that is a number."""
    scored = [runs for runs in rows if runs and not any(math.isnan(run.value) for run in runs)]
    return len(scored) > 1 and len(same_examples(rows)) == 1


def lost(run: Judged, task: str) -> Interval | None:
    """What one run lost of an old task, from its scores.json: initial minus last, ends NaN where it has none; None
    where that is not known."""
    value, low, high = _told(run, task)
    return None if math.isnan(value) else Interval(value, low, high, SHARE)


def went_wrong(run: Judged, task: str) -> bool:
    """Whether an old task had a score before the run, and none that is a number since: not known is not unharmed."""
    held = _old(run, task)
    told = (held.get("forgetting") or {}).get("initial_minus_last")
    if told is None or not math.isnan(_told(run, task)[0]):
        return False
    name = (held.get("main_score") or {}).get("name")
    before = held.get("before") or {}
    return name not in before or words.measured(str(name), before[name]) is not None


def before(runs: Sequence[Judged], task: str, names: Sequence[str]) -> float | None:
    """The score of an old task before these runs, in the mean; None where it is not one of `names` or not told."""
    held = [_old(run, task) for run in runs]
    told = [(each.get("before") or {}).get((each.get("main_score") or {}).get("name")) for each in held]
    if not all((each.get("main_score") or {}).get("name") in names for each in held):
        return None
    known = [float(value) for value in told if isinstance(value, int | float)]
    return sum(known) / len(known) if known and len(known) == len(told) else None


def old_names(runs: Sequence[Judged]) -> list[str]:
    """The old tasks of these runs, each once, in their order."""
    return list(dict.fromkeys(name for run in runs for name in run.scores.get("old_tasks") or {}))


def chosen_by(runs: Sequence[Judged]) -> list[str]:
    """Old tasks on whose reported examples any of these runs also chose its state (`forgetting/measures.py`)."""
    return [name for name in old_names(runs) if any(_old(run, name).get("chosen_by") for run in runs)]


def _old(run: Judged, task: str) -> dict[str, Any]:
    return dict((run.scores.get("old_tasks") or {}).get(task) or {})


def _told(run: Judged, task: str) -> tuple[float, float, float]:
    told = (_old(run, task).get("forgetting") or {}).get("initial_minus_last")
    ends = [*(told if isinstance(told, list) else [told]), None, None][:3]
    value, low, high = (float(end) if isinstance(end, int | float) else math.nan for end in ends)
    return value, low, high
