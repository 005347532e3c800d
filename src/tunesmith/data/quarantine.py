"""Rows that could not be used: each goes to quarantine.jsonl with its reason, and too many of them stop the load."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.data.encoding import printable
from tunesmith.errors import DataError, DiskError

QUARANTINE = "quarantine.jsonl"
SHOWN = 5
"""Reasons that an error message lists."""
_LONGEST_BYTES = 200
"""Binary data up to this length are kept as written; of longer ones only the length."""


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


class Quarantine:
    """The file quarantine.jsonl in `folder`, begun anew; `first` holds the first reasons for messages."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / QUARANTINE
        self.first: list[str] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")
        except OSError as error:
            raise DiskError(f"{folder} cannot be written: {error}") from error

    def add(self, file: str, line: int, reason: str, raw: Any) -> None:
        """Write one unused row, also after `close`."""
        file, reason = printable(file), printable(reason)
        if len(self.first) < SHOWN:
            self.first.append(f"{file}:{line}: {reason}")
        entry = {"file": file, "line": line, "reason": reason, "raw": _plain(raw)}
        try:
            if self._file.closed:
                self._file = self._path.open("a", encoding="utf-8")
            self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        except OSError as error:
            raise DiskError(f"{QUARANTINE} cannot be written: {error}") from error

    def close(self) -> None:
        """All rows so far are on disk."""
        self._file.close()


def add_to_quarantine(folder: Path, file: str, line: int, reason: str, raw: Any) -> None:
    """One row more, after the data were read: the file's end. DiskError where it cannot be written."""
    entry = {"file": printable(file), "line": line, "reason": printable(reason), "raw": _plain(raw)}
    try:
        with (folder / QUARANTINE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
    except OSError as error:
        raise DiskError(f"{folder / QUARANTINE} cannot be written: {error}") from error


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
    if isinstance(value, bytes) and len(value) > _LONGEST_BYTES:
        return f"{len(value):,} bytes"
    return str(value)
