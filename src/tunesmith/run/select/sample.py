"""The examples that candidates are measured on: a stratified sample of the training part, no two of them copies.

For object detection: objects cut out of their pictures, each labelled with the class of its box. What is measured is
then whether a backbone's features tell the classes apart, not how well it would find where the objects are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data.duplicates import as_numbers, keys_of
from tunesmith.data.split import sample
from tunesmith.data.store import ArrowExamples
from tunesmith.errors import DataError, RecipeError
from tunesmith.recipe.recipe import Recipe
from tunesmith.tasks import base as tasks
from tunesmith.tasks.base import Task
from tunesmith.types import Dataset, Example, Examples

MARGIN = 0.1
"""Of a box's side, kept around it when an object is cut out."""

SMALLEST = 4
"""Pixels of a side below which an object is too small to be cut out."""


@dataclass(frozen=True, slots=True)
class Sample:
    """task, options: what measures (for boxes, the classification of pictures). targets: as the task counts them."""

    task: Task
    options: Mapping[str, Any]
    examples: tuple[Example, ...]
    targets: np.ndarray
    labels: tuple[str, ...]
    multi_label: bool
    score: str
    noun: str
    notes: tuple[str, ...]


def sample_of(recipe: Recipe, dataset: Dataset, rows: int, work: Path) -> Sample:
    """At most `rows` examples; cut-out objects go to `work`. DataError where there are too few, or one class only."""
    task, options, notes = recipe.task, recipe.as_dict()["task"], []
    noun = {"texts": "text", "images": "picture", "boxes": "object"}[task.kind]
    multi = dataset.multi_label
    if task.kind == "boxes":
        if _changed(task):
            raise RecipeError("task. settings of object_detection have no use here: backbones are compared on objects.")
        examples, targets = _objects(dataset, rows, work)
        options, multi = {"name": "image_classification"}, False
        task = tasks.registry.make("image_classification")
        notes.append("backbones were compared on objects cut out of their pictures: whether their features tell the "
                     "classes apart, not how well they would find the boxes")  # fmt: skip
    else:
        examples, targets, copies = _unlike(task, dataset, rows)
        if copies:
            notes.append(f"{copies:,} copies of other training {noun}s were not measured on")
    _check(targets, dataset.labels, noun)
    score = task.main_score(multi_label=multi).name
    return Sample(task, options, tuple(examples), targets, dataset.labels, multi, score, noun, tuple(notes))


def _changed(task: Task) -> bool:
    return task != type(task)()


def _unlike(task: Task, dataset: Dataset, rows: int) -> tuple[list[Example], np.ndarray, int]:
    """Examples, their targets, and how many copies of others were passed over."""
    train = dataset.train
    keys = _keys(train)
    _, firsts = np.unique(keys, return_index=True)
    firsts = np.sort(firsts)
    targets = task.targets(train, dataset.labels)
    strata = targets[firsts]
    if strata.ndim == 2:  # an example with several labels goes by its rarest
        rarity = np.where(strata > 0.5, targets.sum(axis=0), np.inf)
        strata = np.where((strata > 0.5).any(axis=1), rarity.argmin(axis=1), -1)
    if rows < len(firsts):
        firsts = firsts[sample(keys[firsts], strata, rows, seed=0)]
    return [train[int(i)] for i in firsts], targets[firsts], len(keys) - len(np.unique(keys))


def _keys(examples: Examples) -> np.ndarray:
    """Content keys, uint64 [examples]: of the normalised text, of a picture's pixels."""
    if isinstance(examples, ArrowExamples):
        known = examples.store.fact("key")
        if known is not None:
            found: np.ndarray = known[examples.rows]
            return found
    return as_numbers(b"".join(keys_of([str(value) for value in e.inputs.values()])[1] for e in examples))


def _objects(dataset: Dataset, rows: int, work: Path) -> tuple[list[Example], np.ndarray]:
    """Cut-out objects as examples, and their classes."""
    from PIL import Image

    from tunesmith.pictures.decode import read_picture

    boxes = [
        (number, place, box)
        for number, example in enumerate(dataset.train)
        for place, box in enumerate(json.loads(example.inputs["boxes"]))
        if not box[5] and min(box[2] - box[0], box[3] - box[1]) >= SMALLEST
    ]
    index = {label: i for i, label in enumerate(dataset.labels)}
    classes = np.array([index[box[4]] for _, _, box in boxes], dtype=np.int64)
    keys = np.arange(len(boxes), dtype=np.uint64)
    chosen = sample(keys, classes, rows, seed=0) if rows < len(boxes) else np.arange(len(boxes))
    folder = (work / "objects").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    examples, read, pixels = [], -1, np.zeros((0, 0, 3), dtype=np.uint8)
    for each in chosen.tolist():
        number, place, box = boxes[each]
        if number != read:
            read, pixels = number, read_picture(dataset.train[number].inputs["image"])
        path = folder / f"{number}_{place}.png"
        Image.fromarray(_cut_out(pixels, box)).save(path)
        examples.append(Example({"image": str(path)}, box[4], dataset.train[number].file, dataset.train[number].line))
    return examples, classes[chosen]


def _cut_out(pixels: np.ndarray, box: Sequence[Any]) -> np.ndarray:
    height, width = pixels.shape[:2]
    x, y = MARGIN * (box[2] - box[0]), MARGIN * (box[3] - box[1])
    left, top = max(0, int(box[0] - x)), max(0, int(box[1] - y))
    return pixels[top : min(height, int(box[3] + y) + 1), left : min(width, int(box[2] + x) + 1)]


def _check(targets: np.ndarray, labels: Sequence[str], noun: str) -> None:
    several = targets.ndim == 2
    counts = (targets > 0.5).sum(axis=0) if several else np.bincount(targets, minlength=len(labels))
    present = int(((counts > 0) & (counts < len(targets))).sum()) if several else int((counts > 0).sum())
    if len(targets) < 6 or present < (1 if several else 2):
        raise DataError(
            f"models are compared on the training part, and it has {len(targets)} {noun}s of {int((counts > 0).sum())} "
            f"classes: at least 6 {noun}s and two classes are needed to see which model tells them apart."
        )
