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

from tunesmith.data.encoding import decode, wrong_bytes
from tunesmith.data.options import DataOptions
from tunesmith.data.parts import part_of
from tunesmith.data.readers.base import SAMPLE, Reader, Row, Table
from tunesmith.errors import DataError


class TextFolder(Reader):
    """Reads text files, the folder's name as label."""

    kinds = ("texts",)
    settings = ("encoding",)

    def recognises(self, path: Path) -> bool:
        """A folder with sub-folders of which two hold .txt files (or has parts that do)."""
        if not path.is_dir():
            return False
        return any(sum(any(_texts(label)) for label in _folders(root)) > 1 for _, root in _parts(path))

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[Table]:
        """One table a part."""
        for part, root in _parts(path):
            notes: list[str] = []
            encodings: Counter[str] = Counter()
            facts = {"encodings": encodings, "classes": [folder.name for folder in _folders(root)]}
            name = f"{shown.rstrip('/')}/{root.name}" if part else shown.rstrip("/")
            notes.extend(_left_aside(root, name))
            sample = [{"text": path.name, "label": label.name} for label in _folders(root) for path in _texts(label)]
            yield Table(
                file=name,
                columns=("text", "label"),
                rows=_rows(root, name, options.encoding, encodings, notes),
                sample=tuple(islice(sample, SAMPLE)),
                part=part,
                facts=facts,
                notes=notes,
            )

    def sha256(self, path: Path) -> str:
        """Hash over every file's name and content."""
        digest = hashlib.sha256()
        for _, root in _parts(path):
            for label in _folders(root):
                for file in _texts(label):
                    digest.update(
                        f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode(errors="replace")
                    )
                    digest.update(file.read_bytes())
        return digest.hexdigest()


def _parts(path: Path) -> list[tuple[str | None, Path]]:
    """The folders that hold the class folders."""
    parts = [(part_of(folder.name), folder) for folder in _folders(path)]
    if parts and any(part for part, _ in parts) and any(_folders(folder) for part, folder in parts if part):
        return [(part, folder) for part, folder in parts if part]
    return [(None, path)]


def _folders(path: Path) -> list[Path]:
    return sorted((p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")), key=lambda p: p.name)


def _texts(label: Path) -> Iterator[Path]:
    root = label.parent.resolve()
    for path in sorted(label.iterdir(), key=lambda p: p.name):
        if _is_text(path, root):
            yield path


def _is_text(path: Path, root: Path) -> bool:
    if path.suffix.lower() != ".txt" or path.name.startswith(".") or not path.is_file():
        return False
    return not path.is_symlink() or path.resolve().is_relative_to(root)


def _left_aside(root: Path, name: str) -> Iterator[str]:
    others = [p for label in _folders(root) for p in label.iterdir() if not _is_text(p, root.resolve())]
    if others:
        examples = ", ".join(sorted(f"{p.parent.name}/{p.name}" for p in others)[:3])
        yield f"{name}: {len(others)} entries are no .txt files inside it and are left aside, such as {examples}."
    empty = [label.name for label in _folders(root) if not any(_texts(label))]
    if empty:
        yield f"{name}: no text file in {', '.join(empty)}; no class is made of it."


def _rows(root: Path, name: str, asked: str, encodings: Counter[str], notes: list[str]) -> Iterator[Row]:
    odd: Counter[str] = Counter()
    for label in _folders(root):
        for path in _texts(label):
            shown = f"{name}/{label.name}/{path.name}"
            try:
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
