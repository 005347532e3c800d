"""Which encoding a text file is in, by rules that always give the same answer, and how to read it without losing a row.

Rules, first match wins: a byte-order mark; zero bytes on one side of every pair (UTF-16); strict UTF-8; UTF-8 with few
damaged bytes; GB18030 when nearly everything decodes and most of it is common Chinese; else cp1252, or Latin-1 where
the file uses bytes that cp1252 lacks. What fits none of these is refused: a wrong guess would train on garbage.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

from tunesmith.errors import DataError, did_you_mean

CHUNK = 1 << 20
LONGEST_LINE = 1 << 26
"""Characters; a longer line means that the file is not made of lines, and must not fill the memory."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_COMMON = ("utf-8", "utf-16", "gb18030", "gbk", "big5", "cp1252", "latin-1", "cp1251", "shift_jis", "euc_kr", "koi8-r")
_UNDEFINED_IN_CP1252 = b"\x81\x8d\x8f\x90\x9d"


@dataclass(frozen=True, slots=True)
class Encoding:
    """A codec's name as Python knows it, and a sentence for the person where it was not plain UTF-8."""

    name: str
    note: str = ""


def find_encoding(path: Path, asked: str = "auto") -> Encoding:
    """The encoding to read `path` with; DataError where none can be told, or `asked` is unknown."""
    with path.open("rb") as stream:
        head = stream.read(CHUNK)
        marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
        if asked != "auto":
            return Encoding(_asked(asked, marked))
        if marked:
            return Encoding(marked)
        if sided := _zero_sided(head):
            return Encoding(sided, f"{path.name}: no byte-order mark, but zero bytes as in {sided}; read as {sided}.")
        wrong = _first_wrong_byte(stream)
        if wrong is None:
            return Encoding("utf-8")
        stream.seek(max(0, wrong - 64))
        name = _guess(path, head + stream.read(4 * CHUNK), wrong)
        if name == "cp1252" and _holds(stream, _UNDEFINED_IN_CP1252):
            name = "latin-1"
    if name == "utf-8":
        return Encoding(name, f"{path.name}: byte {wrong} is not UTF-8, nearly all others are; its row is quarantined.")
    return Encoding(name, f"{path.name}: byte {wrong} is not UTF-8; read as {name}. If that is wrong, set encoding.")


def decode(raw: bytes, path: Path, asked: str = "auto") -> tuple[str, Encoding]:
    """All of a small file's text; undecodable bytes are marked as `open_text` marks them."""
    if asked == "auto" and not raw.startswith(tuple(mark for mark, _ in _MARKS)):
        try:
            return raw.decode("utf-8"), Encoding("utf-8")
        except UnicodeDecodeError:
            pass
    found = find_encoding(path, asked)
    return raw.decode(found.name, errors=_marking()), found


def open_text(path: Path, encoding: str, newline: str = "\n") -> TextIO:
    """The file as text. A byte that does not decode becomes the lone surrogate U+DC00 + byte: see `wrong_bytes`."""
    return path.open("r", encoding=encoding, errors=_marking(), newline=newline)


def wrong_bytes(text: str) -> list[int]:
    """The undecodable bytes (or halves of surrogate pairs) in a text that was read by `open_text`."""
    return [ord(c) - 0xDC00 if 0xDC00 <= ord(c) <= 0xDCFF else ord(c) for c in text if "\ud800" <= c <= "\udfff"]


def printable(text: str) -> str:
    r"""The text with undecodable bytes as \xNN, so that it can be written as UTF-8."""
    if text.isascii():
        return text
    return re.sub("[\ud800-\udfff]", lambda m: "".join(f"\\x{byte:02x}" for byte in wrong_bytes(m.group())), text)


def lines(stream: TextIO, path: Path) -> Iterator[str]:
    """Lines with their ends; DataError where one is longer than `LONGEST_LINE` characters."""
    number = 0
    while line := stream.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise DataError(f"{path}: line {number} has over {LONGEST_LINE:,} characters. Is this a text file?")
        yield line


