"""A finished run on new labelled data: the same scores as in its report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.deploy.answers import chunks, read_labelled
from tunesmith.deploy.predictor import Predictor
from tunesmith.errors import DataError, did_you_mean
from tunesmith.types import Example


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


def evaluate_run(run: Path, data: str, work: Path, settings: Sequence[str] = ()) -> Evaluation:
    """Score a finished run on a labelled file, folder or data set; `work` is a folder for what reading leaves.

    DataError when no row has a label, or a label is none of the run's classes; RunError when the run has not finished.
    """
    predictor = Predictor(run)
    task, labels = predictor.task, predictor.labels
    logits, targets, left_out = [], [], 0
    for chunk in chunks(read_labelled(run, data, work, settings), predictor):
        labelled = [_as_trained(example, predictor) for example in chunk if _has_truth(example, predictor)]
        left_out += len(chunk) - len(labelled)
        if labelled:
            logits.append(predictor.logits(labelled))
            targets.append(task.targets(labelled, labels))
            if task.refers:
                predictor.refer(labelled, targets[-1])
    if not logits:
        raise DataError(f"{data}: no row has a label to score against; name its column with data.columns.label=NAME")
    scores_of, truth = np.concatenate(logits), task.joined(targets)
    main = task.main_score(multi_label=predictor.multi_label).name
    _, span, _ = task.intervals(None, scores_of, truth, labels, predictor.thresholds, seed=0)
    scores = task.score(scores_of, truth, labels, predictor.thresholds)
    return Evaluation(data, main, scores, (span.low, span.high), len(truth), left_out)


def _has_truth(example: Example, predictor: Predictor) -> bool:
    if predictor.task.goes_on:
        try:
            predictor.task.encode([example], predictor.processor)
        except DataError:  # an answer without words, or a conversation that the model's template refuses
            return False
        return True
    return example.label is not None or "boxes" in example.inputs


def _as_trained(example: Example, predictor: Predictor) -> Example:
    """The example with its label in the run's form; DataError when it is none of the run's classes."""
    if predictor.task.goes_on:
        return example
    if "boxes" in example.inputs:
        given: tuple[str, ...] = tuple(box[4] for box in json.loads(example.inputs["boxes"]))
    else:
        given = (example.label,) if isinstance(example.label, str) else example.label or ()
    unknown = [name for name in given if name not in predictor.labels]
    if "boxes" in example.inputs and not unknown:
        return example
    if unknown or (not predictor.multi_label and len(given) != 1):
        wrong = unknown[0] if unknown else ", ".join(given)
        known = ", ".join(predictor.labels)
        hint = did_you_mean(wrong, predictor.labels)
        raise DataError(
            f'{example.file}:{example.line}: the label "{wrong}" is none that this run learned.{hint} Known: {known}.'
        )
    return replace(example, label=given if predictor.multi_label else given[0])
