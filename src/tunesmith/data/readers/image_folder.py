"""A folder per class, a picture per example: pets/cat/1.jpg is an example of the class "cat".

The class folders may lie under train/, validation/ (val) and test/, which then are the parts. Pictures in folders
inside a class folder belong to that class. A class is called as its folder, in Unicode form NFC: spellings of one name
that look the same are one class; names that differ in case are two, and are noted. Hidden folders and files, files that
are no pictures by their ending, and links to folders are left aside and counted in the notes; so a circle of links
ends. A link to a picture is followed where it stays inside the folder. Pictures outside any class folder have no label:
they can be predicted, and in training they go to quarantine.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from tunesmith.data.known_names import PICTURE_ENDINGS
from tunesmith.data.options import DataOptions
from tunesmith.data.parts import part_of
from tunesmith.data.readers._walk import lies_inside
from tunesmith.data.readers.base import SAMPLE, Reader, Row, Table
from tunesmith.errors import DataError

_NO_DATA = ("readme", "license", "licence")


class ImageFolder(Reader):
    """Reads pictures, the folder's name as label."""

    kinds = ("images",)

    def recognises(self, path: Path) -> bool:
        """A folder with sub-folders of which two hold pictures (or has parts that do), or a single picture."""
        if not path.is_dir():
            return _is_picture(path.name)
        return any(sum(any(_walk(label, "")) for label in _folders(root)) > 1 for _, root in _parts(path))

    def makes_do(self, path: Path) -> bool:
        """A folder with any picture in it."""
        return path.is_dir() and any(_walk(path, ""))

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[Table]:
        """One table a part."""
        if not path.is_dir():
            single = {"image": path.name}
            yield Table(shown, ("image",), [Row(1, single, file=shown)], (single,))
            return
        for part, root in _parts(path):
            name = f"{shown.rstrip('/')}/{root.name}" if part else shown.rstrip("/")
            found = _scan(root)
            classes = sorted({label for label, _ in found.pictures if label})
            values = partial(_values, found.pictures, f"{root.name}/" if part else "")
            yield Table(
                file=name,
                columns=("image", "label") if classes else ("image",),
                rows=(Row(1, row, file=f"{shown.rstrip('/')}/{row['image']}") for row in values()),
                sample=tuple(islice(values(), SAMPLE)),
                part=part,
                facts={"classes": classes},
                notes=[*found.notes(name), *_beside(path, shown)],
            )

    def sha256(self, path: Path) -> str:
        """Hash over every picture's name and content."""
        digest = hashlib.sha256()
        folder = path if path.is_dir() else path.parent
        files = _walk(path, "") if path.is_dir() else [path.name]
        home = folder.resolve()
        for name in files:
            file = folder / name
            digest.update(f"{name}\0".encode(errors="surrogateescape"))
            if lies_inside(file, home) and file.is_file():
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()


@dataclass
class _Found:
    """What one folder of class folders holds. pictures: label ("" for none) and paths from the folder."""

    pictures: list[tuple[str, list[str]]] = field(default_factory=list)
    spellings: dict[str, set[str]] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    aside: dict[str, list[str]] = field(default_factory=dict)

    def notes(self, name: str) -> Iterator[str]:
        """What is doubtful about it, in sentences."""
        if self.aside:
            counts = ", ".join(f"{len(paths)} {what}" for what, paths in sorted(self.aside.items()))
            examples = ", ".join(sorted(path for paths in self.aside.values() for path in paths)[:3])
            yield f"{name}: left aside are {counts}, such as {examples}."
        if self.empty:
            yield f"EMPTY: {name}: no picture in {', '.join(self.empty)}; no class is made of it."
        for label, folders in self.spellings.items():
            if len(folders) > 1:
                yield f'{name}: {len(folders)} folders spell "{label}" in different Unicode forms; they are one class.'
        alike = Counter(label.casefold() for label in self.spellings)
        for label in sorted(one for one, count in alike.items() if count > 1):
            names = " and ".join(sorted(f'"{one}"' for one in self.spellings if one.casefold() == label))
            yield f"{name}: {names} differ only in case and are different classes; rename the folders if they are one."


def _scan(root: Path) -> _Found:
    found = _Found()
    for entry in _entries(root):
        if _is_folder(entry) and not _is_hidden(entry.name):
            label = unicodedata.normalize("NFC", entry.name)
            pictures = list(_walk(entry.path, f"{entry.name}/", found.aside))
            if pictures:
                found.pictures.append((label, pictures))
                found.spellings.setdefault(label, set()).add(entry.name)
            else:
                found.empty.append(label)
        elif reason := _why_aside(entry):
            if not entry.name.casefold().startswith(_NO_DATA):
                found.aside.setdefault(reason, []).append(entry.name)
        else:
            found.pictures.append(("", [entry.name]))
    return found


def _values(pictures: Sequence[tuple[str, list[str]]], prefix: str) -> Iterator[dict[str, str]]:
    for label, paths in pictures:
        for inside in paths:
            yield {"image": prefix + inside, **({"label": label} if label else {})}


def _walk(folder: Path | str, inside: str, aside: dict[str, list[str]] | None = None) -> Iterator[str]:
    """All pictures in a folder and the folders in it, with `inside` before their paths; the others go to `aside`."""
    for entry in _entries(folder):
        if _is_folder(entry) and not _is_hidden(entry.name):
            yield from _walk(entry.path, f"{inside}{entry.name}/", aside)
        elif reason := _why_aside(entry):
            if aside is not None:
                aside.setdefault(reason, []).append(inside + entry.name)
        else:
            yield inside + entry.name


def _parts(path: Path) -> Sequence[tuple[str | None, Path]]:
    """The folders that hold the class folders."""
    folders = _folders(path)
    parts = [(part_of(folder.name), folder) for folder in folders if part_of(folder.name)]
    if parts and (len(parts) == len(folders) or any(_folders(folder) for _, folder in parts)):
        return parts
    return [(None, path)]


def _beside(path: Path, shown: str) -> Iterator[str]:
    """What lies beside folders that are parts."""
    if _parts(path)[0][0] is None:
        return
    others = [e.name for e in _entries(path) if not (_is_folder(e) and part_of(e.name))]
    others = [name for name in others if not name.casefold().startswith(_NO_DATA)]
    if others:
        yield f"{shown}: left aside beside the parts are {len(others)} entries, such as {', '.join(others[:3])}."


def _folders(path: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(path) if _is_folder(entry) and not _is_hidden(entry.name)]


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in PICTURE_ENDINGS


def _why_aside(entry: os.DirEntry[str]) -> str:
    """Why an entry that is no folder to look into is no row, or an empty string for a picture."""
    if _is_hidden(entry.name):
        return "hidden folder(s)" if _is_folder(entry) else "hidden file(s)"
    if _is_picture(entry.name):
        return ""
    return "link(s) that are not followed" if entry.is_symlink() else "file(s) that are no pictures"
