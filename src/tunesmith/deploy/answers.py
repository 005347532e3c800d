"""A run on new data: its answers as records, and its scores, with memory that does not grow with the file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data.load import read_unlabelled
from tunesmith.deploy.predictor import Predictor
from tunesmith.errors import DataError
from tunesmith.metrics import interval
from tunesmith.recipe.recipe import Recipe
from tunesmith.types import Example, Examples

AT_ONCE = 512  # examples that are read, encoded and answered together


def answer(predictor: Predictor, examples: Examples | Sequence[Example]) -> Iterator[dict[str, Any]]:
    """One record an example, in order: its inputs, `predicted`, calibrated `probabilities` by label, and where it
    stood."""
    for chunk, logits in _chunks(predictor, examples):
        answers = predictor.task.predictions(logits, predictor.labels, predictor.thresholds)
        for example, prediction, row in zip(chunk, answers, predictor.probabilities(logits), strict=True):
            shown = {label: round(float(p), 6) for label, p in zip(predictor.labels, row, strict=True)}
            place = {"file": example.file, "line": example.line} if example.file else {}
            given = {} if example.label is None else {"label": example.label}
            yield {**example.inputs, **given, "predicted": prediction.label, "probabilities": shown, **place}


def answer_file(run: Path, file: str) -> Iterator[dict[str, Any]]:
    """Answers to the rows of a file, a label column there or not. DataError as for training data."""
    predictor = Predictor(run)
    with tempfile.TemporaryDirectory(prefix="tunesmith-predict-") as place:
        yield from answer(predictor, _read(predictor, run, file, Path(place)))


def evaluate(run: Path, data: str) -> dict[str, Any]:
    """All scores of the run's delivered model on labelled data, with the interval of the main one.

    DataError when labels are missing, or name a class that the model does not know.
    """
    predictor = Predictor(run)
    task, labels = predictor.task, predictor.labels
    with tempfile.TemporaryDirectory(prefix="tunesmith-evaluate-") as place:
        examples = _read(predictor, run, data, Path(place))
        _known(examples, labels, data)
        logits = np.concatenate([values for _, values in _chunks(predictor, examples)])
        targets = task.targets(examples, labels)
    scores = task.score(logits, targets, labels, predictor.thresholds)
    main = task.main_score(multi_label=predictor.multi_label)
    span = interval.bootstrap(lambda v, t: task.score(v, t, labels, predictor.thresholds)[main.name], logits, targets,
                              resamples=200)  # fmt: skip
    return {
        "main_score": {"name": main.name, "better": main.better},
        "examples": len(logits),
        "scores": scores,
        "intervals": {main.name: [span.low, span.high]},
    }


def _chunks(predictor: Predictor, examples: Any) -> Iterator[tuple[list[Example], np.ndarray]]:
    for start in range(0, len(examples), AT_ONCE):
        chunk = [examples[i] for i in range(start, min(start + AT_ONCE, len(examples)))]
        yield chunk, predictor.logits(chunk)


def _read(predictor: Predictor, run: Path, file: str, place: Path) -> Examples:
    recipe = Recipe.read(run / "recipe.yaml")
    found = read_unlabelled(file, recipe.data, place, predictor.task.text_columns)
    if not len(found):
        raise DataError(f"{file} holds no usable row.")
    return found


def _known(examples: Examples, labels: Sequence[str], data: str) -> None:
    for example in examples:
        given = example.label
        if given is None:
            raise DataError(f"{data}, line {example.line}: no label. Scores need one; `tunesmith predict` does not.")
        unknown = set(given if isinstance(given, tuple) else (given,)) - set(labels)
        if unknown:
            names = ", ".join(labels)
            raise DataError(
                f"{data}, line {example.line}: the model has no class {sorted(unknown)[0]!r}. Known: {names}."
            )
