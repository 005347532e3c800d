"""Delimited lines to fields, so that a fault costs its own row and never the rows after it.

As in RFC 4180, a field that starts with a double quote runs to the next single double quote, over line ends too. A
quote that is not followed by a separator or a line end was never closed rightly: its first line is given back as bad
and reading goes on with the next line, where the csv module would swallow the rest of the file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

LONGEST_QUOTE = 1 << 24
"""Characters that one quoted field may have; past them the quote counts as never closed."""


class Record(NamedTuple):
    """One record: where it starts, its fields or, with fields None, why its line is bad, and the line itself."""

    line: int
    fields: list[str] | None
    reason: str
    raw: str


def records(lines: Iterator[str], separator: str, *, quoted: bool, width: int | None) -> Iterator[Record]:
    """Records of the lines. separator "": one column. quoted: whether double quotes mean something.

    width: expected number of fields; a record over several lines that misses it gives up its first line only.
    """
    source = _Source(lines)
    while (line := source.next()) is not None:
        number = source.number
        if not quoted or '"' not in line:
            body = line.rstrip("\r\n") if line.endswith(("\n", "\r")) else line
            yield Record(number, body.split(separator) if separator else [body], "", line)
            continue
        source.extra.clear()
        fields, reason = _fields(line, separator, source)
        if source.extra and (fields is None or (width is not None and len(fields) != width)):
            source.push_back()
            fields = None
            reason = "a quote opens here that is never closed, or closed only some lines later in another row"
        yield Record(number, fields, reason, line)


@dataclass(slots=True)
class _Source:
    """Lines with their count; what was read ahead for an open quote can be pushed back."""

    lines: Iterator[str]
    number: int = 0
    extra: list[str] = field(default_factory=list)
    waiting: deque[str] = field(default_factory=deque)

    def next(self) -> str | None:
        line = self.waiting.popleft() if self.waiting else next(self.lines, None)
        self.number += line is not None
        return line

    def more(self) -> str | None:
        line = self.next()
        if line is not None:
            self.extra.append(line)
        return line

    def push_back(self) -> None:
        self.waiting.extendleft(reversed(self.extra))
        self.number -= len(self.extra)


def _fields(text: str, separator: str, source: _Source) -> tuple[list[str] | None, str]:
    """Fields of the record that starts with `text`, drawing further lines while a quote is open."""
    fields: list[str] = []
    at = 0
    while True:
        if not text.startswith('"', at):
            end = text.find(separator, at) if separator else -1
            if end < 0:
                fields.append(text[at:].rstrip("\r\n"))
                return fields, ""
            fields.append(text[at:end])
            at = end + 1
            continue
        text, close = _close(text, at + 1, source)
        if close < 0:
            return None, "a quote opens here that is never closed"
        fields.append(text[at + 1 : close].replace('""', '"'))
        after = text[close + 1 : close + 2]
        if not after or after in "\r\n":
            return fields, ""
        if after != separator:
            return None, 'text follows a closing quote (inside a quoted field, a quote must be doubled: "")'
        at = close + 2


def _close(text: str, scan: int, source: _Source) -> tuple[str, int]:
    """The text, longer by the lines that were needed, and the place of the quote that closes the field (-1: none)."""
    start = scan
    while True:
        close = text.find('"', scan)
        if close < 0:
            scan = len(text)
            extra = source.more() if len(text) - start < LONGEST_QUOTE else None
            if extra is None:
                return text, -1
            text += extra
        elif text.startswith('"', close + 1):
            scan = close + 2
        else:
            return text, close
