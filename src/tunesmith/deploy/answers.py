"""A finished run's answers to new data, row by row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.chats import Chat
from tunesmith.data.known_names import PICTURE_ENDINGS
from tunesmith.data.load import read_unlabelled
from tunesmith.data.load_boxes import read_boxes
from tunesmith.data.load_chats import read_chats
from tunesmith.data.options import DataOptions
from tunesmith.data.sifted import SiftedExamples
from tunesmith.deploy.predictor import Predictor, Writing
from tunesmith.errors import DataError, DiskError, RecipeError
from tunesmith.models.chat_tokens import encode_prompt
from tunesmith.pictures.decode import read_picture
from tunesmith.pictures.draw import LEAST_SCORE, drawn
from tunesmith.places import resolve_place
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.folder import open_run
from tunesmith.tasks.base import Task
from tunesmith.types import Example, Examples

CHUNK, PICTURES, CHATS = 2048, 64, 256
"""Texts, decoded pictures, and chats, held in memory at once."""

UNREAD = ("path", "validation", "test", "split", "labels")
"""What only a fit's data have."""


def read_labelled(run: Path, data: str, work: Path, settings: Sequence[str] = ()) -> Examples:
    """New data with the truth, read as the run's own were (columns, encoding, bad rows allowed), but for settings such
    as `data.columns.text=review` and `data.limit=100`, the first rows. Arrow and quarantine go to `work`."""
    task, options, limit = _as_in(run, data, settings)
    if task.kind == "boxes":
        return _first(read_boxes(data, options, work), limit)
    if task.goes_on:
        return _first(read_chats(data, options, work, task.kind, needs_answer=True), limit)
    return _first(read_unlabelled(data, options, work, task.input_columns, kind=task.kind), limit)


def read_new(run: Path, data: str, work: Path, settings: Sequence[str] = ()) -> Examples:
    """As `read_labelled`, for data whose truth is not known: pictures alone are enough for a detector, questions for a
    language model."""
    task, options, limit = _as_in(run, data, settings)
    if task.goes_on:
        return _first(read_chats(data, options, work, "chats"), limit)
    if task.kind == "texts":
        return _first(read_unlabelled(data, options, work, task.input_columns, kind=task.kind), limit)
    if task.kind == "boxes":
        options = options.model_copy(update={"format": "auto"})
    return _first(read_unlabelled(data, options, work, ("image",), kind="images"), limit)


def _as_in(run: Path, data: str, settings: Sequence[str]) -> tuple[Task, DataOptions, int | None]:
    """The run's task, how new data are read, and how many rows of them; RecipeError for a setting that says neither."""
    for each in settings:
        key = each.partition("=")[0].strip()
        if not key.startswith("data.") or key.removeprefix("data.").partition(".")[0] in UNREAD:
            raise RecipeError(
                f"{each}: new data are read as the run's own were, and a setting can only say how, "
                "such as data.columns.text=review, data.encoding=gb18030 or data.limit=100."
            )
    own, place = Recipe.make(open_run(run).recipe), Path(resolve_place(data)).expanduser()
    alone: dict[str, str | None] = {"path": data, "validation": None, "test": None, "limit": None}
    if own.task.kind in ("images", "boxes") and (place.is_dir() or place.suffix.lower() in PICTURE_ENDINGS):
        alone["pictures"] = None  # they are the pictures; a table's stand where the run's own stood
    recipe = own.model_copy(update={"data": own.data.model_copy(update=alone)}).changed(*settings)
    return recipe.task, recipe.data.model_copy(update={"limit": None}), recipe.data.limit


def _first(examples: Examples, limit: int | None) -> Examples:
    """The first rows."""
    few = limit is not None and limit < len(examples)
    return SiftedExamples(examples, [(number, 0, 1) for number in range(limit or 0)]) if few else examples


def answers(
    predictor: Predictor, examples: Iterable[Example], drawings: Path | None = None, writing: Writing | None = None
) -> Iterator[dict[str, Any]]:
    """Each example's inputs, its label if it has one, and the answer: the predicted label and the calibrated
    probability of each class, the boxes that were found, or the words that a language model writes.

    drawings: a folder in which each picture is written with its boxes. writing: how words are written. RecipeError
    where the task has no use for one of them.
    """
    task, labels = predictor.task, predictor.labels
    if drawings is not None and task.kind != "boxes":
        raise RecipeError("--drawn is for runs that find boxes in pictures; this one does not.")
    if writing is not None and not task.goes_on:
        raise RecipeError("--most-tokens, --temperature, --top-p and --seed are for runs that answer in words.")
    for chunk in chunks(examples, predictor):
        if task.goes_on:
            yield from _written(predictor, chunk, writing)
            continue
        logits = predictor.logits(chunk)
        if task.kind == "boxes":
            for record in task.records(chunk, logits, labels, None, multi_label=False):
                yield record if drawings is None else {**record, "drawn": _draw(record, labels, drawings)}
            continue
        found = task.predictions(logits, labels, predictor.thresholds)
        for example, answer, row in zip(chunk, found, predictor.probabilities(logits), strict=True):
            known = {} if example.label is None else {"label": example.label}
            probabilities = {name: round(float(p), 6) for name, p in zip(labels, row, strict=True)}
            yield {**example.inputs, **known, "predicted": answer.label, "probabilities": probabilities}


def chunks(examples: Iterable[Example], predictor: Predictor) -> Iterator[list[Example]]:
    """Lists of examples in order, as many as may be held in memory at once."""
    size = CHATS if predictor.task.goes_on else CHUNK if predictor.task.in_tokens else PICTURES
    source = iter(examples)
    while chunk := list(islice(source, size)):
        yield chunk


def _written(predictor: Predictor, chunk: list[Example], writing: Writing | None) -> Iterator[dict[str, Any]]:
    """Each chat (or text to go on with), the answer, whether it ended by itself, the wanted one where it is known.
    Where the model's template refuses a chat, the fault stands in place of an answer."""
    chats = [Chat.from_json(str(example.inputs["chat"])) for example in chunk]
    faults: dict[int, str] = {}
    for place, chat in enumerate(chats):
        try:
            encode_prompt(predictor.processor, chat)
        except DataError as fault:
            faults[place] = str(fault)
    said = iter(predictor.write([chat for place, chat in enumerate(chats) if place not in faults], writing))
    for place, (example, chat) in enumerate(zip(chunk, chats, strict=True)):
        record = {**json.loads(chat.prompt().to_json()), "file": example.file, "line": example.line}
        if place in faults:
            yield {**record, "answer": None, "fault": faults[place]}
            continue
        answer = next(said)
        wanted = {"wanted": chat.answer()} if chat.answer() else {}
        unread = {"unread_tokens": answer.unread} if answer.unread else {}
        yield {**record, "answer": answer.text, "ended": answer.ended, **wanted, **unread}


def _draw(record: dict[str, Any], labels: Sequence[str], folder: Path) -> str:
    """Write the picture with the boxes that are at least half sure; its path."""
    from PIL import Image

    sure = [box for box in record["predicted"] if box[5] >= LEAST_SCORE]
    boxes = np.array([box[:4] for box in sure], dtype=np.float32).reshape(-1, 4)
    picture = drawn(
        read_picture(record["image"]), boxes, [box[4] for box in sure], [box[5] for box in sure], labels=labels
    )
    stem = Path(record["image"].partition("#")[0]).stem
    path = folder / f"{stem}.jpg"
    number = 2
    while path.exists():
        path, number = folder / f"{stem}-{number}.jpg", number + 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, quality=92)
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error}") from error
    return str(path)
