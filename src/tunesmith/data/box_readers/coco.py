"""COCO JSON: `images`, `annotations` with `bbox` [x, y, width, height], and `categories` (.json).

Name the JSON file, or a folder that has such files in it, in `annotations/`, or in folders called train, valid and
test. Pictures are looked for beside the file, in its sub-folders, and where it stands in `annotations/`, beside that.
Pixels count from 0 at the upper left corner of the picture. A box with `iscrowd: 1` is neither learned nor counted.
Ids may be numbers or texts. Segmentations and keypoints are passed over.
Source: Lin et al. 2014, arXiv:1405.0312; the format is described on cocodataset.org.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.data.box_readers._coco_files import FOLDERS, coco_files, pictures_folder
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
from tunesmith.data.find import pictures_within
from tunesmith.data.options import DataOptions
from tunesmith.data.strict_json import key_twice
from tunesmith.errors import DataError


class Coco(BoxReader):
    """Reads one JSON file a part."""

    endings = (".json",)
    heeds_pictures = True

    def recognises(self, path: Path) -> bool:
        """A folder with JSON files that hold images and annotations."""
        return bool(coco_files(path)[0])

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[BoxTable]:
        """One table a file."""
        if path.is_file():
            folder = path.parent
            root = folder.parent if folder.name.casefold() in FOLDERS else folder
            yield _table(path, root.resolve(), shown, None, options)
            return
        files, notes = coco_files(path)
        for file, part in files:
            name = f"{shown.rstrip('/')}/{file.relative_to(path).as_posix()}"
            table = _table(file, path.resolve(), name, part, options)
            table.notes += notes
            yield table

    def sha256(self, path: Path) -> str:
        """Hash of the JSON files."""
        if path.is_file():
            return files_sha256(path.parent, [path])
        return files_sha256(path, [file for file, _ in coco_files(path)[0]])


def _table(file: Path, root: Path, shown: str, part: str | None, options: DataOptions) -> BoxTable:
    known = _parsed(file, shown)
    table = BoxTable(shown, (), part=part)
    names = _categories(known.get("categories"), table)
    images = known["images"]
    ids = {key for key in (_id(image.get("id")) for image in images if isinstance(image, dict)) if key is not None}
    boxes = _boxes(known["annotations"], names, ids, table)
    place = pictures_folder(file, root, images, part) if options.pictures is None else pictures_within(file, options)
    assert place is not None
    table.classes = tuple(dict.fromkeys(names.values()))
    table.facts = {"format": "coco", "pictures_in": str(place.relative_to(root) if root in place.parents else place)}
    table.pictures = _pictures(images, boxes, place)
    return table


def _parsed(file: Path, shown: str) -> dict[str, Any]:
    try:
        known = json.loads(file.read_bytes(), object_pairs_hook=_slim)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, character {error.colno}"
        raise DataError(f"{shown} is not valid JSON: {error.msg} at {where}. Perhaps it was cut off.") from error
    except RecursionError as error:
        raise DataError(f"{shown} is nested without end: it is no COCO file.") from error
    except (ValueError, OSError) as error:  # wrong bytes, a key twice, a number of thousands of digits
        raise DataError(f"{shown} cannot be read as JSON: {error}.") from error
    if not isinstance(known, dict):
        raise DataError(f"{shown} is no COCO file: it holds no object with images, annotations and categories.")
    for key in ("images", "annotations"):
        if not isinstance(known.get(key), list):
            found = ", ".join(list(known)[:10]) or "nothing"
            raise DataError(f'{shown} is no COCO file: it has no list called "{key}". Found: {found}.')
    return known


def _slim(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object without its outlines, which would fill the memory."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f'the key "{key_twice(pairs)}" stands twice in one object')
    for key in ("segmentation", "keypoints"):
        found.pop(key, None)
    return found


def _id(value: Any) -> str | None:
    """An id as a text, so that 1 and "1" are the same; None for what is no id."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return str(value).strip() or None


def _categories(given: Any, table: BoxTable) -> dict[str, str]:
    """Category id -> class name."""
    if not isinstance(given, list) or not given:
        raise DataError(
            f'{table.file} has no categories, so its boxes mean nothing. Add "categories": '
            f'[{{"id": 1, "name": "cat"}}, ...] with every category_id that its annotations use.'
        )
    names: dict[str, str] = {}
    for number, one in enumerate(given, start=1):
        key = _id(one.get("id")) if isinstance(one, dict) else None
        name = one.get("name") if isinstance(one, dict) else None
        if key is None or not isinstance(name, str) or not name.strip():
            raise DataError(f"{table.file}: category {number} has no id or no name: {one!r}.")
        if names.setdefault(key, name.strip()) != name.strip():
            raise DataError(f'{table.file}: category id {key} means "{names[key]}" and "{name.strip()}".')
    if len(set(names.values())) < len(names):
        table.notes.append(f"{table.file}: several category ids have the same name; they are one class.")
    return names


def _boxes(annotations: list[Any], names: dict[str, str], ids: set[str], table: BoxTable) -> dict[str, list[RawBox]]:
    """Image id -> its boxes; those of no image become strays."""
    boxes: dict[str, list[RawBox]] = {}
    seen: set[str] = set()
    for number, one in enumerate(annotations, start=1):
        if not isinstance(one, dict):
            reason = f"annotation number {number} is no object"
            table.strays.append(RawBox(f"annotation number {number}", None, None, reason=reason, raw=one, line=number))
            continue
        box = _box(one, number, names, seen)
        image = _id(one.get("image_id"))
        if image in ids:
            boxes.setdefault(str(image), []).append(box)
        else:
            reason = f"it belongs to image {one.get('image_id')!r}, which is not among the images"
            table.strays.append(box._replace(reason=reason))
    return boxes


def _box(one: dict[str, Any], number: int, names: dict[str, str], seen: set[str]) -> RawBox:
    key = _id(one.get("id"))
    shown = f"annotation {key}" if key else f"annotation number {number} (without an id)"
    bbox, reason = four_numbers(one.get("bbox"))
    name = names.get(_id(one.get("category_id")) or "")
    crowd = one.get("iscrowd", 0)
    if key is not None and key in seen:
        reason = f"the annotation id {key} stands for an earlier annotation already"
    elif name is None:
        reason = f"its class {one.get('category_id')!r} is not among the categories"
    elif crowd not in (0, 1):
        reason = f"its iscrowd is {crowd!r}, neither 0 nor 1"
    elif bbox is not None and (bbox[2] < 0 or bbox[3] < 0):
        reason = f"its width or height is negative ({bbox[2]:g} x {bbox[3]:g})"
    if key is not None:
        seen.add(key)
    corners = None if bbox is None else (bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1] + bbox[3])
    return RawBox(shown, name, corners, crowd=bool(crowd), reason=reason, raw=one)


def _pictures(images: list[Any], boxes: dict[str, list[RawBox]], place: Path) -> Iterator[Annotated]:
    seen: set[str] = set()
    for line, image in enumerate(images, start=1):
        key = _id(image.get("id")) if isinstance(image, dict) else None
        if key is None:
            yield Annotated(line, None, (), reason="the image has no id", raw=image)
            continue
        if key in seen:
            reason = f"the image id {key} stands for an earlier image already"
            yield Annotated(line, None, (), reason=reason, raw=image)
            continue
        seen.add(key)
        path, reason = locate(image.get("file_name"), [place])
        given = as_size(image.get("width"), image.get("height"))
        yield Annotated(line, path, tuple(boxes.get(key, ())), given, f"image {key}: {reason}" if reason else "", image)
