"""A folder per class, a text file per example: reviews/good/1.txt is an example of the class "good".

The folders may lie under train/, validation/ and test/, which then are the parts. Each file is decoded by itself
(UTF-8, else what the encoding rules find). Hidden files, files with other endings than .txt
and deeper folders are left aside and counted in the notes; a link that leads out of the folder is never followed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tunesmith.data.encoding import CHUNK, LONGEST_LINE, decode, wrong_bytes
from tunesmith.data.options import DataOptions
from tunesmith.data.parts import part_of
from tunesmith.data.readers._walk import leads_out, links_aside, names_in
from tunesmith.data.readers.base import SAMPLE, Reader, Row, Table
from tunesmith.errors import DataError

_SHOWN = 3


class TextFolder(Reader):
    """Reads text files, the folder's name as label."""

    kinds = ("texts",)
    settings = ("encoding",)

    def recognises(self, path: Path) -> bool:
        """A folder with sub-folders of which two hold .txt files (or has parts that do)."""
        if not path.is_dir():
            return False
        home = path.resolve()
        return any(sum(any(_texts(label, home)) for label in _folders(root, home)) > 1 for _, root in _parts(path))

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[Table]:
        """One table a part."""
        home = path.resolve()
        for part, root in _parts(path):
            notes: list[str] = []
            encodings: Counter[str] = Counter()
            facts = {"encodings": encodings, "classes": [folder.name for folder in _folders(root, home)]}
            name = f"{shown.rstrip('/')}/{root.name}" if part else shown.rstrip("/")
            notes.extend(_left_aside(root, home, name))
            files = ((label, file) for label in _folders(root, home) for file in _texts(label, home))
            yield Table(
                file=name,
                columns=("text", "label"),
                rows=_rows(root, home, name, options.encoding, encodings, notes),
                sample=tuple({"text": file.name, "label": label.name} for label, file in islice(files, SAMPLE)),
                part=part,
                facts=facts,
                notes=notes,
            )

    def sha256(self, path: Path) -> str:
        """Hash over every file's name and content."""
        digest, home = hashlib.sha256(), path.resolve()
        for _, root in _parts(path):
            for label in _folders(root, home):
                for file in _texts(label, home):
                    digest.update(
                        f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode(errors="replace")
                    )
                    with file.open("rb") as stream:
                        while chunk := stream.read(CHUNK):
                            digest.update(chunk)
        return digest.hexdigest()


def _parts(path: Path) -> list[tuple[str | None, Path]]:
    """The folders that hold the class folders."""
    home = path.resolve()
    parts = [(part_of(folder.name), folder) for folder in _folders(path, home)]
    if parts and any(part for part, _ in parts) and any(_folders(folder, home) for part, folder in parts if part):
        return [(part, folder) for part, folder in parts if part]
    return [(None, path)]


def _folders(path: Path, home: Path) -> list[Path]:
    """The folders in a folder, by name; nothing hidden, and no link that leads out of `home`, where all data lie."""
    found = (path / name for name in names_in(path) if not name.startswith("."))
    return [folder for folder in found if folder.is_dir() and not leads_out(folder, home)]


def _texts(label: Path, home: Path) -> Iterator[Path]:
    for name in names_in(label):
        if _is_text(path := label / name, home):
            yield path


def _is_text(path: Path, home: Path) -> bool:
    if path.suffix.lower() != ".txt" or path.name.startswith(".") or not path.is_file():
        return False
    return not leads_out(path, home)


def _left_aside(root: Path, home: Path, name: str) -> Iterator[str]:
    count, examples = 0, ""
    for label in _folders(root, home):
        others = [other for other in names_in(label) if not _is_text(label / other, home)]
        if count < _SHOWN:
            examples += "".join(f", {label.name}/{other}" for other in others[: _SHOWN - count])
        count += len(others)
    if count:
        yield f"{name}: {count} entries are no .txt files inside it and are left aside, such as {examples[2:]}."
    empty = [label.name for label in _folders(root, home) if not any(_texts(label, home))]
    if empty:
        yield f"{name}: no text file in {', '.join(empty)}; no class is made of it."
    for folder in dict.fromkeys((home, root)):
        links = [one for one in names_in(folder) if (folder / one).is_dir() and leads_out(folder / one, home)]
        yield from links_aside(name, links)


def _rows(root: Path, home: Path, name: str, asked: str, encodings: Counter[str], notes: list[str]) -> Iterator[Row]:
    odd: Counter[str] = Counter()
    for label in _folders(root, home):
        for path in _texts(label, home):
            shown = f"{name}/{label.name}/{path.name}"
            try:
                if (size := path.stat().st_size) > LONGEST_LINE:
                    raise DataError(f"it has {size:,} bytes, and one example may have at most {LONGEST_LINE:,}")
                text, found = decode(path.read_bytes(), path, asked)
            except DataError as error:
                yield Row(1, None, str(error), "", shown)
                continue
            except OSError as error:
                yield Row(1, None, f"cannot be read: {error.strerror}", "", shown)
                continue
            encodings[found.name] += 1
            if asked == "auto" and found.name not in ("utf-8", "utf-8-sig"):
                odd[found.name] += 1
            if wrong := wrong_bytes(text):
                yield Row(1, None, f"byte 0x{wrong[0]:02x} is not {found.name}", text, shown)
                continue
            yield Row(1, {"text": text, "label": label.name}, file=shown)
    if odd:
        read = ", ".join(f"{count} as {encoding}" for encoding, count in sorted(odd.items()))
        notes.append(f"{name}: some files are not UTF-8 and were read otherwise: {read}.")
