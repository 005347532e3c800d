"""Pascal VOC: one XML file a picture, in `Annotations/`, with pictures in `JPEGImages/` and parts in `ImageSets/Main/`.

Folders called train, valid and test with XML files in them, and a plain folder of XML files, are read too; pictures
then lie beside the XML files or in `JPEGImages/` or `images/`. Where the XML's `filename` is not there, a picture with
the XML file's own name is taken.

Corners are taken as they stand, counted from 0: so write labelImg, CVAT, Roboflow and most programs. Only the original
sets (whose `source` names PASCAL VOC) count pixels from 1 and include the last one; there 1 is taken off xmin and ymin.
An object marked `difficult` is neither learned nor counted. It is scored as COCO scores a crowd, which takes up any
answer that lies in it; VOC's own evaluation takes up one that overlaps it by half.
Document types and entities are refused: a label needs none, and they can read other files or fill the memory.
Source: Everingham et al. 2010, doi:10.1007/s11263-009-0275-4.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree
from xml.parsers import expat

from tunesmith.data.box_readers.base import (
    PICTURE_ENDINGS,
    Annotated,
    BoxReader,
    BoxTable,
    RawBox,
    as_size,
    files_sha256,
    four_numbers,
    locate,
    text_of,
)
from tunesmith.data.find import pictures_within
from tunesmith.data.options import DataOptions
from tunesmith.data.parts import part_of
from tunesmith.data.readers._walk import lies_inside, names_in
from tunesmith.errors import DataError

LARGEST, DEEPEST = 16 << 20, 50
"""Bytes and levels of nesting that an XML file may have."""
_EDGES = ("xmin", "ymin", "xmax", "ymax")


class _Layout(NamedTuple):
    """Names of the XML files of one part; `missing` are names that its list has and no XML file."""

    part: str | None
    folder: Path
    names: list[str]
    missing: list[str]

    @property
    def files(self) -> Iterator[Path]:
        return (self.folder / name for name in self.names)


class Voc(BoxReader):
    """Reads one XML file a picture."""

    heeds_pictures = True

    def recognises(self, path: Path) -> bool:
        """A folder with XML files in `Annotations/`, in folders of parts, or in itself."""
        return path.is_dir() and bool(_layouts(path)[0])

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[BoxTable]:
        """One table a part."""
        layouts, notes = _layouts(path)
        if not layouts:
            raise DataError(f"{shown} holds no Pascal VOC data: no XML file in it or in its folder Annotations.")
        for layout in layouts:
            name = f"{shown.rstrip('/')}/{layout.folder.relative_to(path).as_posix()}".removesuffix("/.")
            table = BoxTable(name, (), part=layout.part, facts={"format": "voc"}, notes=list(notes))
            given = None if options.pictures is None else pictures_within(path, options)
            table.pictures = _pictures(path.resolve(), layout, table, given)
            yield table

    def sha256(self, path: Path) -> str:
        """Hash of the XML files and of what part each is in."""
        layouts, _ = _layouts(path)
        parts = "".join(f"{layout.part} {files_sha256(path, layout.files)}\n" for layout in layouts)
        return hashlib.sha256(parts.encode()).hexdigest()


def _layouts(path: Path) -> tuple[list[_Layout], list[str]]:
    folder = next((p for p in sorted(path.iterdir()) if p.is_dir() and p.name.casefold() == "annotations"), None)
    if folder is not None and (files := _xmls(folder)):
        lists = {file.stem: file for file in sorted((path / "ImageSets" / "Main").glob("*.txt"))}
        if "train" not in lists and "trainval" in lists:
            lists["train"] = lists["trainval"]
            lists.pop("val", None)  # it is within trainval
        named = {part: lists[name] for name in lists if (part := part_of(name))}
        return _listed(path, folder, files, named) if "train" in named else ([_Layout(None, folder, files, [])], [])
    found = [(part, p) for p in sorted(path.iterdir()) if p.is_dir() and (part := part_of(p.name))]
    inner = [(part, p / "Annotations" if (p / "Annotations").is_dir() else p) for part, p in found]
    layouts = [_Layout(part, p, files, []) for part, p in inner if (files := _xmls(p))]
    if layouts:
        return layouts, []
    files = _xmls(path)
    return ([_Layout(None, path, files, [])] if files else []), []


def _listed(root: Path, folder: Path, files: list[str], lists: dict[str, Path]) -> tuple[list[_Layout], list[str]]:
    by_name = {Path(file).stem: file for file in files}
    layouts, used = [], set()
    for part, file in lists.items():
        names = list(dict.fromkeys(line.strip() for line in text_of(file, root.resolve()).splitlines()))
        names = [name for name in names if name]
        used.update(names)
        missing = [name for name in names if name not in by_name]
        layouts.append(_Layout(part, folder, [by_name[name] for name in names if name in by_name], missing))
    left = sorted(by_name.keys() - used)
    if not left:
        return layouts, []
    return layouts, [f"{len(left)} XML files stand in no list of ImageSets/Main and are not used, such as {left[0]}."]


def _xmls(folder: Path) -> list[str]:
    named = (name for name in names_in(folder) if name.lower().endswith(".xml") and name[0] != ".")
    return [name for name in named if (folder / name).is_file()]


def _pictures(root: Path, layout: _Layout, table: BoxTable, given: Path | None) -> Iterator[Annotated]:
    folder = layout.folder.resolve()
    bases = [folder] if folder == root or folder.name.casefold() != "annotations" else [folder.parent, folder]
    if folder == root and folder.name.casefold() == "annotations":
        root = folder.parent
        bases = [root, folder]
    likely = [base / inner for base in bases for inner in ("JPEGImages", "images", "")]
    places = [place for place in likely if place.is_dir()] if given is None else [given]
    counted: dict[str, int] = {}
    for file in layout.files:
        shown = f"{table.file}/{file.name}"
        try:
            tree = _parsed(file, root)
        except (expat.ExpatError, ValueError, OSError) as error:
            yield Annotated(1, None, (), reason=f"not usable XML: {error}", raw=file.name, file=shown)
            continue
        yield _annotated(tree, file, shown, places, counted)
    for name in layout.missing:
        yield Annotated(1, None, (), reason=f"{name} stands in the list, but has no XML file", raw=name)
    if shifted := counted.get("shifted"):
        table.notes.append(f"{table.file}: {shifted} files are of PASCAL VOC itself; 1 is taken off xmin and ymin.")
    if difficult := counted.get("difficult"):
        table.notes.append(f"{table.file}: {difficult} objects are marked difficult: neither learned nor counted.")


def _annotated(
    tree: ElementTree.Element, file: Path, shown: str, places: list[Path], counted: dict[str, int]
) -> Annotated:
    source = f"{tree.findtext('source/database', '')} {tree.findtext('source/annotation', '')}"
    one_based = re.search(r"PASCAL|\bVOC\s?20\d\d\b", source) is not None
    counted["shifted"] = counted.get("shifted", 0) + one_based
    boxes = tuple(_box(o, n, shown, one_based) for n, o in enumerate(tree.findall("object"), start=1))
    counted["difficult"] = counted.get("difficult", 0) + sum(box.crowd for box in boxes)
    name = (tree.findtext("filename") or "").strip()
    path, reason = locate(name or file.stem, places)
    if path is None and "leads out" not in reason:  # a wrong name is common, a hostile one is refused
        stems = (locate(file.stem + ending, places)[0] for ending in PICTURE_ENDINGS)
        path = next((found for found in stems if found is not None), None)
    given = as_size(_number(tree.findtext("size/width")), _number(tree.findtext("size/height")))
    return Annotated(1, path, boxes, given, "" if path else reason, {"filename": name}, shown)


def _box(found: ElementTree.Element, number: int, shown: str, one_based: bool) -> RawBox:
    name = (found.findtext("name") or "").strip() or None
    bounds = found.find("bndbox")
    edges = [None if bounds is None else bounds.findtext(edge) for edge in _EDGES]
    raw = {"name": name, **dict(zip(_EDGES, edges, strict=True))}
    corners, reason = four_numbers([_number(edge) for edge in edges])
    if bounds is None:
        reason = "it has no bndbox"
    elif None in edges:
        reason = f"its bndbox has no {_EDGES[edges.index(None)]}"
    elif name is None:
        reason = "it has no name"
    if corners is not None and one_based:
        corners = (corners[0] - 1, corners[1] - 1, corners[2], corners[3])
    difficult = (found.findtext("difficult") or "").strip() == "1"
    return RawBox(f"object {number}", name, corners, crowd=difficult, reason=reason, raw=raw, file=shown, line=1)


def _number(text: str | None) -> Any:
    try:
        return float(text or "")
    except ValueError:
        return text


def _parsed(file: Path, root: Path) -> ElementTree.Element:
    """The XML tree, with no document type, no entity, nothing read from elsewhere; ValueError or ExpatError else."""
    if not lies_inside(file, root):
        raise ValueError("it is a link that leads out of the data folder")
    if (size := file.stat().st_size) > LARGEST:
        raise ValueError(f"{size:,} bytes are too many for the labels of one picture")
    content = file.read_bytes()
    builder, parser, depth = ElementTree.TreeBuilder(), expat.ParserCreate(), 0

    def refuse(*_: Any) -> Any:
        raise ValueError("it has a document type or entities, which a label needs not; they are refused")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST} levels")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ExternalEntityRefHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.Parse(content, True)
    return builder.close()
