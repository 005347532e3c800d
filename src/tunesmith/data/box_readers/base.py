"""BoxReader: turns one annotation file (or folder) into pictures with their boxes; one file in this folder is a format.

A reader only says what stands in the file. Whether a box is a box is settled in `data/boxes.py`, the same way for every
format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from tunesmith.data.options import DataOptions
from tunesmith.data.readers._walk import lies_inside
from tunesmith.errors import DataError
from tunesmith.plugin import Plugin, Registry

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2 of a box: its left, upper, right and lower edge."""

_LARGEST = 1e9
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")


class RawBox(NamedTuple):
    """One box as its file has it; without corners or class there is a reason.

    id: what messages call it, such as `annotation 4`. relative: corners are shares of the picture's width and height,
    else pixels with 0 at the picture's edge. crowd: neither learned nor counted against a detector (COCO's iscrowd).
    line: where it stands, if that is another line than its picture's.
    """

    id: str
    name: str | None
    corners: Corners | None
    relative: bool = False
    crowd: bool = False
    reason: str = ""
    raw: Any = None
    file: str = ""
    line: int = 0


class Annotated(NamedTuple):
    """One picture and its boxes; without a picture there is a reason.

    picture: its file, or its bytes. size: width and height as the annotations say. line: 1-based place in the file.
    file: the picture's own annotation file where that is not the table's.
    """

    line: int
    picture: Path | bytes | None
    boxes: tuple[RawBox, ...]
    size: tuple[float, float] | None = None
    reason: str = ""
    raw: Any = None
    file: str = ""


@dataclass(slots=True)
class BoxTable:
    """The pictures of one part, as a stream that can be read once.

    classes: names in the file's order, empty where the format lists none. part: "train", "validation" or "test" where
    the source says so. strays: boxes that belong to no picture. facts, notes and strays may grow while pictures are
    read.
    """

    file: str
    pictures: Iterable[Annotated]
    classes: tuple[str, ...] = ()
    part: str | None = None
    strays: list[RawBox] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class BoxReader(Plugin):
    """Base of all readers of boxes. A reader drops nothing: what it cannot read, it hands on with a reason."""

    endings: ClassVar[tuple[str, ...]] = ()
    """Endings of files that a person may name, in small letters with the dot."""
    heeds_pictures: ClassVar[bool] = False
    """Whether the option `data.pictures` says where its pictures lie."""

    def recognises(self, path: Path) -> bool:
        """Whether a folder is in this format."""
        return False

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[BoxTable]:
        """Open `path`, one table a part; `shown` is its name in messages. DataError where it cannot be opened."""
        raise NotImplementedError

    def sha256(self, path: Path) -> str:
        """Hash of the annotations that will be read."""
        raise NotImplementedError


def four_numbers(values: Any) -> tuple[Corners | None, str]:
    """(the four numbers, "") or (None, what is wrong with them)."""
    if not isinstance(values, list | tuple):
        return None, "its box is no list of four numbers"
    if len(values) != 4:
        return None, f"its box has {len(values)} numbers, not four"
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None, f"its box holds {value!r}, which is no number"
        if not -_LARGEST <= value <= _LARGEST:  # false for NaN too
            shown = f"{value}" if isinstance(value, float) else "a number"
            return None, f"its box holds {shown}, which is no place in a picture"
    x, y, u, v = map(float, values)
    return (x, y, u, v), ""


def as_size(width: Any, height: Any) -> tuple[float, float] | None:
    """Width and height where both say something; many files have 0 for "unknown"."""
    known = all(isinstance(side, int | float) and 0 < side < _LARGEST for side in (width, height))
    return (width, height) if known else None


def locate(name: Any, places: Sequence[Path]) -> tuple[Path | None, str]:
    """(file of that name in the first of these folders that has it, "") or (None, why there is none).

    What a name may lead to is settled in `data/images.py`: nothing outside the folder, no address, no loop of links.
    """
    from tunesmith.data.images import place_of
    from tunesmith.pictures.decode import PictureFault

    if not isinstance(name, str) or not name.strip():
        return None, "the picture has no file name"
    reason = "there is no folder that it could lie in"
    for place in places:
        for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
            try:
                return place_of(spelling, place), ""
            except PictureFault as fault:
                reason = str(fault)
    return None, f'the picture "{name}": {reason}'


def text_of(file: Path, root: Path, largest: int = 1 << 26) -> str:
    """The text of a file of at most `largest` bytes that must lie in the folder `root` (resolved); DataError else."""
    try:
        if not file.is_file():
            raise DataError(f"{file} is no file.")
        if not lies_inside(file, root):
            raise DataError(f"{file} is a link that leads out of the folder {root}, and nothing outside it is read.")
        if (size := file.stat().st_size) > largest:
            raise DataError(f"{file} has {size:,} bytes; at most {largest:,} may be.")
        return file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as text: {error}.") from error


def files_sha256(root: Path, files: Iterable[Path]) -> str:
    """Hash over the names and contents of these files."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(root).as_posix()}\0{file.stat().st_size}\0".encode(errors="replace"))
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


registry: Registry[BoxReader] = Registry("tunesmith.data.box_readers", BoxReader)
