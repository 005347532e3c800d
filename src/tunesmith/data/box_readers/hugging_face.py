"""A Hugging Face detection data set: a column of pictures and a column `objects` with `bbox` and `category`.

Name a folder written by `save_to_disk`, Parquet files or a folder of them, or a data set on the hub (`hf:NAME`). The
hub is asked only because the recipe names it; code from the hub is never run. `objects` may be a mapping of lists or a
list of mappings. Boxes are [x, y, width, height] in most data sets and [x1, y1, x2, y2] in some; which it is follows
from `area` where there is one, else from whether boxes stay inside their pictures, and the summary says it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tunesmith.data.box_readers._arrow_splits import links_out, parquet_files, splits_of
from tunesmith.data.box_readers.base import (
    Annotated,
    BoxReader,
    BoxTable,
    RawBox,
    as_size,
    files_sha256,
    four_numbers,
    locate,
)
from tunesmith.data.options import DataOptions
from tunesmith.data.parts import part_of
from tunesmith.errors import DataError

_BOXES = ("bbox", "bboxes", "boxes", "box")
_CLASSES = ("category", "categories", "label", "labels", "class", "class_label", "category_id")
_OBJECTS = ("objects", "annotations", "faces")
_PICTURES = ("image", "picture", "img")
_PROBED = 200
"""Pictures that decide what the four numbers of a box mean."""


class HuggingFace(BoxReader):
    """Reads through the datasets library, memory-mapped."""

    endings = (".parquet",)

    def recognises(self, path: Path) -> bool:
        """A folder that `save_to_disk` wrote, or that holds Parquet files (in it or in its folder `data`)."""
        if not path.is_dir():
            return False
        saved = any((path / name).is_file() for name in ("dataset_dict.json", "dataset_info.json"))
        return saved or bool(parquet_files(path) or links_out(path, str(path)))

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[BoxTable]:
        """One table a split."""
        splits = splits_of(path, shown)
        parts = {name: part_of(name) for name in splits}
        if len(splits) > 1 and not any(parts.values()):
            raise DataError(f"{shown} has the splits {', '.join(splits)}; none is called train. Name one as a folder.")
        left = [name for name in splits if parts[name] is None and len(splits) > 1]
        notes = [f"{shown}: the splits {', '.join(left)} are not used."] if left else []
        notes += links_out(path, shown)
        for name, rows in splits.items():
            if name not in left:
                table = BoxTable(f"{shown}/{name}" if name else shown, (), notes=list(notes))
                table.part = parts[name] if len(splits) > 1 else None
                _fill(table, rows, path)
                yield table

    def sha256(self, path: Path) -> str:
        """Hash of the Arrow or Parquet files."""
        if files := [path] if path.is_file() else parquet_files(path):
            return files_sha256(path.parent if path.is_file() else path, files)
        digest = hashlib.sha256()
        for name, rows in sorted(splits_of(path, str(path)).items()):
            digest.update(name.encode())
            for file in rows.cache_files:
                with open(file["filename"], "rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()


def _fill(table: BoxTable, rows: Any, path: Path) -> None:
    """The table's classes and pictures."""
    import datasets

    picture = _one_of(_PICTURES, rows.column_names, table.file, "pictures")
    objects = _one_of(_OBJECTS, rows.column_names, table.file, "objects with bbox and category")
    inner = _inner(rows.features[objects])
    box, category = (_one_of(names, list(inner), f"{table.file}: {objects}", names[0]) for names in (_BOXES, _CLASSES))
    kind = inner[category]
    kind = getattr(kind, "feature", kind)
    names = tuple(kind.names) if isinstance(kind, datasets.ClassLabel) else ()
    within = path if path.is_dir() else path.parent if path.is_file() else Path(datasets.config.HF_CACHE_HOME)
    found = ((row, _listed(row[objects])) for row, _ in rows if row is not None)
    corners = _is_corners(islice(found, _PROBED), box, picture, within)
    table.classes = names
    table.facts = {"format": "hugging_face", "corners": "[x1, y1, x2, y2]" if corners else "[x, y, width, height]"}

    def annotated(number: int, row: Mapping[str, Any] | None, reason: str) -> Annotated:
        if row is None:
            return Annotated(number, None, (), reason=reason)
        boxes = [_box(one, n, box, category, names, corners) for n, one in _listed(row[objects])]
        return _annotated(number, row, picture, boxes, within)

    table.pictures = (annotated(number, row, reason) for number, (row, reason) in enumerate(rows, start=1))


