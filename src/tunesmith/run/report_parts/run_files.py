"""The files of a run folder as values; what cannot be read is left out, and named in `unreadable`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.run.report_parts import kinds


def json_of(file: Path, unreadable: list[str]) -> dict[str, Any]:
    """The object of a JSON file; an empty one where there is none."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        unreadable.append(f"{file.name}: {error}")
        return {}
    if not isinstance(value, dict):
        unreadable.append(f"{file.name}: it holds no object")
        return {}
    return value


def scores_of(file: Path, unreadable: list[str]) -> dict[str, Any]:
    """scores.json. Without a main score the run counts as one that goes on; half a line of retention is none."""
    scores: dict[str, Any] = kinds.fitting(json_of(file, unreadable), kinds.SCORES, file.name, unreadable)
    if scores.get("after") and not scores.get("main_score", {}).keys() >= {"name", "better"}:
        unreadable.append(f"{file.name}: it says no main score")
        scores.pop("after")
    line = scores.get("retention", {})
    whole = all(point.keys() >= {"share", "new_score", "forgetting"} for point in line.get("curve", ()))
    if "curve" in line and not (whole and "share" in line):
        unreadable.append(f"{file.name}: its retention is not whole")
        scores.pop("retention")
    return scores


def lines_of(file: Path, unreadable: list[str], kind: kinds.Kind | None = None) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file; others (the last of a killed run) are counted as unreadable.

    kind: of each object, where it is known; one with a part of another kind is unreadable.
    """
    if not file.is_file():
        return
    broken = 0
    with file.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                broken += bool(line.strip())
                continue
            wrong: list[str] = []
            if isinstance(value, dict) and kind is not None:
                value = kinds.fitting(value, kind, "", wrong)
            if isinstance(value, dict) and not wrong:
                yield value
            else:
                broken += 1
    if broken:
        unreadable.append(f"{file.name}: {broken} line{'s' if broken > 1 else ''} could not be read")
