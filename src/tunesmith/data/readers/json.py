"""A JSON file that holds a list of objects, or an object with such a list under "data", "rows", "examples" ... (.json).

The list is read element by element, so the file may be larger than memory. An element that is no object, or is nested
too deep, is quarantined and reading goes on behind it. A .json file with one object a line is read as JSON Lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from tunesmith.data.encoding import LONGEST_LINE, find_encoding, open_text
from tunesmith.data.options import DataOptions
from tunesmith.data.readers.base import Reader, Row, Table, columns_of, peek
from tunesmith.data.strict_json import DEEPEST, TOKEN, as_row, parse
from tunesmith.errors import DataError

ROW_KEYS = ("data", "rows", "examples", "items", "records", "instances", "samples")
_CHUNK = 1 << 18
_BLANK = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r"[^,\[\]{}\s\"]+")


class Json(Reader):
    """Reads a list of objects."""

    endings = (".json",)
    settings = ("encoding",)

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[Table]:
        """One table."""
        found = find_encoding(path, options.encoding)
        sample, rows = peek(_rows(path, found.name, shown))
        yield Table(
            file=shown,
            columns=columns_of(sample),
            rows=rows,
            sample=sample,
            encoding=found.name,
            facts={"encoding": found.name},
            notes=[found.note] if found.note else [],
        )


def _rows(path: Path, encoding: str, shown: str) -> Iterator[Row]:
    with open_text(path, encoding, newline="") as stream:
        scanner = _Scanner(stream, shown)
        match scanner.peek():
            case "":
                raise DataError(f"{shown} is empty ({path.stat().st_size} bytes): there is no row in it.")
            case "[":
                yield from _elements(scanner)
            case "{":
                yield from _under_a_key(scanner)
            case other:
                raise DataError(f'{shown} starts with "{other}", not with [ or {{: it is no JSON list of objects.')
        if scanner.peek():
            raise scanner.fault("text follows the end of the JSON value")


def _under_a_key(scanner: _Scanner) -> Iterator[Row]:
    keys: list[str] = []
    found = False
    scanner.skip("{")
    while scanner.peek() == '"':
        key, _ = parse(scanner.value()[0])
        keys.append(key)
        if not scanner.skip(":"):
            raise scanner.fault(f'a colon is missing behind the key "{key}"')
        if key in ROW_KEYS and not found and scanner.peek() == "[":
            found = True
            yield from _elements(scanner)
        else:
            scanner.value()
        if not scanner.skip(","):
            break
    if not scanner.skip("}"):
        raise scanner.fault("the JSON object is not closed here; perhaps the file was cut off")
    if not found:
        raise DataError(
            f"{scanner.shown} is a JSON object without a list of rows. Keys found: {', '.join(keys[:20]) or 'none'}. "
            f'Put the rows into a list of objects, [{{"text": ..., "label": ...}}, ...], alone or under the key "data".'
        )


def _elements(scanner: _Scanner) -> Iterator[Row]:
    scanner.skip("[")
    while (first := scanner.peek()) not in ("]", ""):
        line = scanner.line
        text, reason = scanner.value()
        if not text:
            raise scanner.fault(f'"{first}" stands where a row should start')
        values, wrong = (None, reason) if reason else as_row(text)
        yield Row(line, values, wrong, "" if values is not None else text)
        if not scanner.skip(",") and scanner.peek() not in ("]", ""):
            raise scanner.fault("a comma is missing between two rows")
    if not scanner.skip("]"):
        raise scanner.fault("the list of rows is not closed; perhaps the file was cut off")


@dataclass(slots=True)
class _Scanner:
    """Walks over JSON text piece by piece; `line` is where it stands."""

    stream: TextIO
    shown: str
    text: str = ""
    at: int = 0
    line: int = 1
    ended: bool = field(default=False)

    def peek(self) -> str:
        """The next character that is not blank, or "" at the end."""
        while True:
            blank = _BLANK.match(self.text, self.at)
            assert blank is not None
            self._advance(blank.end())
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def skip(self, character: str) -> bool:
        """Step over this character if it comes next."""
        if self.peek() != character:
            return False
        self._advance(self.at + 1)
        return True

    def value(self) -> tuple[str, str]:
        """The text of the next value, stepped over, and what is wrong with it as a whole."""
        self.peek()
        while True:
            end, reason = self._end()
            if end >= 0 and (end < len(self.text) or not self._more()):
                text = self.text[self.at : end]
                self._advance(end)
                return text, reason
            if end < 0 and (len(self.text) - self.at > LONGEST_LINE or not self._more()):
                raise self.fault("what starts here does not end: a bracket or quote is never closed")

    def fault(self, what: str) -> DataError:
        """The error for a file whose structure is broken, so that later rows cannot be found."""
        return DataError(f"{self.shown}: line {self.line}: {what}. Mend the file: later rows are out of reach.")

    def _end(self) -> tuple[int, str]:
        """Where the value that starts here ends (-1: not in the text so far)."""
        if self.text[self.at] not in '[{"':
            scalar = _SCALAR.match(self.text, self.at)
            return (scalar.end() if scalar else self.at), ""
        depth = deepest = 0
        for token in TOKEN.finditer(self.text, self.at):
            match token.group():
                case "[" | "{":
                    depth += 1
                    deepest = max(deepest, depth)
                case "]" | "}":
                    depth -= 1
                case '"':
                    return -1, ""
            if depth == 0:
                return token.end(), f"nested deeper than {DEEPEST} levels" if deepest > DEEPEST else ""
        return -1, ""

    def _advance(self, to: int) -> None:
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def _more(self) -> bool:
        """Read on; what lies behind is let go. Pieces double, so that a long row is not scanned too often."""
        if self.ended:
            return False
        new = self.stream.read(max(_CHUNK, len(self.text) - self.at))
        if new:
            self.text, self.at = self.text[self.at :] + new, 0
        self.ended = not new
        return bool(new)
