"""YOLO: one .txt file a picture with lines `class x y width height`, and a `data.yaml` that names classes and parts.

Name the data.yaml, or the folder that holds it. Numbers are shares of the picture's width and height, x and y of the
box's middle; `class` counts from 0 in `names`. Labels lie in `labels/` where pictures lie in `images/`, else beside
them. A picture without a label file, or with an empty one, is a background picture. A line with the corners of an
outline instead becomes the box around it. `train`, `val` and `test` may be folders, lists of folders, or text files
that list pictures; paths are relative to `path`, that to the data.yaml. Without a data.yaml, a `classes.txt` beside
`images/` and `labels/` will do.
Source: the format of Ultralytics, docs.ultralytics.com/datasets/detect.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from tunesmith.data.box_readers._data_yaml import Layout, is_plain, layout_of, yaml_of
from tunesmith.data.box_readers.base import (
    PICTURE_ENDINGS,
    Annotated,
    BoxReader,
    BoxTable,
    RawBox,
    files_sha256,
    four_numbers,
    locate,
    text_of,
)
from tunesmith.data.options import DataOptions
from tunesmith.data.readers._walk import leads_out, names_in, walk
from tunesmith.errors import DataError

_NOT_LABELS = ("classes.txt", "labels.txt", "obj.names", "readme.txt", "notes.txt")
_SLACK = 0.01
"""How far a share may lie over 1 before the line is refused instead of clipped."""
_LARGEST = 16 << 20
"""Bytes that the labels of one picture may have."""


class Yolo(BoxReader):
    """Reads text files beside pictures."""

    endings = (".yaml", ".yml")

    def recognises(self, path: Path) -> bool:
        """A folder with a data.yaml that names classes and a part, or with classes.txt, images/ and labels/."""
        return path.is_dir() and (yaml_of(path) is not None or is_plain(path))

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[BoxTable]:
        """One table a part."""
        layout = layout_of(path, shown)
        base = shown.rstrip("/") if path.is_dir() else str(Path(shown).parent)
        for part, places in layout.parts.items():
            where = f"{base}/{places[0].relative_to(layout.root).as_posix()}"
            table = BoxTable(where, (), layout.names, part, facts={"format": "yolo"})
            table.pictures = _pictures(layout, places, table, base)
            yield table

    def sha256(self, path: Path) -> str:
        """Hash of the label files and of what names the classes."""
        layout = layout_of(path, str(path))
        pictures = (p for places in layout.parts.values() for place in places for p, _, _ in _listed(place, layout))
        labels = dict.fromkeys(str(_label_of(p, layout.root)) for p in pictures if p is not None)
        found = (file for file in map(Path, labels) if file.is_file() and not leads_out(file, layout.root))
        return files_sha256(layout.root, chain([layout.own], found))


def _listed(place: Path, layout: Layout) -> Iterator[tuple[Path | None, str, str]]:
    """The pictures of a folder (or of a text file that lists them), each with its name, or None, its name and why."""
    if place.is_dir():
        for file in map(Path, walk(place, _is_picture)):
            if leads_out(file, layout.root):
                yield None, file.name, "the picture is a link that leads out of the data folder"
            else:
                yield file, file.name, ""
        return
    for line in filter(None, map(str.strip, text_of(place, layout.root).splitlines())):
        path, reason = locate(line, [layout.root, place.parent])
        yield path if path is None else _as_named(path, line, [layout.root, place.parent], layout.root), line, reason


def _as_named(picture: Path, line: str, places: Sequence[Path], root: Path) -> Path:
    """A listed picture by its place in the data folder, where its labels are looked for: in the hub's cache it is a
    link to a file that lies elsewhere."""
    if picture.is_relative_to(root):
        return picture
    spelled = (place / name for place in places for name in (line, line.replace("\\", "/")))
    named = (Path(os.path.abspath(path)) for path in spelled if os.path.realpath(path) == str(picture))
    return next(named, picture)


def _is_picture(name: str, is_folder: bool) -> bool:
    return is_folder or (name[0] != "." and name.lower().endswith(PICTURE_ENDINGS))


def _label_of(picture: Path, root: Path) -> Path:
    """Where a picture's labels lie: the last folder called images becomes labels."""
    folders = list(picture.relative_to(root).parts[:-1])
    for number in range(len(folders) - 1, -1, -1):
        if folders[number] == "images":
            folders[number] = "labels"
            break
    return root.joinpath(*folders, picture.stem + ".txt")


