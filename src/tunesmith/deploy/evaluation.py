"""A finished run on new labelled data: the same scores as in its report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data.sifted import SiftedExamples, windows
from tunesmith.deploy.answers import chunks, read_labelled
from tunesmith.deploy.predictor import Predictor
from tunesmith.errors import DataError, did_you_mean
from tunesmith.types import Example


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores on new data. interval: low and high end of the main score, 95 %. examples: what was scored; where long
    texts are split, the pieces. unlabelled: rows left out for want of a label. refused: rows left out for other
    reasons, by the reason."""

    data: str
    main_score: str
    scores: dict[str, float]
    interval: tuple[float, float]
    examples: int
    unlabelled: int
    refused: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def evaluate_run(run: Path, data: str, work: Path, settings: Sequence[str] = ()) -> Evaluation:
    """Score a finished run on a labelled file, folder or data set; `work` is a folder for what reading leaves.

    What a fit would leave out or split is left out or split here. DataError when no row has a label, or a label is none
    of the run's classes; RecipeError for a setting that nothing here reads; RunError when the run has not finished.
    """
    predictor = Predictor(run)
    task, labels = predictor.task, predictor.labels
    logits, targets, left_out, refused = [], [], 0, Counter[str]()
    for chunk in chunks(read_labelled(run, data, work, settings), predictor):
        if task.sifts:
            labelled, reasons = _sifted(chunk, predictor)
            refused.update(reasons)
        else:
            known = [example for example in chunk if example.label is not None or "boxes" in example.inputs]
            labelled = [_as_trained(example, predictor) for example in known]
            left_out += len(chunk) - len(labelled)
        if labelled:
            logits.append(predictor.logits(labelled))
            targets.append(task.targets(labelled, labels))
            if task.refers:
                predictor.refer(labelled, targets[-1])
    if not logits and refused:
        raise DataError(f"{data}: no row can be scored. The first reason: {next(iter(refused))}")
    if not logits:
        raise DataError(f"{data}: no row has a label to score against; name its column with data.columns.label=NAME")
    scores_of, truth = np.concatenate(logits), task.joined(targets)
    main = task.main_score(multi_label=predictor.multi_label).name
    _, span, _ = task.intervals(None, scores_of, truth, labels, predictor.thresholds, seed=0)
    scores = task.score(scores_of, truth, labels, predictor.thresholds)
    return Evaluation(data, main, scores, (span.low, span.high), len(truth), left_out, dict(refused))


def _sifted(chunk: list[Example], predictor: Predictor) -> tuple[list[Example], list[str]]:
    """The examples as a fit takes them, over-long ones split or left out, and the reasons against others."""
    taken: list[tuple[int, int, int]] = []
    reasons: list[str] = []
    for number, found in enumerate(predictor.task.sift(chunk, predictor.processor)):
        if isinstance(found, str):
            reasons.append(found)
        else:
            taken += windows(number, found)
    return list(SiftedExamples(chunk, taken)), reasons


def _as_trained(example: Example, predictor: Predictor) -> Example:
    """The example with its label in the run's form; DataError when it is none of the run's classes."""
    if "boxes" in example.inputs:
        given: tuple[str, ...] = tuple(box[4] for box in json.loads(example.inputs["boxes"]) if not box[5])
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
