"""From what the recipe says about data to a cleaned, split `Dataset` on disk. READ THIS FIRST in this folder.

find -> read and choose columns -> clean -> settle the labels -> count duplicates and leaks -> limit -> split
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tunesmith.data import notes
from tunesmith.data.classes import check_classes, class_counts, classes
from tunesmith.data.clean import Intake
from tunesmith.data.columns import Chosen, choose
from tunesmith.data.find import Source, find, find_one, pictures_within
from tunesmith.data.options import DataOptions
from tunesmith.data.parts import PARTS
from tunesmith.data.quarantine import Count
from tunesmith.data.readers.base import Table
from tunesmith.data.settle import UNUSABLE, settle
from tunesmith.data.split import TEST, TRAIN, UNSPLIT, VALIDATION, sample, split
from tunesmith.data.store import ArrowExamples, Store
from tunesmith.errors import DataError
from tunesmith.types import Dataset, DataSummary, Examples, Label

_LEFT_OUT = -2
_NUMBER = {"train": TRAIN, "validation": VALIDATION, "test": TEST, None: UNSPLIT}


Form = Callable[[Table, str | None], tuple[Table, Chosen]]
"""Makes another table of one that was opened and of its part: rows in another form, and which columns they have."""


def load(
    options: DataOptions,
    folder: Path,
    *,
    inputs: tuple[str, ...],
    needs_label: bool = True,
    kind: str = "texts",
    form: Form | None = None,
) -> Dataset:
    """Read, clean and split the data; Arrow files, quarantine.jsonl and pictures that came as bytes go to `folder`.

    inputs: the task's columns, the first compulsory. kind: `texts`, or `images`, for which `Example.inputs["image"]` is
    a path or a locator (see `images.py`), or what `form` makes rows of (see `load_chats.py`). DataError, with what to
    do, where the data cannot be used.
    """
    sources, remarks = find(options, kind)
    with Intake(folder, inputs, options, needs_label=needs_label, kind=kind) as intake:
        files = _take(sources, intake, remarks, form)
    labels, exact, normal, groups = intake.columns()
    parts = _parts(intake.counts, len(labels))
    table, multi_label = settle(intake, labels, parts)
    intake.check()
    usable = parts != UNUSABLE
    store = Store(intake.path, table)
    training = np.isin(parts, (TRAIN, UNSPLIT))
    names, targets = classes(table, labels, training, options.labels)
    if needs_label:
        held = np.flatnonzero(np.isin(parts, (VALIDATION, TEST)))
        try:
            check_classes(store, labels, np.flatnonzero(training), held, table, shown=options.path)
        except DataError as error:
            raise DataError(str(error) + notes.of_first_faults(intake)) from None
    noun = intake.cells.noun
    remarks += notes.of_contents(exact[usable], normal[usable], labels[usable], noun)
    _limit(parts, normal, targets, options, remarks)
    remarks += notes.of_leaks(exact, normal, parts, noun)  # before the split, against all that the train file holds
    grouped = groups if options.split.group_by or options.columns.group else intake.cells.links()
    _split(parts, normal, targets, grouped, options, remarks)
    counts = {p: class_counts(table, labels[parts == _NUMBER[p]], names) for p in PARTS}
    if needs_label:
        remarks += notes.of_classes(counts, multi_label)
    remarks += notes.of_intake(intake)
    summary = DataSummary(
        read=sum(c.read for c in intake.counts),
        used=sum(c.used for c in intake.counts),
        quarantined=sum(c.quarantined for c in intake.counts),
        blank=sum(c.blank for c in intake.counts),
        files=tuple(_file_facts(f, c) for f, c in zip(files, intake.counts, strict=True)),
        split_sizes={part: int((parts == _NUMBER[part]).sum()) for part in PARTS},
        class_counts=counts,
        notes=notes.worst_first(remarks),
        sha256={s.shown: s.reader.sha256(s.path) for s in sources} | _sha256_of_pictures(store),
    )
    train, validation, test = (ArrowExamples(store, np.flatnonzero(parts == _NUMBER[part])) for part in PARTS)
    return Dataset(train, validation, test, names, multi_label, summary, folder)


def read_unlabelled(
    path: str,
    options: DataOptions,
    folder: Path,
    inputs: tuple[str, ...],
    *,
    kind: str = "texts",
    form: Form | None = None,
) -> Examples:
    """The rows of one file or folder in their order, for predictions; a label is kept where there is one.

    The same law and the same quarantine as in `load`; what the recipe says about columns, encoding and so on holds here
    too, as far as the columns are there.
    """
    remarks: list[str] = []
    with Intake(folder, inputs, options, needs_label=False, kind=kind) as intake:
        _take(find_one(path, options, kind), intake, remarks, form)
    intake.check()
    found = [read.value for read in intake.found()]
    multi = any(isinstance(value, tuple) for value in found)
    table: list[Label] = [(value,) if multi and isinstance(value, str) else value for value in found]
    store = Store(intake.path, table)
    return ArrowExamples(store, np.arange(len(store)))


@dataclass(frozen=True, slots=True)
class _File:
    shown: str
    columns: dict[str, str | None]
    facts: dict[str, Any]


def _take(sources: Sequence[Source], intake: Intake, remarks: list[str], form: Form | None) -> list[_File]:
    files = []
    options = intake.options
    for source in sources:
        within = pictures_within(source.path, options)
        for opened in source.reader.tables(source.path, options, shown=source.shown):
            if not opened.columns:
                _no_columns(intake, opened)
            part = source.part or opened.part
            table, chosen = form(opened, part) if form else (opened, _chosen(opened, part, intake))
            intake.take(table, chosen, part, within)
            remarks += [chosen.note] if chosen.note else []
            remarks += [note for note in table.notes if note not in remarks]
            columns = {**chosen.inputs, "label": chosen.label, "group": chosen.group}
            files.append(_File(table.file, {k: v for k, v in columns.items() if v is not None}, dict(table.facts)))
    return files


def _chosen(table: Table, part: str | None, intake: Intake) -> Chosen:
    return choose(
        table.columns,
        intake.options,
        inputs=intake.inputs,
        needs_label=intake.needs_label,
        needs_group=intake.needs_label and part in (None, "train"),
        file=table.file,
        sample=table.sample,
        named=table.named,
    )


def _no_columns(intake: Intake, table: Table) -> NoReturn:
    """A file at whose start no row could be read: the reasons go to quarantine, and the first are in the error."""
    intake.take(table, Chosen({}, None, None), None)
    intake.check()
    raise DataError(f"{table.file}: none of the first rows can be read, so its columns are not known.")


def _parts(counts: Sequence[Count], rows: int) -> np.ndarray:
    """Part of each row as its file says; `UNSPLIT` where it says nothing."""
    parts = np.full(rows, UNSPLIT, dtype=np.int8)
    for count in counts:
        parts[count.rows.start : count.rows.stop] = _NUMBER[count.part]
    return parts


def _limit(parts: np.ndarray, keys: np.ndarray, targets: np.ndarray, options: DataOptions, remarks: list[str]) -> None:
    """Keep a sample of the usable rows; class and part keep their shares."""
    usable = np.flatnonzero(parts != UNUSABLE)
    if options.limit is None or options.limit >= len(usable):
        return
    strata = targets[usable] * 4 + parts[usable]
    kept = usable[sample(keys[usable], strata, options.limit, seed=options.split.seed)]
    left_out = np.setdiff1d(usable, kept)
    parts[left_out] = _LEFT_OUT
    remarks.append(f"{len(left_out):,} of {len(usable):,} usable rows are left out by data.limit={options.limit}.")


def _split(
    parts: np.ndarray,
    keys: np.ndarray,
    targets: np.ndarray,
    groups: np.ndarray | None,
    options: DataOptions,
    remarks: list[str],
) -> None:
    """Divide the rows that no file assigned; those of a file called train too, for parts that have no file."""
    shares = {"validation": options.split.validation, "test": options.split.test}
    for part in shares:
        if (parts == _NUMBER[part]).any():
            shares[part] = 0.0
            if part in options.split.model_fields_set:
                remarks.append(f"data.split.{part} is not used: the {part} rows come from a place of their own.")
    rows = np.flatnonzero(np.isin(parts, (TRAIN, UNSPLIT)))
    given = None if groups is None else groups[rows]
    parts[rows] = split(keys[rows], targets[rows], **shares, seed=options.split.seed, groups=given)


def _sha256_of_pictures(store: Store) -> dict[str, str]:
    """Hash over the content of all pictures in order: the files that name pictures do not tell when one changes."""
    keys = store.fact("key")
    return {} if keys is None else {"pictures": hashlib.sha256(keys.astype("<u8").tobytes()).hexdigest()}


def _file_facts(file: _File, count: Count) -> dict[str, Any]:
    counted = {"read": count.read, "used": count.used, "quarantined": count.quarantined, "blank": count.blank}
    facts = {key: dict(value) if isinstance(value, Mapping) else value for key, value in file.facts.items()}
    return {"file": file.shown, "part": count.part, "columns": file.columns, **facts, **counted}
