"""Raw rows to examples on disk, or to quarantine with a reason; nothing in between, and nothing lost.

The law: rows read = rows used + rows quarantined + blank rows. It is checked whenever a table ends.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tunesmith.data.columns import Chosen
from tunesmith.data.duplicates import as_numbers, key_of, keys_of
from tunesmith.data.encoding import printable, wrong_bytes
from tunesmith.data.labels import TOO_MANY, Read, not_allowed, read_label
from tunesmith.data.options import DataOptions
from tunesmith.data.readers.base import Row, Table
from tunesmith.data.store import Writer
from tunesmith.errors import DataError, DiskError

ROWS = "rows.arrow"
QUARANTINE = "quarantine.jsonl"
SHOWN = 5
"""Reasons that an error message lists."""


@dataclass(slots=True)
class Count:
    """What became of one table's rows; `rows` says where its used rows lie in the store."""

    file: str
    part: str | None
    read: int = 0
    used: int = 0
    quarantined: int = 0
    blank: int = 0
    rows: range = range(0)

    def check(self) -> None:
        """The law."""
        assert self.read == self.used + self.quarantined + self.blank, f"{self.file}: rows were lost: {self}"


class Intake:
    """Takes tables in, row by row. In memory stay 28 bytes a row: label code, exact, normalised and group key."""

    def __init__(self, folder: Path, inputs: tuple[str, ...], options: DataOptions, *, needs_label: bool) -> None:
        self.inputs, self.options, self.needs_label = inputs, options, needs_label
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._quarantine = (folder / QUARANTINE).open("w", encoding="utf-8")
            self._quarantine_path = folder / QUARANTINE
        except OSError as error:
            raise DiskError(f"{folder} cannot be written: {error}") from error
        self.path = folder / ROWS
        self._writer = Writer(self.path, inputs)
        self._grouped = bool(options.split.group_by or options.columns.group)
        self._codes: dict[Read, int] = {}
        self._seen: dict[str, int] = {}
        self._label, self._exact, self._normal, self._group = array("i"), bytearray(), bytearray(), bytearray()
        self.counts: list[Count] = []
        self.first: list[str] = []
        self.without_group = 0
        self.stripped = 0

    def take(self, table: Table, chosen: Chosen, part: str | None) -> Count:
        """Every row of one table."""
        count = Count(table.file, part)
        self.counts.append(count)
        start = len(self._label)
        columns = tuple(chosen.inputs[role] for role in self.inputs if role in chosen.inputs)
        for row in table.rows:
            count.read += 1
            if row.values is None:
                reason = row.reason
            else:
                reason = self._use(row, row.values, table, columns, chosen)
                if not reason:
                    count.used += 1
                    continue
            if reason:
                count.quarantined += 1
                self.quarantine(row.file or table.file, row.line, reason, row.values if row.values else row.raw)
            else:
                count.blank += 1
        count.rows = range(start, len(self._label))
        count.check()
        return count

    def quarantine(self, file: str, line: int, reason: str, raw: Any) -> None:
        """Write one unused row to quarantine.jsonl."""
        if len(self.first) < SHOWN:
            self.first.append(f"{file}:{line}: {reason}")
        entry = {"file": file, "line": line, "reason": reason, "raw": _plain(raw)}
        try:
            if self._quarantine.closed:
                self._quarantine = self._quarantine_path.open("a", encoding="utf-8")
            self._quarantine.write(json.dumps(entry, ensure_ascii=False) + "\n")
        except OSError as error:
            raise DiskError(f"{QUARANTINE} cannot be written: {error}") from error

    def found(self) -> tuple[Read, ...]:
        """The label that each code means."""
        return tuple(self._codes)

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Per used row [rows]: label code (-1: none), exact key, normalised key, group key."""
        labels = np.array(self._label, dtype=np.int32)
        return labels, as_numbers(self._exact), as_numbers(self._normal), as_numbers(self._group)

    def _use(self, row: Row, values: Mapping[str, Any], table: Table, columns: tuple[str, ...], chosen: Chosen) -> str:
        """Store a good row, or say what is wrong with it."""
        texts: list[Any] = [values.get(column) for column in columns]
        for column, text in zip(columns, texts, strict=True):
            if type(text) is not str or not text or text.isspace():
                return _text_fault(text, column, values)
        try:
            exact, normal = keys_of(texts)
        except UnicodeEncodeError:
            return _undecodable(texts, table.encoding)
        code = -1
        if chosen.label is not None:
            code, reason = self._code(values.get(chosen.label), chosen.label, table, missing=chosen.label not in values)
            if reason:
                return reason
        if self._grouped:
            name = None if chosen.group is None else values.get(chosen.group)
            self._group += self._group_key(name, f"{row.file or table.file}\n{row.line}")
        self._writer.add(texts, code, row.file or table.file, row.line)
        self._label.append(code)
        self._exact += exact
        self._normal += normal
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
        """Ends both files; `quarantine` may still be called until `check`."""
        self._writer.__exit__(kind, error, at)
        self._quarantine.close()

    def check(self) -> None:
        """Ends quarantine.jsonl; DataError where more rows are unusable than the recipe allows."""
        self._quarantine.close()
        check_share(self.counts, self.first, self.options.max_bad_share)


def check_share(counts: list[Count], first: list[str], allowed: float) -> None:
    """DataError where too many rows, or all, are unusable; the reasons and the way out are in it."""
    bad, used = sum(c.quarantined for c in counts), sum(c.used for c in counts)
    files = ", ".join(dict.fromkeys(c.file for c in counts[:3])) + (" ..." if len(counts) > 3 else "")
    if not bad and not used:
        raise DataError(f"{files}: there is no row in it, at most a header.")
    share = bad / (bad + used)
    if used and share <= allowed:
        return
    more = f"\n  and {bad - len(first)} more" if bad > len(first) else ""
    enough = math.ceil(share * 1000) / 1000
    way_out = f"allow them with data.max_bad_share={enough:g}" if used else "choose other columns"
    raise DataError(
        f"{files}: {bad} of {bad + used} rows cannot be used ({share:.1%}; at most {allowed:.2%} may be):\n  "
        + "\n  ".join(first)
        + f"{more}\nMend them, or {way_out}. All of them are in {QUARANTINE}."
    )


def _text_fault(text: Any, column: str, values: Mapping[str, Any]) -> str:
    if column not in values:
        return f'no value for "{column}"'
    if text is None or isinstance(text, str) or text != text:
        return f'the text in "{column}" is empty'
    kind = {bytes: "binary data", bool: "true or false", int: "a number", float: "a number", list: "a list"}
    return f'"{column}" is {kind.get(type(text), "an object")}, not text'


def _undecodable(texts: Sequence[str], encoding: str) -> str:
    wrong = wrong_bytes("".join(texts))[0]
    if wrong <= 0xFF:
        return f"byte 0x{wrong:02x} is not {encoding or 'UTF-8'}"
    return f"U+{wrong:04X}, half of a surrogate pair, is no character"


def _plain(value: Any) -> Any:
    """The value as JSON can hold it."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(str(key)): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)
