"""The folder of a trial: an ordinary run, and a gate at which it waits to be told whether to go on.

What a search knows of a trial it reads from `events.jsonl` and the manifest alone: scores of evaluations, which are
those of validation examples. Of `scores.json`, where the test part's scores stand too, it reads which step was
delivered, the scores on validation examples, and what a retention that moved the weights at the end saw there of old
tasks at the point it chose. So no choice depends on the test part, but for one thing: an old task that has one part
only (a task of the harness, data without a test or without a validation part) is asked on the examples that are
reported (`chosen_on`).
"""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from tunesmith.errors import DiskError, FolderInUseError
from tunesmith.run.folder import locked, read_recipe
from tunesmith.types import MainScore
from tunesmith.written import write_whole

GATE: Final = ".gate.json"
FORGOTTEN: Final = "forgotten/"
"""How the names of what old tasks lost begin among the scores of an evaluation."""
STALE, PAUSE = 40, 0.05
"""So many times a gate that cannot be read is read anew, and seconds between them."""


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


class Course:
    """The evaluations of a run, read as they come: of its events the lines that are new, and all of them again where
    what was read stands there no longer (a run that goes on cuts its log at its checkpoint)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bytes, self._last, self._epoch = 0, b"", 0.0
        self._seen: list[Seen] = []

    def read(self) -> list[Seen]:
        """The evaluations so far, in order. A line that is still being written is left for the next time."""
        file = self.folder / "events.jsonl"
        if not file.is_file() or not is_resolved(self.folder):
            return []
        steps, epochs = _length(self.folder)
        with file.open("rb") as events:
            events.seek(self._bytes - len(self._last))
            if events.read(len(self._last)) != self._last:
                self._bytes, self._last, self._epoch, self._seen = 0, b"", 0.0, []
                events.seek(0)
            for line in events:
                if not line.endswith(b"\n"):
                    break
                event = json.loads(line)
                if event["event"] == "step":
                    self._epoch = float(event["epoch"])
                else:
                    done = event["step"] / steps if steps else self._epoch / epochs
                    self._seen.append(Seen(event["step"], max(1, min(100, round(100 * done))), event["scores"]))
                self._bytes, self._last = self._bytes + len(line), line
        return list(self._seen)


def course(folder: Path) -> list[Seen]:
    """The evaluations so far, in order."""
    return Course(folder).read()


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
    lost = _lost_at_point(scores["retention"]) if "retention" in scores else lost_at(at or {})
    known = [value for value in lost if value == value]
    if not known:
        where = "at the point that its retention chose" if "retention" in scores else "when it was evaluated"
        raise ValueError(f"no old task was scored on validation examples {where}, so it cannot be judged by forgetting")
    return Delivered(float(held), max(known))


def lost_at(scores: Mapping[str, float]) -> list[float]:
    """What each old task has lost, among the scores of an evaluation; empty where it scored none."""
    return [float(value) for name, value in scores.items() if name.startswith(FORGOTTEN)]


def _lost_at_point(retention: Mapping[str, Any]) -> list[float]:
    """What each old task has lost at the point between untouched and tuned that a retention chose; empty where it does
    not say."""
    share = retention.get("share")
    points = [point for point in retention.get("curve", ()) if point.get("share") == share]
    return [float(value) for point in points[:1] for value in point.get("forgetting", {}).values()]


def chosen_on(folder: Path, *, forgetting: bool) -> tuple[str, ...]:
    """Old tasks of a finished run by whose reported examples it was chosen too: those of one part. forgetting: whether
    they were an objective; else those count by which the run chose its own state."""
    return tuple(name for name, told in _old_tasks(folder).items()
                 if told.get("chosen_by") or (forgetting and _in_one_part(told)))  # fmt: skip


def old_rows(folder: Path, shares: Collection[str]) -> int | None:
    """The fewest examples that an old task of a finished run is asked on while it learns; None where there is none, or
    the main score of one is not among `shares`."""
    found, file = [], folder / "predictions" / "old_before.npz"
    for name, told in _old_tasks(folder).items():
        if told["main_score"]["name"] not in shares:
            return None
        if _in_one_part(told):
            found.append(int(told["rows"]))
        elif file.is_file():
            with np.load(file, allow_pickle=False) as answers:
                found.append(len(answers[f"{name}/{told['highest_part']}"]))
        else:
            return None
    return min(found, default=None)


def _in_one_part(told: Mapping[str, Any]) -> bool:
    """Whether an old task is reported on the examples that it was asked on while the run learned."""
    return "part" in told and told["part"] == told.get("highest_part")


def _old_tasks(folder: Path) -> dict[str, dict[str, Any]]:
    if not is_finished(folder):
        return {}
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return dict(scores.get("old_tasks") or {})


def set_gate(folder: Path, step: int, *, go_on: bool) -> None:
    """Let a run go on after the evaluation of `step`, where it waits, or tell it to stop there. Step 0, before it is
    started: make it wait at every evaluation."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / GATE, json.dumps({"step": step, "go_on": go_on}))


def has_gate(folder: Path) -> bool:
    """Whether this run waits after each evaluation."""
    return _at_gate(folder) is not None


def gate(folder: Path) -> tuple[int, bool]:
    """The last step that was decided, 0 for none, and whether to go on after it."""
    try:
        found = json.loads(_at_gate(folder) or "")
    except ValueError:
        return 0, True
    return int(found["step"]), bool(found["go_on"])


def _at_gate(folder: Path) -> str | None:
    """What the gate says, None where there is none. A file that another machine has just put in its place cannot be
    read for a moment (ESTALE on NFS), so it is read anew for a while. DiskError when that does not help."""
    file, left = folder / GATE, STALE
    while True:
        try:
            return file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            if not left:
                raise DiskError(f"cannot read {file}: {error}. Is the disk that it lies on still there?") from error
        left -= 1
        time.sleep(PAUSE)


def clear(folder: Path) -> None:
    """Take away what only a run that goes on needs: its decoded data and its checkpoints. All stays where a process
    still works there."""
    needless = [folder / ".work", folder / "checkpoints"]
    if any(each.is_dir() for each in needless):
        with suppress(FolderInUseError), locked(folder):
            for each in needless:
                shutil.rmtree(each, ignore_errors=True)
