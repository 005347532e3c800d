"""Texts to go on with: a .txt file, or a folder of them at any depth (.txt).

A file is one example if it is short. A longer one is divided, at blank lines where there are any, else at the ends of
lines or words, into pieces as long as may be, so that some fifty come of all files together, but of at most 2,000 to
16,000 characters; where the recipe words a chat by `data.template`, every file is whole. Folders called train,
validation and test are the parts. Beside `text` a row has `file`, its path in the folder, and in folders `folder`, the
name of the innermost one; all lines end as on Unix. A .txt file whose first line is a JSON object, or names columns of
questions and answers, is a table.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar

from tunesmith.data.columns import folded
from tunesmith.data.encoding import CHUNK, LONGEST_LINE, find_encoding, line_end, lines, open_text
from tunesmith.data.known_names import ANSWER, ASKED, ASKED_ELSE, CHOSEN, REJECTED
from tunesmith.data.options import DataOptions
from tunesmith.data.parts import part_of
from tunesmith.data.readers._walk import leads_out, walk
from tunesmith.data.readers.base import Reader, Row, Table
from tunesmith.errors import DataError

SHORTEST, LONGEST, PIECES = 2_000, 16_000, 50
_START = 1 << 12


class RawText(Reader):
    """Reads texts, file by file."""

    kinds: ClassVar[tuple[str, ...]] = ("chats", "preferences")
    settings: ClassVar[tuple[str, ...]] = ("encoding",)

    def recognises(self, path: Path) -> bool:
        """A text file that is no table."""
        return path.is_file() and path.suffix.lower() == ".txt" and not _is_table(path)

    def makes_do(self, path: Path) -> bool:
        """A folder with text files at any depth."""
        return path.is_dir() and any(_texts(path, path.resolve()))

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[Table]:
        """One table a part."""
        home = path.resolve()
        links = [] if path.is_file() else list(_links_aside(path, home, shown))
        for part, root in _parts(path):
            name = f"{shown.rstrip('/')}/{root.name}" if part else shown
            files = partial(_files, root, home)
            count = size = 0
            for file in files():
                count, size = count + 1, size + file.stat().st_size
            longest = None if options.template.given else min(max(size // PIECES, SHORTEST), LONGEST)
            encodings: Counter[str] = Counter()
            notes, links = [*links], []  # they are told once
            sample = [_place(file, root) | {"text": file.name} for file in islice(files(), 20)]
            yield Table(
                file=name,
                columns=("text", *(column for column in ("file", "folder") if any(column in one for one in sample))),
                rows=_rows(files, count, root, name, options.encoding, longest, encodings, notes),
                sample=tuple(sample),
                part=part,
                facts={"encodings": encodings, "files": count, "offers": ["file", "folder"]},
                notes=notes,
            )

    def sha256(self, path: Path) -> str:
        """Hash over every file's name and content."""
        if path.is_file():
            return super().sha256(path)
        digest = hashlib.sha256()
        for _, root in _parts(path):
            for file in _texts(root, path.resolve()):
                name = file.relative_to(path).as_posix()
                digest.update(f"{name}\0{file.stat().st_size}\0".encode(errors="replace"))
                with file.open("rb") as stream:
                    while chunk := stream.read(CHUNK):
                        digest.update(chunk)
        return digest.hexdigest()


def _is_table(path: Path) -> bool:
    with path.open("rb") as stream:
        start = stream.read(_START).decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    first = start.partition("\n")[0]
    if first.startswith(('{"', '[{"')):
        return True
    known = ({*ASKED, *ASKED_ELSE, *CHOSEN}, {*ANSWER, *REJECTED})
    cells = [{folded(cell.strip('" \r')) for cell in first.split(separator)} for separator in ",;\t|"]
    return any(all(names & one for names in known) for one in cells)


def _parts(path: Path) -> list[tuple[str | None, Path]]:
    """The file, or folders of texts, and the part that each is."""
    if path.is_file():
        return [(None, path)]
    home = path.resolve()
    folders = (folder for folder in sorted(path.iterdir()) if folder.is_dir() and not leads_out(folder, home))
    parts = [(part_of(folder.name), folder) for folder in folders]
    named = [(part, folder) for part, folder in parts if part and any(_texts(folder, home))]
    return list(named) if any(part == "train" for part, _ in named) else [(None, path)]


def _files(root: Path, home: Path) -> Iterator[Path]:
    return iter([root]) if root.is_file() else _texts(root, home)