def _pictures(layout: Layout, places: list[Path], table: BoxTable, base: str) -> Iterator[Annotated]:
    seen: set[str] = set()
    kinds: Counter[str] = Counter()
    labelled = False
    for place in places:
        for picture, name, fault in _listed(place, layout):
            if picture is None:
                yield Annotated(1, None, (), reason=fault, raw=name)
                continue
            label = _label_of(picture, layout.root)
            seen.add(str(label))
            labelled = labelled or label.is_file()
            shown = f"{base}/{label.relative_to(layout.root).as_posix()}"
            boxes, reason = _boxes(label, layout, shown, kinds)
            path = None if reason else picture.resolve()
            yield Annotated(1, path, boxes, reason=reason, raw=picture.name, file=shown)
    if seen and not labelled:
        where = Path(next(iter(seen))).parent
        raise DataError(f"{table.file}: not one picture has a label file; they are looked for in {where}.")
    _strays(layout, seen, table, base, kinds)
    if outlines := kinds["outline"]:
        table.notes.append(f"{table.file}: {outlines} lines hold outlines; the box around each is taken.")


def _strays(layout: Layout, seen: set[str], table: BoxTable, base: str, kinds: Counter[str]) -> None:
    """Boxes in label files that no picture belongs to."""
    for folder in sorted({os.path.dirname(label) for label in seen}):
        if not os.path.isdir(folder):
            continue
        for label in (Path(folder, name) for name in names_in(folder) if name.endswith(".txt")):
            if str(label) in seen or label.name.casefold() in _NOT_LABELS:
                continue
            if any(label.with_name(label.stem + ending).exists() for ending in PICTURE_ENDINGS):
                continue
            shown = f"{base}/{label.relative_to(layout.root).as_posix()}"
            boxes, _ = _boxes(label, layout, shown, kinds)
            table.strays += [box._replace(reason=f"there is no picture for {label.name}") for box in boxes]


def _boxes(label: Path, layout: Layout, shown: str, kinds: Counter[str]) -> tuple[tuple[RawBox, ...], str]:
    if not label.is_file():
        return (), ""
    try:
        lines = text_of(label, layout.root, _LARGEST).splitlines()
    except DataError as error:
        return (), f"its label file: {error}"
    return tuple(_box(line, n, layout.names, shown, kinds) for n, line in enumerate(lines, start=1) if line.strip()), ""


def _box(line: str, number: int, names: tuple[str, ...], shown: str, kinds: Counter[str]) -> RawBox:
    box = RawBox(f"line {number}", None, None, True, raw=line, file=shown, line=number)
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        return box._replace(reason='it must be numbers with blanks between them: "class x y width height"')
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        return box._replace(reason=f'it has {len(values)} numbers, not the five of "class x y width height"')
    if len(values) > 5:
        kinds["outline"] += 1
        xs, ys = values[1::2], values[2::2]
        corners, reason = four_numbers([min(xs), min(ys), max(xs), max(ys)])
    else:
        corners, reason = four_numbers(values[1:])
        if corners is not None:
            x, y, width, height = corners
            corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    if not reason and not all(-_SLACK <= value <= 1 + _SLACK for value in values[1:]):
        wrong = next(value for value in values[1:] if not -_SLACK <= value <= 1 + _SLACK)
        reason = f"{wrong:g} is no share of the picture's side, which lies between 0 and 1"
    if not (values[0].is_integer() and 0 <= values[0] < len(names)):
        return box._replace(reason=f"class {values[0]:g} is not among the {len(names)} classes 0 to {len(names) - 1}")
    return box._replace(name=names[int(values[0])], corners=corners, reason=reason)
