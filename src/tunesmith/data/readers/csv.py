"""Comma-separated values, and tabs, semicolons or bars instead of commas: .csv, .tsv, .txt.

Encoding, separator, line ends, and whether there is a header are found out from the first 256 KiB and said in the
summary; `encoding`, `separator` and `header` settle them. Double quotes follow RFC 4180. In tab-separated files quotes
are plain characters unless the file plainly quotes (doubled quotes, or tabs or line ends inside quotes, and no quote
out of place). Fields may be of any length; a row with too few or too many fields is quarantined.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from tunesmith.data.columns import is_known
from tunesmith.data.delimited import Record, records
from tunesmith.data.encoding import LONGEST_LINE, find_encoding, line_end, lines, open_text
from tunesmith.data.options import DataOptions
from tunesmith.data.readers.base import SAMPLE, Reader, Row, Table
from tunesmith.errors import DataError

SNIFFED = 1 << 18
"""Characters from the start of the file that decide how it is read."""
SEPARATORS = (",", ";", "\t", "|")
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", "": "none (one column)"}


class Csv(Reader):
    """Reads delimited text."""

    endings = (".csv", ".tsv", ".tab", ".txt")
    settings = ("encoding", "separator", "header")

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[Table]:
        """One table."""
        found = find_encoding(path, options.encoding)
        head, whole = _head(path, found.name)
        if not head.strip():
            raise DataError(f"{shown} is empty ({path.stat().st_size} bytes): there is no row in it.")
        form = _form(path, head, whole=whole, options=options)
        sample = _start(head, form, whole)
        header, columns = _header(sample, options, shown)
        values = tuple(
            dict(zip(columns, r.fields, strict=True))
            for r in sample[0 if header is None else 1 :]
            if r.fields and len(r.fields) == len(columns) and any(map(str.strip, r.fields))
        )
        yield Table(
            file=shown,
            columns=columns,
            rows=_rows(path, found.name, form, columns, header),
            sample=values,
            named=header is not None,
            encoding=found.name,
            facts={
                "encoding": found.name,
                "separator": _NAMES.get(form.separator, form.separator),
                "header": header is not None,
                "line_ends": "CR" if form.newline == "\r" else "LF or CRLF",
            },
            notes=[note for note in (found.note, _separator_note(path, form, options)) if note],
        )


@dataclass(frozen=True, slots=True)
class _Form:
    """How the file is written."""

    separator: str
    quoted: bool
    newline: str


def _head(path: Path, encoding: str) -> tuple[str, bool]:
    """The start of the file, at least its first two lines, and whether that is all of it."""
    with open_text(path, encoding, newline="") as stream:
        head = ""
        while chunk := stream.read(SNIFFED):
            head += chunk
            if len(head) > LONGEST_LINE or (len(head) >= SNIFFED and len(head.strip().splitlines()) > 2):
                return head, False
        return head, True


def _form(path: Path, head: str, *, whole: bool, options: DataOptions) -> _Form:
    newline = line_end(head)
    if options.separator != "auto":
        candidates: tuple[str, ...] = (options.separator,)
    elif path.suffix.lower() in (".tsv", ".tab"):
        candidates = ("\t", *(s for s in SEPARATORS if s != "\t"))
    else:
        candidates = SEPARATORS
    best, best_share = _Form(options.separator if options.separator != "auto" else "", True, newline), 0.5
    for separator in candidates:
        form = _Form(separator, separator != "\t" or _plainly_quotes(head, whole, newline), newline)
        share = _share(_start(head, form, whole))
        if share > best_share:
            best, best_share = form, share
    if best_share == 0.5 and options.separator == "\t":
        return _Form("\t", _plainly_quotes(head, whole, newline), newline)
    return best


def _start(head: str, form: _Form, whole: bool, limit: int = SAMPLE + 1) -> list[Record]:
    """The first records that are not blank."""
    stream = io.StringIO(head, newline=form.newline)
    whole_lines = iter(stream) if whole else (line for line in stream if line.endswith(form.newline))
    found = records(whole_lines, form.separator, quoted=form.quoted, width=None)
    return list(islice((r for r in found if r.fields is None or any(map(str.strip, r.fields))), limit))


def _share(sample: Sequence[Record]) -> float:
    """Share of records with the usual number of fields; 0 for one column, half where the first record differs."""
    widths = [len(r.fields) if r.fields is not None else 0 for r in sample]
    usual, count = Counter(widths).most_common(1)[0] if widths else (0, 0)
    if usual < 2:
        return 0.0
    return count / len(widths) * (1.0 if widths[0] == usual else 0.5)


def _plainly_quotes(head: str, whole: bool, newline: str) -> bool:
    if '"' not in head:
        return False
    sample = _start(head, _Form("\t", True, newline), whole, limit=100_000)
    if not whole:  # the end of the sample may cut a field that is rightly quoted
        sample = list(takewhile(lambda r: not r.reason.startswith("a quote opens here"), sample))
    if any(r.fields is None for r in sample):
        return False
    meant = sum(1 for r in sample for f in r.fields or () if ('"' in f and '""' in r.raw) or "\t" in f or "\n" in f)
    every = all(r.raw.startswith('"') and r.raw.rstrip("\r\n").endswith('"') for r in sample)
    return meant > 0 or every


def _header(sample: Sequence[Record], options: DataOptions, shown: str) -> tuple[int | None, tuple[str, ...]]:
    """(line of the header or None, names of the columns)."""
    first = sample[0]
    if first.fields is None:
        raise DataError(f"{shown}: line {first.line}, the first row, cannot be read: {first.reason}.")
    cells = [cell.strip() for cell in first.fields]
    if options.header is False or (options.header == "auto" and not _is_header(cells, sample[1:], options)):
        usual = Counter(len(r.fields) for r in sample if r.fields is not None).most_common(1)[0][0]
        return None, tuple(f"column_{i + 1}" for i in range(usual))
    names = [cell or f"column_{i + 1}" for i, cell in enumerate(cells)]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(
            f'{shown}: the header (line {first.line}) names {len(names)} columns, but "{twice[0]}" stands there more '
            f"than once: {', '.join(names)}. Give each column a name of its own."
        )
    return first.line, tuple(names)


def _is_header(cells: Sequence[str], rest: Sequence[Record], options: DataOptions) -> bool:
    """Known names make a header; a first cell that comes again below, in a column of few values, makes it a row."""
    if any(is_known(cell, options) for cell in cells):
        return True
    for place, cell in enumerate(cells):
        below = [r.fields[place].strip() for r in rest if r.fields is not None and len(r.fields) == len(cells)]
        if cell in below and 2 * len(set(below)) <= len(below):
            return False
    return True


def _separator_note(path: Path, form: _Form, options: DataOptions) -> str:
    usual = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    if options.separator != "auto" or form.separator in (usual, "") or path.suffix.lower() == ".txt":
        return ""
    return f"{path.name}: fields are separated by {_NAMES[form.separator]}s, not {_NAMES[usual]}s; read so."


def _rows(path: Path, encoding: str, form: _Form, columns: Sequence[str], header: int | None) -> Iterator[Row]:
    width = len(columns)
    with open_text(path, encoding, newline=form.newline) as stream:
        for line, fields, reason, raw in records(lines(stream, path), form.separator, quoted=form.quoted, width=width):
            if line == header:
                continue
            if fields is None:
                yield Row(line, None, reason, raw.rstrip("\r\n"))
            elif len(fields) == width and (fields[0].strip() or any(map(str.strip, fields))):
                values: Mapping[str, Any] = dict(zip(columns, fields, strict=True))
                yield Row(line, values)
            elif not any(map(str.strip, fields)):
                yield Row(line, None)
            else:
                yield Row(line, None, f"{len(fields)} fields where {width} are expected", raw.rstrip("\r\n"))
