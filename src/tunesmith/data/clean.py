"""Raw rows to examples on disk, or to quarantine with a reason; nothing in between, and nothing lost.

The law: rows read = rows used + rows quarantined + blank rows. It is checked whenever a table ends.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.data.chat_cells import ChatCells
from tunesmith.data.columns import Chosen
from tunesmith.data.duplicates import as_numbers, key_of
from tunesmith.data.encoding import printable, wrong_bytes
from tunesmith.data.labels import TOO_MANY, Read, not_allowed, read_label
from tunesmith.data.options import DataOptions
from tunesmith.data.quarantine import Count, Quarantine, check_share
from tunesmith.data.readers.base import Row, Table
from tunesmith.data.store import Writer
from tunesmith.data.texts import Texts
from tunesmith.errors import DataError
from tunesmith.pulse import pulse

if TYPE_CHECKING:
    from tunesmith.data.images import Pictures

ROWS = "rows.arrow"


class Intake:
    """Takes tables in, row by row. In memory stay 28 bytes a row: label code, exact, normalised and group key."""

    def __init__(
        self, folder: Path, inputs: tuple[str, ...], options: DataOptions, *, needs_label: bool, kind: str
    ) -> None:
        self.inputs, self.options, self.needs_label = inputs, options, needs_label
        self._quarantine = Quarantine(folder)
        self.cells = _cells(kind, folder)
        self.path = folder / ROWS
        self._writer = Writer(self.path, inputs, self.cells.facts)
        self._grouped = bool(options.split.group_by or options.columns.group)
        self._codes: dict[Read, int] = {}
        self._seen: dict[str, int] = {}
        self._label, self._exact, self._normal, self._group = array("i"), bytearray(), bytearray(), bytearray()
        self.counts: list[Count] = []
        self.without_group = 0
        self.stripped = 0

    def take(self, table: Table, chosen: Chosen, part: str | None, within: Path | None = None) -> Count:
        """Every row of one table. within: the folder in which pictures that cells name lie."""
        count = Count(table.file, part)
        self.counts.append(count)
        start = len(self._label)
        columns = tuple(chosen.inputs[role] for role in self.inputs if role in chosen.inputs)
        for number, row in enumerate(table.rows):
            pulse(number)
            count.read += 1
            if row.values is None:
                reason = row.reason
            else:
                reason = self._use(row, row.values, table, columns, chosen, within)
                if not reason:
                    count.used += 1
                    continue
            if reason:
                count.quarantined += 1
                if row.line < count.read and not row.file:  # several rows on one line, or lines are not counted
                    reason += f" (row {count.read})"
                self.quarantine(row.file or table.file, row.line, reason, row.values if row.values else row.raw)
            else:
                count.blank += 1
        count.rows = range(start, len(self._label))
        count.check()
        return count

    def quarantine(self, file: str, line: int, reason: str, raw: Any) -> None:
        """Write one unused row to quarantine.jsonl."""
        self._quarantine.add(file, line, reason, raw)

    @property
    def first(self) -> list[str]:
        """The first reasons why rows could not be used."""
        return self._quarantine.first

    def found(self) -> tuple[Read, ...]:
        """The label that each code means."""
        return tuple(self._codes)

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Per used row [rows]: label code (-1: none), exact key, normalised key, group key."""
        labels = np.array(self._label, dtype=np.int32)
        return labels, as_numbers(self._exact), as_numbers(self._normal), as_numbers(self._group)

    def _use(
        self,
        row: Row,
        values: Mapping[str, Any],
        table: Table,
        columns: tuple[str, ...],
        chosen: Chosen,
        within: Path | None,
    ) -> str:
        """Store a good row, or say what is wrong with it."""
        kept = self.cells.check(values, columns, encoding=table.encoding, within=within, own_file=bool(row.file))
        if isinstance(kept, str):
            return kept
        code = -1
        if chosen.label is not None:
            code, reason = self._code(values.get(chosen.label), chosen.label, table, missing=chosen.label not in values)
            if reason:
                return reason
        if self._grouped:
            name = None if chosen.group is None else values.get(chosen.group)
            self._group += self._group_key(name, f"{row.file or table.file}\n{row.line}")
        self._writer.add(kept.inputs, code, row.file or table.file, row.line, kept.facts)
        self._label.append(code)
        self._exact += kept.exact
        self._normal += kept.normal
        return ""

    def _group_key(self, name: Any, place: str) -> bytes:
        """Key of a group's name; a row without one is a group of its own."""
        if name is None or name == "":
            self.without_group += 1
            return key_of((place,))
        return key_of((printable(str(name)),))

    def _code(self, value: Any, column: str, table: Table, *, missing: bool) -> tuple[int, str]:
        if type(value) is str and value in self._seen:
            return self._seen[value], ""
        if missing and self.needs_label:
            return -1, f'no value for the label "{column}"'
        read, reason = read_label(value, self.options.label_separator)
        if read is None:
            return -1, reason if self.needs_label else ""
        code = self._codes.get(read)
        if type(value) is str and value != read.value and isinstance(read.value, str):
            self.stripped += 1
        elif type(value) is str and code is not None:
            self._seen[value] = code  # the short way for the rows to come
        if code is not None:
            return code, ""
        if wrong := wrong_bytes("".join(read.value)):
            return -1, f"the label holds byte 0x{wrong[0]:02x}, which is not {table.encoding or 'UTF-8'}"
        if self.needs_label and (reason := not_allowed(read, self.options.labels)):
            return -1, reason
        if len(self._codes) >= TOO_MANY and self.needs_label:
            raise DataError(f'{table.file}: column "{column}" has over {TOO_MANY:,} labels: these are no classes.')
        return self._codes.setdefault(read, len(self._codes)), ""

    def __enter__(self) -> Intake:
        self._writer.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends the files; `quarantine` may still be called until `check`."""
        self._writer.__exit__(kind, error, at)
        self.cells.close(keep=kind is None)
        self._quarantine.close()

    def check(self) -> None:
        """Ends quarantine.jsonl; DataError where more rows are unusable than the recipe allows."""
        self._quarantine.close()
        check_share(self.counts, self.first, self.options.max_bad_share)


def _cells(kind: str, folder: Path) -> Texts | ChatCells | Pictures:
    """What checks the cells of that kind of data; the library that reads pictures is imported for pictures only."""
    if kind in ("chats", "preferences"):
        return ChatCells()
    if kind != "images":
        return Texts()
    from tunesmith.data.images import Pictures

    return Pictures(folder)
