"""The facts of a run folder, as far as they are there: a run that is still going has some files and not others.

Nothing here fails on a missing, half-written or foreign file. What cannot be read, or is of another kind than a run
writes, is left out and named in `unreadable`, and the report says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.errors import RecipeError, RunError
from tunesmith.recipe.read import read_yaml
from tunesmith.run.report_parts import kinds, words
from tunesmith.run.report_parts.run_files import json_of, lines_of, scores_of


@dataclass(frozen=True, slots=True)
class Answers:
    """A model's answers to labelled examples, as arrays beside the rows they came from.

    truth and said: class indices [examples], or 0/1 [examples, classes] for multi-label. probabilities
    [examples, classes] are the model's own, before any temperature. `left_out` counts rows without a usable label.
    """

    rows: list[dict[str, Any]]
    truth: np.ndarray
    said: np.ndarray
    probabilities: np.ndarray
    left_out: int

    @property
    def right(self) -> np.ndarray:
        """Whether each answer is right in every label, bool [examples]."""
        same = self.truth == self.said
        return np.asarray(same.all(axis=1) if same.ndim == 2 else same)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a report or a card tells of one run."""

    folder: Path
    recipe: Mapping[str, Any]
    manifest: Mapping[str, Any]
    scores: Mapping[str, Any]
    steps: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    before: Answers | None
    after: Answers | None
    quarantine: list[dict[str, Any]]
    quarantine_reasons: Mapping[str, int]
    unreadable: list[str] = field(default_factory=list)
    boxes: list[dict[str, Any]] = field(default_factory=list)
    """For detection: the test pictures' rows, each with `boxes` (the truth) and `predicted`."""
    detection: Mapping[str, Any] = field(default_factory=dict)
    """For detection: `curves` of precision and recall a class, and how many `errors` of each kind."""
    generated: Mapping[str, Any] = field(default_factory=dict)
    """For language models: `rows` of questions with the answers of both models, and how they came about."""

    @property
    def task(self) -> str:
        """The task's name."""
        return name_of(self.recipe.get("task"))

    @property
    def noun(self) -> str:
        """What one example is: text or picture."""
        return words.noun(self.task)

    @property
    def speaks(self) -> bool:
        """Whether the model answers in words."""
        return self.task in words.LANGUAGE_TASKS

    @property
    def finished(self) -> bool:
        """Whether the run got as far as its final scores."""
        return bool(self.scores.get("after"))

    @property
    def labels(self) -> list[str]:
        """Class names in the model's order."""
        return [str(label) for label in self.manifest.get("labels", ())]

    @property
    def known(self) -> set[str]:
        """Classes whose rows the model's head brought along."""
        return {str(label) for label in self.manifest.get("known_labels") or ()}

    @property
    def model_name(self) -> str:
        """The pretrained model as a reader knows it: a hub or package name whole, of a folder its own name."""
        name = name_of(self.manifest.get("model") or self.recipe.get("model"))
        return Path(name).name if Path(name).is_absolute() else name

    @property
    def cut(self) -> str:
        """A sentence on how many texts are longer than what the model reads; empty where it was not measured."""
        held = self.manifest.get("cut") or {}
        share, limit = held.get("share"), held.get("max_length")
        if not isinstance(share, int | float) or not isinstance(limit, int):
            return ""
        if not share:
            return f"No training text is longer than the {limit:,} tokens that are read."
        return f"{words.share(share, 1)} of the training texts are longer than {limit:,} tokens and are cut there."

    @property
    def examples(self) -> int | None:
        """How many examples the final scores are over."""
        if self.after is not None or self.boxes:
            return len(self.after.rows if self.after is not None else self.boxes)
        sizes = (self.manifest.get("data") or {}).get("summary", {}).get("split_sizes", {})
        size = sizes.get(self.scores.get("part", "test"))
        return int(size) if size else None