def line_end(sample: str) -> str:
    """The character that ends lines: a file without any line feed uses carriage returns (old Mac)."""
    return "\r" if "\r" in sample and "\n" not in sample else "\n"


def _marking() -> str:
    name = "tunesmith-mark"
    codecs.register_error(name, _mark)
    return name


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


def _asked(asked: str, marked: str | None) -> str:
    try:
        "".encode(asked)
        name = codecs.lookup(asked).name
    except LookupError:
        raise DataError(
            f'data.encoding: "{asked}" is no text encoding.{did_you_mean(asked, _COMMON)} Known: {", ".join(_COMMON)}, '
            f'and all others that Python lists under "Standard Encodings"; leave it out to have it found.'
        ) from None
    if name == "utf-8":
        return "utf-8-sig"  # the same, and a byte-order mark would not become part of the first column's name
    family = name.rpartition("-")[0] if name.endswith(("-le", "-be")) else name
    return family if marked == family else name


def _zero_sided(head: bytes) -> str | None:
    """UTF-16 without a mark: ASCII characters, commas and line ends at least, have their zero byte on one side."""
    first, second = head[0::2].count(0), head[1::2].count(0)
    enough = len(head) * 0.01
    if second > enough and second >= 10 * first:
        return "utf-16-le"
    return "utf-16-be" if first > enough and first >= 10 * second else None


def _first_wrong_byte(stream: BinaryIO) -> int | None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    stream.seek(0)
    done = 0
    while True:
        chunk = stream.read(CHUNK)
        kept = len(decoder.getstate()[0])
        try:
            decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            return done - kept + error.start
        if not chunk:
            return None
        done += len(chunk)


def _guess(path: Path, sample: bytes, wrong: int) -> str:
    if _is_damaged_utf8(sample):
        return "utf-8"
    letters = len(re.findall(rb"[A-Za-z\x80-\xff]", sample))
    high = len(re.findall(rb"[\x80-\xff]", sample))
    if _is_chinese(sample):
        return "gb18030"
    if letters >= 20 and high > 0.3 * letters:
        raise DataError(
            f"{path}: its encoding cannot be told. Byte {wrong} is not UTF-8, the file is not GB18030, and it has "
            f"too many non-ASCII bytes for a Western text. Say which it is, such as data.encoding=big5 (or shift_jis, "
            f"euc_kr, cp1251, koi8-r), or save the file as UTF-8."
        )
    return "cp1252"


def _is_damaged_utf8(sample: bytes) -> bool:
    """Ten good sequences for each bad byte: no other encoding looks like that."""
    text = sample.decode("utf-8", errors="replace")
    replaced = text.count("\ufffd") - sample.count("\ufffd".encode())
    good = len(re.findall(r"[^\x00-\x7f]", text)) - replaced
    return good >= 10 * replaced


def _is_chinese(sample: bytes) -> bool:
    """Nearly all decodes, 70 % of it lies in GB2312, and it is neither kana (EUC-JP) nor only hangul rows (EUC-KR)."""
    text = sample.decode("gb18030", errors="replace")
    high = re.findall(r"[^\x00-\x7f]", text)
    common = re.findall(rb"([\xa1-\xf7])[\xa1-\xfe]", text.encode("gb2312", errors="ignore"))
    if not high or 50 * text.count("\ufffd") > len(high) or len(common) < 0.7 * len(high):
        return False
    kana = common.count(b"\xa4") + common.count(b"\xa5")
    ideographs = [lead for lead in common if lead >= b"\xb0"]
    hangul = sum(lead <= b"\xc8" for lead in ideographs)
    return kana < 0.2 * len(common) and not (len(ideographs) >= 50 and hangul > 0.97 * len(ideographs))


def _holds(stream: BinaryIO, some: bytes) -> bool:
    stream.seek(0)
    while chunk := stream.read(CHUNK):
        if len(chunk.translate(None, some)) < len(chunk):
            return True
    return False
