"""What the labels of a data set mean once all are read: names, or several a row; rows of an odd kind are taken out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunesmith.data.clean import Intake
from tunesmith.data.labels import Read, column_kind, is_of
from tunesmith.data.quarantine import Count
from tunesmith.data.store import Store
from tunesmith.errors import DataError
from tunesmith.types import Label

UNUSABLE = -3
"""The part of a row that was stored and then found unusable."""


def settle(intake: Intake, labels: np.ndarray, parts: np.ndarray) -> tuple[list[Label], bool]:
    """What each code means, and whether rows have several labels; rows of an odd kind become unusable."""
    found, options = intake.found(), intake.options
    kinds = set()
    for count in intake.counts:
        here = labels[count.rows.start : count.rows.stop]
        if not len(here) or here.max() < 0:
            continue
        least = min(0.99, 1 - options.max_bad_share)
        kind = column_kind(found, np.bincount(here[here >= 0], minlength=len(found)), least=least, file=count.file)
        kinds.add(kind)
        odd = [code for code, read in enumerate(found) if not is_of(read, kind)]
        _quarantine_odd(
            intake, count, np.flatnonzero(np.isin(here, odd)) + count.rows.start, found, labels, parts, kind
        )
    lists = any(kind.startswith("list") for kind in kinds)
    multi = lists if options.multi_label == "auto" else options.multi_label
    if lists and not multi:
        long = next((read.value for read in found if isinstance(read.value, tuple) and len(read.value) != 1), None)
        if long is not None:
            raise DataError(
                f"data.multi_label is false, but one row has the labels {list(long)}: leave it out or set true."
            )
    return [_as_label(read.value, multi) for read in found], multi


def _as_label(value: str | tuple[str, ...], multi: bool) -> Label:
    if multi:
        return (value,) if isinstance(value, str) else value
    return value if isinstance(value, str) else next(iter(value), "")


def _quarantine_odd(
    intake: Intake,
    count: Count,
    rows: np.ndarray,
    found: Sequence[Read],
    labels: np.ndarray,
    parts: np.ndarray,
    kind: str,
) -> None:
    """The raw row that is kept here holds the columns that count, as stored."""
    store = Store(intake.path, [read.value for read in found]) if len(rows) else None
    for row in rows.tolist():
        assert store is not None
        example, read = store[row], found[labels[row]]
        reason = f"the label {read.value!r} is of type {read.kind}, while the column's labels are of type {kind}"
        intake.quarantine(example.file, example.line, reason, {**example.inputs, "label": read.value})
        parts[row] = UNUSABLE
    count.used -= len(rows)
    count.quarantined += len(rows)
    count.check()