def read_facts(folder: Path) -> Facts:
    """Read a run folder. RunError when it is none: neither a recipe nor a manifest in it."""
    if not (folder / "recipe.yaml").is_file() and not (folder / "manifest.json").is_file():
        raise RunError(
            f"{folder} is no run folder: it has neither recipe.yaml nor manifest.json. "
            "Name the folder that `tunesmith fit` printed (runs/NAME)."
        )
    unreadable: list[str] = []
    manifest = kinds.fitting(json_of(folder / "manifest.json", unreadable), kinds.MANIFEST, "manifest.json", unreadable)
    labels, several = list(map(str, manifest.get("labels") or ())), bool(manifest.get("multi_label"))
    events = list(lines_of(folder / "events.jsonl", unreadable, kinds.EVENT))
    kept, reasons = _quarantine(folder / "quarantine.jsonl", unreadable)
    recipe = _recipe(folder / "recipe.yaml", unreadable)
    files = [folder / "predictions" / f"test_{when}.jsonl" for when in ("before", "after")]
    task = name_of(recipe.get("task"))
    detects, speaks = task == "object_detection", task in words.LANGUAGE_TASKS
    before, after = (None if detects or speaks else _answers(file, labels, several, unreadable) for file in files)
    return Facts(
        folder=folder,
        recipe=recipe,
        manifest=manifest,
        scores=scores_of(folder / "scores.json", unreadable),
        steps=[e for e in events if e.get("event") == "step"],
        evaluations=[e for e in events if e.get("event") == "evaluated"],
        before=before,
        after=after,
        quarantine=kept,
        quarantine_reasons=reasons,
        unreadable=unreadable,
        boxes=list(lines_of(files[1], unreadable)) if detects else [],
        detection=json_of(folder / "predictions" / "detection.json", unreadable) if detects else {},
        generated=json_of(folder / "predictions" / "answers.json", unreadable) if speaks else {},
    )


def name_of(value: Any) -> str:
    """The name of a plugin or model, given as a bare word or as a mapping with its options."""
    return str((value.get("name") if isinstance(value, Mapping) else value) or "")


def _recipe(file: Path, unreadable: list[str]) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return read_yaml(file)[0]
    except RecipeError as error:
        unreadable.append(f"recipe.yaml: {error.faults[0].message}")
        return {}


def _quarantine(file: Path, unreadable: list[str]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """At most ten rows, three of a kind, and how often each reason occurs."""
    kept: list[dict[str, Any]] = []
    reasons: Counter[str] = Counter()
    for row in lines_of(file, unreadable):
        reason = str(row.get("reason", ""))
        reasons[reason] += 1
        if len(kept) < 10 and reasons[reason] <= 3:
            kept.append(row)
    return kept, dict(reasons.most_common())


def _usable(row: Mapping[str, Any], index: Mapping[str, int], several: bool) -> bool:
    for key in ("label", "predicted"):
        names = row.get(key) if several else [row.get(key)]
        if not isinstance(names, list) or not all(isinstance(n, str) and n in index for n in names):
            return False
    chances = row.get("probabilities")
    if not isinstance(chances, list) or len(chances) != len(index):
        return False
    return all(isinstance(c, int | float) and 0 <= c <= 1 for c in chances)


def _answers(file: Path, labels: list[str], several: bool, unreadable: list[str]) -> Answers | None:
    index = {label: i for i, label in enumerate(labels)}
    rows: list[dict[str, Any]] = []
    left_out = 0
    for row in lines_of(file, unreadable):
        if _usable(row, index, several):
            rows.append(row)
        else:
            left_out += 1
    if not rows:
        return None

    def places(key: str) -> np.ndarray:
        if not several:
            return np.array([index[row[key]] for row in rows], np.int64)
        table = np.zeros((len(rows), len(labels)), np.int64)
        for place, row in enumerate(rows):
            table[place, [index[n] for n in row[key]]] = 1
        return table

    chances = np.array([row["probabilities"] for row in rows], np.float64)
    return Answers(rows, places("label"), places("predicted"), chances, left_out)
