"""A finished run on new data: the same scores as in its report, and answers row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data.load import read_unlabelled
from tunesmith.deploy.predictor import Predictor
from tunesmith.errors import DataError, did_you_mean
from tunesmith.metrics import classification, interval
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.folder import open_run
from tunesmith.types import Example, Examples

CHUNK = 2048
"""Examples held in memory at once."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores on new data. interval: low and high end of the main score, 95 %. unlabelled: rows left out for want of a
    label."""

    data: str
    main_score: str
    scores: dict[str, float]
    interval: tuple[float, float]
    examples: int
    unlabelled: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def read_new(run: Path, data: str, work: Path, settings: Sequence[str] = ()) -> Examples:
    """New data read as the run's own were (columns, encoding, bad rows allowed), but for dotted settings such as
    `data.columns.text=review`. Arrow and quarantine go to `work`."""
    recipe = Recipe.make(open_run(run).recipe).changed(*settings)
    options = recipe.data.model_copy(update={"path": data, "validation": None, "test": None, "limit": None})
    return read_unlabelled(data, options, work, recipe.task.text_columns)


def evaluate_run(run: Path, data: str, work: Path, settings: Sequence[str] = ()) -> Evaluation:
    """Score a finished run on a labelled file, folder or data set; `work` is a folder for what reading leaves.

    DataError when no row has a label, or a label is none of the run's classes; RunError when the run has not finished.
    """
    predictor = Predictor(run)
    task, labels = predictor.task, predictor.labels
    logits, targets, left_out = [], [], 0
    for chunk in chunks(read_new(run, data, work, settings)):
        labelled = [_as_trained(example, predictor) for example in chunk if example.label is not None]
        left_out += len(chunk) - len(labelled)
        if labelled:
            logits.append(predictor.logits(labelled))
            targets.append(task.targets(labelled, labels))
    if not logits:
        raise DataError(f"{data}: no row has a label to score against; name its column with data.columns.label=NAME")
    scores_of, truth = np.concatenate(logits), np.concatenate(targets)
    main = task.main_score(multi_label=predictor.multi_label).name

    def statistic(values: np.ndarray, wanted: np.ndarray) -> float:
        return task.score(values, wanted, labels, predictor.thresholds)[main]

    fast = classification.accuracy if main == "accuracy" else statistic
    span = interval.bootstrap(fast, scores_of, truth)
    scores = task.score(scores_of, truth, labels, predictor.thresholds)
    return Evaluation(data, main, scores, (span.low, span.high), len(truth), left_out)


def answers(predictor: Predictor, examples: Iterable[Example]) -> Iterator[dict[str, Any]]:
    """Each example's inputs, its label if it has one, the predicted label, and the calibrated probability of each."""
    for chunk in chunks(examples):
        logits = predictor.logits(chunk)
        found = predictor.task.predictions(logits, predictor.labels, predictor.thresholds)
        for example, answer, row in zip(chunk, found, predictor.probabilities(logits), strict=True):
            known = {} if example.label is None else {"label": example.label}
            probabilities = {name: round(float(p), 6) for name, p in zip(predictor.labels, row, strict=True)}
            yield {**example.inputs, **known, "predicted": answer.label, "probabilities": probabilities}


def chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Lists of at most 2,048 examples, in order."""
    source = iter(examples)
    while chunk := list(islice(source, CHUNK)):
        yield chunk


def _as_trained(example: Example, predictor: Predictor) -> Example:
    """The example with its label in the run's form; DataError when it is none of the run's classes."""
    given = (example.label,) if isinstance(example.label, str) else example.label or ()
    unknown = [name for name in given if name not in predictor.labels]
    if unknown or (not predictor.multi_label and len(given) != 1):
        wrong = unknown[0] if unknown else ", ".join(given)
        known = ", ".join(predictor.labels)
        hint = did_you_mean(wrong, predictor.labels)
        raise DataError(
            f'{example.file}:{example.line}: the label "{wrong}" is none that this run learned.{hint} Known: {known}.'
        )
    return replace(example, label=given if predictor.multi_label else given[0])
