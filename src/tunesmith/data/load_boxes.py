"""From what the recipe says about data to pictures with boxes in three parts: what `load.py` is to texts.

find -> read -> check boxes and pictures -> settle the classes -> count copies and leaks -> limit -> split
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data import box_notes
from tunesmith.data.box_intake import BoxIntake, Columns
from tunesmith.data.find_boxes import BoxSource, find_boxes, find_one_of_boxes
from tunesmith.data.labels import ordered
from tunesmith.data.notes import worst_first
from tunesmith.data.options import DataOptions
from tunesmith.data.parts import PARTS
from tunesmith.data.split import TEST, TRAIN, UNSPLIT, VALIDATION, sample, split
from tunesmith.data.store import ArrowExamples, Store
from tunesmith.errors import DataError
from tunesmith.types import Dataset, DataSummary, Examples

_LEFT_OUT = -2
_NUMBER = {"train": TRAIN, "validation": VALIDATION, "test": TEST, None: UNSPLIT}


def load_boxes(options: DataOptions, folder: Path) -> Dataset:
    """Read, check and split pictures with boxes; Arrow files and quarantine.jsonl go to `folder`.

    Each example's inputs are `image`, its path or its place in pictures.bin, and `boxes`, the JSON text
    `[[x1, y1, x2, y2, "class", crowd], ...]` in pixels of the upright picture. Class counts in the summary are of
    boxes. DataError, with what to do, where the data cannot be used.
    """
    sources, remarks = find_boxes(options)
    with BoxIntake(folder, options.labels) as intake:
        taken = _take(sources, options, intake, remarks)
    intake.check(options.max_bad_share)
    columns = intake.columns()
    parts = _parts(intake)
    names = _classes(taken.declared, columns, parts, options, remarks)
    remarks += box_notes.of_pictures(columns)
    rarest = _rarest(columns, names, len(parts))
    _limit(parts, columns.keys, rarest, options, remarks)
    remarks += box_notes.of_leaks(columns.keys, parts)
    _split(parts, columns.keys, rarest, options, remarks)
    counts = {part: _counts(columns, names, parts == _NUMBER[part]) for part in PARTS}
    remarks += box_notes.of_classes(counts)
    remarks += box_notes.of_intake(intake, len(parts) - len(np.unique(columns.box_picture)))
    summary = DataSummary(
        read=sum(c.read for c in intake.counts),
        used=sum(c.used for c in intake.counts),
        quarantined=sum(c.quarantined for c in intake.counts),
        blank=0,
        files=tuple(_facts(intake, number, facts) for number, facts in enumerate(taken.facts)),
        split_sizes={part: int((parts == _NUMBER[part]).sum()) for part in PARTS},
        class_counts=counts,
        notes=worst_first(remarks),
        sha256=_hashes(sources, columns),
    )
    store = Store(intake.path, ())
    train, validation, test = (ArrowExamples(store, np.flatnonzero(parts == _NUMBER[part])) for part in PARTS)
    return Dataset(train, validation, test, names, multi_label=False, summary=summary, folder=folder)


def read_boxes(path: str, options: DataOptions, folder: Path) -> Examples:
    """The pictures of one file or folder in their order, all parts alike, to score a finished model on."""
    with BoxIntake(folder, None) as intake:
        _take([find_one_of_boxes(path, options)], options, intake, [])
    intake.check(options.max_bad_share)
    store = Store(intake.path, ())
    return ArrowExamples(store, np.arange(len(store)))


@dataclass(frozen=True, slots=True)
class _Taken:
    """declared: the classes that each table to train on lists. facts: what was found out about each table."""

    declared: list[tuple[str, ...]] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)


def _take(sources: Sequence[BoxSource], options: DataOptions, intake: BoxIntake, remarks: list[str]) -> _Taken:
    taken = _Taken()
    given = {source.part for source in sources}
    for source in sources:
        for table in source.reader.tables(source.path, options, shown=source.shown):
            if source.part is None and table.part is not None and table.part in given:
                raise DataError(
                    f"data.path holds a {table.part} part, and data.{table.part} names another: leave one of them out."
                )
            intake.take(table, source.part or table.part)
            if (source.part or table.part) in (None, "train"):
                taken.declared.append(table.classes)
            taken.facts.append(table.facts)
            remarks += [note for note in table.notes if note not in remarks]
    return taken


def _parts(intake: BoxIntake) -> np.ndarray:
    """Part of each used picture as its source says."""
    return np.concatenate([np.full(len(c.rows), _NUMBER[c.part], dtype=np.int8) for c in intake.counts])


def _classes(
    declared: Sequence[tuple[str, ...]], columns: Columns, parts: np.ndarray, options: DataOptions, remarks: list[str]
) -> tuple[str, ...]:
    """Class names: those of the recipe, else as the training files list them, else those of training boxes by name.

    A class that a file lists and that no box of any part has is left out, with a note.
    """
    training = np.isin(parts, (TRAIN, UNSPLIT))
    in_training = training[columns.box_picture]
    learnable = {columns.classes[code] for code in np.unique(columns.box_class[in_training])}
    anywhere = {columns.classes[code] for code in np.unique(columns.box_class)}
    if not learnable:
        raise DataError(f"{options.path}: no training picture has a box, so there is nothing to learn.")
    if options.labels is not None:
        return options.labels
    listed = list(dict.fromkeys(name for names in declared for name in names))
    names = tuple(name for name in listed if name in anywhere) + ordered(learnable - set(listed))
    if unused := [name for name in listed if name not in anywhere]:
        shown = ", ".join(f'"{name}"' for name in unused[:5]) + (" ..." if len(unused) > 5 else "")
        remarks.append(f"{len(unused)} listed class(es) have no box anywhere and are left out: {shown}.")
    if new := sorted(anywhere - set(names)):
        raise DataError(
            f"Classes that the training pictures lack: {', '.join(new[:10])}. Train knows: {', '.join(names)[:500]}. "
            f"Correct them, or put pictures of that class into train."
        )
    return names


def _counts(columns: Columns, names: Sequence[str], chosen: np.ndarray) -> dict[str, int]:
    """Boxes of each class among the chosen pictures (a truth value for each)."""
    codes = columns.box_class[chosen[columns.box_picture]]
    found = Counter({columns.classes[code]: int(n) for code, n in enumerate(np.bincount(codes)) if n})
    return {name: found[name] for name in names}


def _rarest(columns: Columns, names: Sequence[str], pictures: int) -> np.ndarray:
    """For each picture [pictures] the number of its rarest class, -1 for background."""
    place = {name: number for number, name in enumerate(names)}
    numbers = np.array([place[name] for name in columns.classes], dtype=np.int64)
    if not len(columns.box_class):
        return np.full(pictures, -1, dtype=np.int64)
    of_box = numbers[columns.box_class]
    frequency = np.bincount(of_box, minlength=len(names))
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.lexsort((np.arange(len(names)), frequency))] = np.arange(len(names))
    best = np.full(pictures, len(names), dtype=np.int64)
    np.minimum.at(best, columns.box_picture, rank[of_box])
    by_rank = np.append(np.argsort(rank), -1)
    rarest: np.ndarray = by_rank[best]
    return rarest


def _limit(parts: np.ndarray, keys: np.ndarray, rarest: np.ndarray, options: DataOptions, remarks: list[str]) -> None:
    """Keep a sample of the pictures; rarest class and part keep their shares."""
    if options.limit is None or options.limit >= len(parts):
        return
    kept = sample(keys, rarest * 4 + parts, options.limit, seed=options.split.seed)
    left_out = np.setdiff1d(np.arange(len(parts)), kept)
    parts[left_out] = _LEFT_OUT
    remarks.append(f"{len(left_out):,} of {len(parts):,} usable pictures are left out by data.limit={options.limit}.")


def _split(parts: np.ndarray, keys: np.ndarray, rarest: np.ndarray, options: DataOptions, remarks: list[str]) -> None:
    """Divide the pictures that no source assigned; those of a train part too, for parts that have no source."""
    shares = {"validation": options.split.validation, "test": options.split.test}
    for part in shares:
        if (parts == _NUMBER[part]).any():
            shares[part] = 0.0
            if part in options.split.model_fields_set:
                remarks.append(f"data.split.{part} is not used: the {part} pictures come from a place of their own.")
    rows = np.flatnonzero(np.isin(parts, (TRAIN, UNSPLIT)))
    held_out, seed = (shares["validation"], shares["test"]), options.split.seed
    parts[rows] = split(keys[rows], rarest[rows], validation=held_out[0], test=held_out[1], seed=seed)


def _facts(intake: BoxIntake, number: int, facts: dict[str, Any]) -> dict[str, Any]:
    count, boxes = intake.counts[number], intake.boxes[number]
    counted = {"read": count.read, "used": count.used, "quarantined": count.quarantined, "blank": count.blank}
    return {"file": count.file, "part": count.part, "columns": {}, **facts, **counted, "boxes": asdict(boxes)}


def _hashes(sources: Sequence[BoxSource], columns: Columns) -> dict[str, str]:
    """Hash of each source's annotations, and one of what all used pictures show."""
    found = {source.shown: source.reader.sha256(source.path) for source in sources}
    return {**found, "pictures": hashlib.sha256(np.sort(columns.keys).astype("<u8").tobytes()).hexdigest()}
