"""What tests of studies share: a recipe of nothing, a program that stands in for tunesmith, runs made in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.recipe.recipe import Recipe
from tunesmith.run.compare.cell import Cell, Outcome
from tunesmith.run.compare.cells import run_cells
from tunesmith.run.compare.compare import compare
from tunesmith.run.compare.judged import Judged, resamples_of

PROGRAM = (sys.executable, str(Path(__file__).parent / "fake_run.py"))


def bare_recipe(place: Path) -> Recipe:
    """A recipe whose model and data exist and are read by nobody."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "model").mkdir(exist_ok=True)
    (place / "data.csv").write_text("text,label\na,good\nb,bad\n", encoding="utf-8")
    settings = {"task": "text_classification", "model": str(place / "model"), "data": str(place / "data.csv")}
    return Recipe.make({**settings, "train": {"steps": 8}})


def study(place: str, pause: float) -> None:
    """A comparison of four methods and two seeds in a process of its own."""
    os.environ["FAKE_PAUSE"] = str(pause)
    methods = ["full", "lora", "head", "bitfit"]
    compare(bare_recipe(Path(place)), methods=methods, seeds=2, folder=Path(place) / "study", jobs=2, program=PROGRAM)


def real_study(recipe: str, folder: str) -> None:
    """A comparison of two methods with real runs, in a process of its own."""
    compare(recipe, methods=["head", "lora:rank=2"], seeds=1, folder=folder)


def run_of(
    right: Sequence[float] | np.ndarray,
    *,
    seed: int = 0,
    lost: Sequence[float] | None = None,
    cost: dict[str, float] | None = None,
    key: str = "same",
    resamples: int = 400,
) -> Judged:
    """A finished run that answered these test examples rightly or not; `lost` of the old task "news"."""
    answers = np.asarray(right, np.float64)
    scores: dict[str, Any] = {
        "main_score": {"name": "accuracy", "better": "higher"},
        "part": "test",
        "after": {"accuracy": float(answers.mean())},
        "cost": {"learned": 1000, "total": 9000, "peak_mib": 500.0, "file_mib": 1.0, "seconds": 10.0, **(cost or {})},
    }
    if lost is not None:
        main = {"name": "accuracy", "better": "higher"}
        scores["old_tasks"] = {"news": {"main_score": main, "definition": "old accuracy",
                                        "forgetting": {"initial_minus_last": list(lost)}}}  # fmt: skip
    draws = np.concatenate([times @ answers / len(answers) for times in resamples_of(len(answers), resamples)])
    value = float(answers.mean())
    return Judged(Path(f"cells/run-{seed}"), seed, value, scores, {}, len(answers), key, answers > 0, draws)


def run_cell(cell: Cell, folder: Path, **options: Any) -> Outcome:
    """One cell by itself."""
    return run_cells([(cell, folder)], **options)[0]
