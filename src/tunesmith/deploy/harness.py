"""A finished run's language model on tasks of the lm-evaluation-harness, beside the untouched one it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.deploy.predictor import Predictor
from tunesmith.errors import ModelError, RecipeError, RunError
from tunesmith.evaluate.harness import HarnessTask, open_harness
from tunesmith.types import Interval


@dataclass(frozen=True, slots=True)
class HarnessEvaluation:
    """Scores on one task, means over documents, with the low and high end of the main score (95 %).

    untouched: those of the model that the run started from, None where it cannot be read (`why_alone` says why).
    difference: the main score of the delivered model minus the untouched one's, and the ends of its paired interval.
    """

    task: str
    main_score: str
    better: str
    documents: int
    scores: dict[str, float]
    interval: tuple[float, float]
    untouched: dict[str, float] | None
    untouched_interval: tuple[float, float] | None
    difference: tuple[float, float, float] | None
    definition: str
    why_alone: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def evaluate_harness(
    run: Path, names: Sequence[str], work: Path, *, rows: int | None = None
) -> list[HarnessEvaluation]:
    """Score a finished run and its untouched model on tasks, by name or by the path of a task file.

    rows: documents of each, the first ones, at most; None: all. work: a folder for what reading data leaves.
    RecipeError for a run of another kind and an unknown name, DataError where a task cannot be read or asked, RunError
    when the run has not finished.
    """
    if not names:
        return []
    predictor = Predictor(run)
    if not predictor.task.goes_on:
        raise RecipeError(
            f"--harness asks language models (task causal_lm or preference), and {run} is a run of "
            f"{type(predictor.task).name}. Score it with --data."
        )
    tasks = [open_harness(name, work, rows) for name in names]
    after = [task.answers(predictor.model, predictor.processor, predictor.device) for task in tasks]
    try:
        base = predictor.untouched.model
    except (ModelError, RunError) as fault:
        return [_evaluation(task, None, answers, str(fault)) for task, answers in zip(tasks, after, strict=True)]
    before = [task.answers(base, predictor.processor, predictor.device) for task in tasks]
    return [_evaluation(*each) for each in zip(tasks, before, after, strict=True)]


def _evaluation(
    task: HarnessTask, before: np.ndarray | None, after: np.ndarray, why_alone: str = ""
) -> HarnessEvaluation:
    return HarnessEvaluation(
        task=task.name,
        main_score=task.main.name,
        better=task.main.better,
        documents=task.rows,
        scores=task.score(after),
        interval=_ends(task.interval(after)),
        untouched=None if before is None else task.score(before),
        untouched_interval=None if before is None else _ends(task.interval(before)),
        difference=None if before is None else _whole(task.difference(before, after)),
        definition=task.definition,
        why_alone=f"without the untouched model: {why_alone}" if why_alone else "",
    )


def _ends(found: Interval) -> tuple[float, float]:
    return found.low, found.high


def _whole(found: Interval) -> tuple[float, float, float]:
    return found.value, found.low, found.high