def _one_of(known: Sequence[str], columns: Sequence[str], where: str, what: str) -> str:
    for name in known:
        if name in columns:
            return name
    raise DataError(f"{where} has no column of {what}: looked for {', '.join(known)}, found {', '.join(columns)}.")


def _inner(feature: Any) -> Mapping[str, Any]:
    inner = feature if isinstance(feature, Mapping) else getattr(feature, "feature", {})
    return inner if isinstance(inner, Mapping) else {}


def _listed(objects: Any) -> list[tuple[int, Mapping[str, Any]]]:
    """Objects with their 1-based number, from a list of mappings or a mapping of lists."""
    if isinstance(objects, Mapping):
        columns = {key: value for key, value in objects.items() if isinstance(value, list)}
        longest = max(map(len, columns.values()), default=0)
        objects = [{k: v[i] if i < len(v) else None for k, v in columns.items()} for i in range(longest)]
    return [(n, one if isinstance(one, Mapping) else {}) for n, one in enumerate(objects or (), start=1)]


def _is_corners(sample: Iterator[tuple[Any, Any]], box: str, picture: str, within: Path) -> bool:
    """Whether boxes are [x1, y1, x2, y2]: by their areas where those are given, else by what leads out of pictures."""
    from tunesmith.pictures.decode import PictureFault, size_of

    by_area = [0, 0]
    outside, ordered, count = [0, 0], 0, 0
    for row, objects in sample:
        shown = _annotated(0, row, picture, [], within).picture
        try:
            width, height = as_size(row.get("width"), row.get("height")) or (size_of(shown) if shown else (0, 0))
        except PictureFault:
            continue
        for _, one in objects:
            four, _ = four_numbers(one.get(box))
            if four is None:
                continue
            x, y, u, v = four
            area = one.get("area")
            if isinstance(area, int | float) and abs(u * v - (u - x) * (v - y)) > 2:
                by_area[0] += abs(u * v - area) <= 0.01 * area + 1
                by_area[1] += abs((u - x) * (v - y) - area) <= 0.01 * area + 1
            count += 1
            ordered += u > x and v > y
            if width and height:
                outside[0] += x + u > width + 1 or y + v > height + 1
                outside[1] += u > width + 1 or v > height + 1
    if any(by_area):
        return by_area[1] > by_area[0]
    return count > 0 and ordered >= 0.99 * count and outside[0] > 0.05 * count and outside[1] <= 0.01 * count


def _box(one: Mapping[str, Any], number: int, box: str, category: str, names: tuple[str, ...], corners: bool) -> RawBox:
    four, reason = four_numbers(one.get(box))
    key = one.get("id")
    shown = f"object {number}" + (f" (id {key})" if key is not None else "")
    given = one.get(category)
    name: str | None = None
    if isinstance(given, str) and given.strip():
        name = given.strip()
    elif isinstance(given, int) and not isinstance(given, bool):
        name = (names[given] if 0 <= given < len(names) else None) if names else str(given)
    if name is None:
        reason = f"its class {given!r} is not among the classes"
    elif four is not None and not corners and (four[2] < 0 or four[3] < 0):
        reason = f"its width or height is negative ({four[2]:g} x {four[3]:g})"
    if four is not None and not corners:
        four = (four[0], four[1], four[0] + four[2], four[1] + four[3])
    crowd = one.get("iscrowd") in (1, True)
    return RawBox(shown, name, four, crowd=crowd, reason=reason, raw=dict(one))


def _annotated(line: int, row: Mapping[str, Any], picture: str, boxes: list[RawBox], within: Path) -> Annotated:
    cell = row[picture]
    content = cell.get("bytes") if isinstance(cell, Mapping) else cell if isinstance(cell, bytes) else None
    name = cell.get("path") if isinstance(cell, Mapping) else cell if isinstance(cell, str) else None
    given = as_size(row.get("width"), row.get("height"))
    raw = {"path": name, "image_id": row.get("image_id")}
    if content:
        return Annotated(line, content, tuple(boxes), given, raw=raw)
    path, reason = locate(name, [within])
    return Annotated(line, path, tuple(boxes), given, reason, raw)
