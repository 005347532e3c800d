"""The folder of a trial: an ordinary run, and a gate at which it waits to be told whether to go on.

What a search knows of a trial it reads from `events.jsonl` and the manifest alone: scores of evaluations, which are
those of validation examples. Of `scores.json`, where the test part's scores stand, it reads which step was delivered
and what old tasks lost, so no choice can depend on the test part.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tunesmith.run.folder import read_recipe
from tunesmith.types import MainScore

GATE: Final = ".gate.json"
FORGOTTEN: Final = "forgotten/"
"""How the names of what old tasks lost begin among the scores of an evaluation."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One evaluation of a run. share: how much of the run's own steps is done then, in per cent, 1 to 100."""

    step: int
    share: int
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a finished trial is judged by, all of it on validation examples: the main score of the state that was
    delivered, and the most that an old task lost (None where it was not asked for)."""

    score: float
    forgotten: float | None


def is_resolved(folder: Path) -> bool:
    """Whether data and model are read and every value of the recipe stands."""
    return (folder / "manifest.json").is_file()


def is_finished(folder: Path) -> bool:
    """Whether the run ended well."""
    return (folder / "scores.json").is_file()


def manifest_of(folder: Path) -> dict[str, Any]:
    """manifest.json."""
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return found


def course(folder: Path) -> list[Seen]:
    """The evaluations so far, in order. A line that is still being written is left for the next time."""
    file = folder / "events.jsonl"
    if not file.is_file() or not is_resolved(folder):
        return []
    steps, epochs = _length(folder)
    found: list[Seen] = []
    epoch = 0.0
    for line in file.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        event = json.loads(line)
        if event["event"] == "step":
            epoch = float(event["epoch"])
        else:
            done = event["step"] / steps if steps else epoch / epochs
            found.append(Seen(event["step"], max(1, min(100, round(100 * done))), event["scores"]))
    return found


@functools.cache
def _length(folder: Path) -> tuple[int, float]:
    """Steps of a resolved run where its recipe gives them, else 0 and its epochs: both stand once it is resolved."""
    train = read_recipe(folder).train
    return train.steps or 0, 1.0 if isinstance(train.epochs, str) else train.epochs


def written(folder: Path) -> int:
    """Bytes of events so far: what has not grown need not be read."""
    try:
        return (folder / "events.jsonl").stat().st_size
    except FileNotFoundError:
        return 0


def seconds_of(folder: Path) -> float:
    """Seconds of training and evaluating so far, over all restarts."""
    file = folder / "events.jsonl"
    if not file.is_file():
        return 0.0
    lines = [line for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    return sum(float(json.loads(line).get("seconds") or 0) for line in lines)


def delivered(folder: Path, main: MainScore, *, forgetting: bool) -> Delivered:
    """What a finished trial is judged by. ValueError, in words, when it has no such numbers."""
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    evaluations = {seen.step: seen.scores for seen in course(folder)}
    at = evaluations.get(int(scores["best_step"]))
    held = (scores.get("validation") or at or {}).get(main.name)
    if held is None or held != held:
        raise ValueError(f"it has no {main.name} on validation examples (found {held})")
    if not forgetting:
        return Delivered(float(held), None)
    # A retention that moves the weights at the end is judged by what it moved to, which no evaluation has seen.
    seen = (at or {}) if "retention" not in scores else {}
    lost = [value for name, value in seen.items() if name.startswith(FORGOTTEN)]
    lost = lost or [task["forgetting"]["initial_minus_last"][0] for task in scores.get("old_tasks", {}).values()]
    lost = [float(value) for value in lost if value == value]
    if not lost:
        raise ValueError("it measured no old task, so it cannot be judged by forgetting")
    return Delivered(float(held), max(lost))


def set_gate(folder: Path, step: int, *, go_on: bool) -> None:
    """Let a run go on after the evaluation of `step`, where it waits, or tell it to stop there. Step 0, before it is
    started: make it wait at every evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f"{GATE}.new"
    new.write_text(json.dumps({"step": step, "go_on": go_on}), encoding="utf-8")
    os.replace(new, folder / GATE)


def has_gate(folder: Path) -> bool:
    """Whether this run waits after each evaluation."""
    return (folder / GATE).is_file()


def gate(folder: Path) -> tuple[int, bool]:
    """The last step that was decided, 0 for none, and whether to go on after it."""
    try:
        found = json.loads((folder / GATE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return 0, True
    return int(found["step"]), bool(found["go_on"])
