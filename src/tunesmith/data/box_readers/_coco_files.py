"""Where a COCO data set keeps its JSON files, which part each is, and which folder holds a file's pictures."""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import Any

from tunesmith.data.box_readers.base import locate
from tunesmith.data.parts import part_of
from tunesmith.data.readers._walk import lies_inside, links_aside

_OTHER_KINDS = ("captions", "person_keypoints", "stuff", "panoptic", "image_info")
FOLDERS = ("annotations", "annotation", "labels", "ann")
_PROBED = 200
"""Picture names that decide which folder holds the pictures."""
_MOST_FOLDERS = 200


def coco_files(folder: Path) -> tuple[list[tuple[Path, str | None]], list[str]]:
    """The COCO files of a folder with their parts, and notes."""
    if not folder.is_dir():
        return [], []
    places = [folder, *(p for p in sorted(folder.iterdir()) if p.is_dir() and _holds_files(p))]
    jsons = [p for place in places for p in sorted(place.glob("*.json")) if p.is_file() and p.name[0] not in "._"]
    jsons += [p for place in places for p in sorted(place.glob("_annotations*.json")) if p.is_file()]
    home = folder.resolve()
    named = [p for p in dict.fromkeys(jsons) if not p.name.casefold().startswith(_OTHER_KINDS)]
    out = [p.relative_to(folder).as_posix() for p in named if not lies_inside(p, home)]
    notes = links_aside(str(folder), out)
    wanted = [p for p in named if lies_inside(p, home) and _is_coco(p)]
    parts = [_part(p) for p in wanted]
    if not any(parts):
        return [(p, None) for p in wanted], notes
    left = [p.name for p, part in zip(wanted, parts, strict=True) if part is None]
    notes += [f"Not used, since their names are no part of the data: {', '.join(left[:5])}."] if left else []
    return [(p, part) for p, part in zip(wanted, parts, strict=True) if part], notes


def _holds_files(folder: Path) -> bool:
    return folder.name.casefold() in FOLDERS or part_of(folder.name) is not None


def _part(file: Path) -> str | None:
    return part_of(re.sub(r"\d{4}$", "", _tail(file))) or part_of(file.parent.name)


def _tail(file: Path) -> str:
    """`val2017` of `instances_val2017.json`."""
    return re.split(r"[_.-]", file.stem)[-1]


def _is_coco(file: Path) -> bool:
    if not file.stat().st_size:
        return False
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return all(content.find(key) >= 0 for key in (b'"images"', b'"annotations"'))


def pictures_folder(file: Path, root: Path, images: list[Any], part: str | None) -> Path:
    """The one folder that has most of the first pictures: names may repeat between folders of different parts."""
    folder = file.parent.resolve()
    bases = [folder] if root == folder else [folder, root]
    likely = [base / inner for base in bases for inner in ("", "images", "JPEGImages")]
    likely += [base / tail for base in likely for tail in (_tail(file), part or "", file.parent.name)]
    found = [place for place in likely if place.is_dir()]
    for base in dict.fromkeys(found):
        found += sorted(p for p in base.iterdir() if p.is_dir())[:_MOST_FOLDERS]
    places = [place for place in dict.fromkeys(found) if place.resolve().is_relative_to(root)]
    probed = [image.get("file_name") for image in images[:_PROBED] if isinstance(image, dict)]
    hits = [sum(locate(name, [place])[0] is not None for name in probed) for place in places]
    fitting = [(place, hit) for place, hit in zip(places, hits, strict=True) if hit == max(hits)]
    named = [place for place, _ in fitting if place.name == _tail(file) or (part and part_of(place.name) == part)]
    return (named or [place for place, _ in fitting])[0]