def _texts(root: Path, home: Path) -> Iterator[Path]:
    """Text files by name; nothing hidden, no file about the files, and no link that leads out of the folder `home`."""
    for path in map(Path, walk(root, _is_text)):
        if path.is_file() and not leads_out(path, home):
            yield path


def _links_aside(path: Path, home: Path, shown: str) -> Iterator[str]:
    """Notes on links at any depth that are not followed."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for link in walk(path, lambda name, _: not name.startswith(".")):
        if os.path.islink(link) and ((out := leads_out(link, home)) or not os.path.isfile(link)):
            what = "links that lead out of it" if out else "links to folders or to nothing"
            counts[what] += 1
            first.setdefault(what, os.path.relpath(link, path))
    for what, count in counts.items():
        yield f"{shown}: left aside are {count} {what}, such as {first[what]}."


def _is_text(name: str, is_folder: bool) -> bool:
    if is_folder or name.startswith("."):
        return not name.startswith(".")
    about = name.casefold().startswith(("readme", "license", "licence")) and not part_of(name)
    return Path(name).suffix.lower() == ".txt" and not about


def _place(file: Path, root: Path) -> dict[str, str]:
    if file == root:
        return {}
    inside = file.relative_to(root)
    return {"file": inside.as_posix()} | ({"folder": inside.parent.name} if inside.parent.name else {})


def _rows(
    files: Callable[[], Iterator[Path]],
    count: int,
    root: Path,
    name: str,
    asked: str,
    longest: int | None,
    encodings: Counter[str],
    notes: list[str],
) -> Iterator[Row]:
    divided = 0
    odd: Counter[str] = Counter()
    first: dict[str, str] = {}
    for file in files():
        place = _place(file, root)
        shown = f"{name.rstrip('/')}/{place['file']}" if place else ""
        pieces = 0
        try:
            found = find_encoding(file, asked)
            if found.note:
                odd[found.name] += 1
                first.setdefault(found.name, found.note)
            encodings[found.name] += 1
            for line, text in _pieces(file, found.name, longest):
                pieces += 1
                yield Row(line, {"text": text, **place}, file=shown)
        except (DataError, OSError) as error:
            yield Row(1, None, str(error) if isinstance(error, DataError) else f"cannot be read: {error}", "", shown)
            continue
        divided += pieces > 1
        if not pieces:
            yield Row(1, None, file=shown)
    for encoding, note in first.items():
        notes.append(note if odd[encoding] == 1 else f"{note} So it is with {odd[encoding]:,} files in all.")
    if divided:
        which = f"{divided:,} of {count:,} files are" if count > 1 else "the file is"
        notes.append(f"{name}: {which} divided into pieces of at most {longest:,} characters.")


def _pieces(file: Path, encoding: str, longest: int | None) -> Iterator[tuple[int, str]]:
    """(1-based line, text) of each piece that holds more than blanks."""
    if longest is None and (size := file.stat().st_size) > LONGEST_LINE:
        raise DataError(f"it has {size:,} bytes, and where every file is whole, one may have at most {LONGEST_LINE:,}")
    with open_text(file, encoding, newline="") as stream:
        newline = line_end(stream.read(1 << 18))
    held: list[tuple[int, str]] = []
    size = gap = 0
    with open_text(file, encoding, newline=newline) as stream:
        for number, line in enumerate(lines(stream, file), 1):
            for part in [line] if longest is None else _cut(line, longest):
                while longest is not None and held and size + len(part) > longest:
                    cut = gap if sum(len(text) for _, text in held[:gap]) > longest // 4 else len(held)
                    yield from _piece(held[:cut])
                    held = held[cut:]
                    size, gap = sum(len(text) for _, text in held), 0
                held.append((number, part))
                size += len(part)
                if not part.strip():
                    gap = len(held)
    yield from _piece(held)


def _cut(line: str, longest: int) -> Iterator[str]:
    """The line in parts of at most `longest` characters, cut behind blanks where there are any."""
    at = 0
    while len(line) - at > longest:
        blank = line.rfind(" ", at, at + longest)
        end = blank + 1 if blank > at else at + longest
        yield line[at:end]
        at = end
    yield line[at:]


def _piece(held: list[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    first = next((place for place, (_, text) in enumerate(held) if text.strip()), len(held))
    text = "".join(text for _, text in held[first:]).rstrip().replace("\r\n", "\n").replace("\r", "\n")
    if text:
        yield held[first][0], text
