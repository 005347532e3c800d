"""The classes of a data set: their names, what rows are stratified by, and whether they can be learned at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from tunesmith.data.labels import names_of, ordered
from tunesmith.data.store import Store
from tunesmith.errors import DataError
from tunesmith.types import Label


def classes(
    table: Sequence[Label], labels: np.ndarray, training: np.ndarray, fixed: tuple[str, ...] | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """(class names in order, per row [rows] the number of the class it is stratified by, -1 for none).

    table: what each code means; labels: code of each row [rows]; training: which rows may train [rows].
    A row of several classes counts for the rarest, which is dealt out first in Sechidis et al. 2011
    (doi:10.1007/978-3-642-23808-6_10).
    """
    rows = np.bincount(labels[training & (labels >= 0)], minlength=len(table))
    seen: Counter[str] = Counter()
    for label, count in zip(table, rows.tolist(), strict=True):
        for name in names_of(label):
            seen[name] += count
    names = fixed or ordered(name for name, count in seen.items() if count)
    place = {name: number for number, name in enumerate(names)}
    numbers = np.full(len(table) + 1, -1, dtype=np.int64)  # the last is for code -1, no label
    for code, label in enumerate(table):
        known = [name for name in names_of(label) if name in place]
        if known:
            numbers[code] = place[min(known, key=lambda name: (seen[name], place[name]))]
    return names, numbers[labels]


def class_counts(table: Sequence[Label], labels: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    """Rows of each class among these rows [rows]."""
    found = dict.fromkeys(names, 0)
    for label, count in zip(table, np.bincount(labels[labels >= 0], minlength=len(table)).tolist(), strict=True):
        for name in names_of(label):
            if name in found:
                found[name] += count
    return found


def check_classes(
    store: Store, labels: np.ndarray, training: np.ndarray, held: np.ndarray, table: Sequence[Label], *, shown: str
) -> None:
    """DataError for no training rows, a single class, labels that are no classes, or labels that train lacks.

    labels: code of each row [rows]; training, held: numbers of the rows to train on and of those to score on.
    """
    if not len(training):
        raise DataError(f"{shown}: no row to train on.")
    used = {name for code in np.unique(labels[training]) for name in names_of(table[code])}
    if not used:
        raise DataError(f"{shown}: no row has any label.")
    if len(used) < 2 and not isinstance(table[0], tuple):
        raise DataError(f'{shown}: all rows have the label "{next(iter(used))}"; at least two classes are needed.')
    if len(training) >= 100 and len(used) > 0.5 * len(training):
        raise DataError(
            f"{shown}: {len(used)} different labels in {len(training)} rows, such as {', '.join(sorted(used)[:4])}: "
            f"these are no classes. Choose another column with data.columns.label=NAME."
        )
    _no_new_label(store, labels, held, table, used)


def _no_new_label(store: Store, labels: np.ndarray, held: np.ndarray, table: Sequence[Label], used: set[str]) -> None:
    unknown = {code: [name for name in names_of(label) if name not in used] for code, label in enumerate(table)}
    codes = [code for code, names in unknown.items() if names]
    new: dict[str, list[int]] = {}
    for row in held[np.isin(labels[held], codes)].tolist():
        for name in unknown[int(labels[row])]:
            new.setdefault(name, []).append(row)
    if not new:
        return
    where = {name: ", ".join(f"{store[row].file}:{store[row].line}" for row in rows[:3]) for name, rows in new.items()}
    listed = "; ".join(f'"{name}" in {len(new[name])} rows ({where[name]})' for name in list(new)[:10])
    known = ", ".join(ordered(used))
    raise DataError(
        f"Labels that the training rows lack: {listed}. Train knows: {known[:500]}. Correct them, or put rows of "
        f"that class into train."
    )
