"""The check of a row's picture cell: where the picture lies and the key of its content, or what is wrong with it.

A cell is a path, the bytes of a picture file, or a mapping with `bytes` and `path` (as Hugging Face data sets have it).
A path is relative to the folder of the data file, and nothing outside that folder is read, whichever way a path would
lead there: "..", a path from the root, a link. Nothing is fetched from the network; "~" and "$HOME" are plain names.
Pictures that come as bytes are written to one file, and are from then on named by their place in it.

Each picture is decoded whole, once, when its row is read: a file that is cut off would otherwise stop a run in the
middle, and two copies of a picture under other names could stand in train and in test.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tunesmith.data.encoding import wrong_bytes
from tunesmith.data.readers._walk import lies_inside
from tunesmith.data.store import FACTS, Kept
from tunesmith.data.texts import undecodable
from tunesmith.errors import DiskError
from tunesmith.pictures.decode import PictureFault, content_key, read_picture

BLOB = "pictures.bin"
_URL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://|data:|file:)", re.IGNORECASE)
_CONTROL = re.compile("[\0-\x1f\x7f]")
_LIKE_A_LOCATOR = re.compile(r"#bytes=\d+-\d+$")
_SHOWN = 100


class Pictures:
    """Takes one row's picture after the other. In memory is one decoded picture; bytes go to `folder`/pictures.bin."""

    noun = "picture"
    facts = FACTS

    def __init__(self, folder: Path) -> None:
        self._path = folder.resolve() / BLOB
        self._partial = self._path.with_name(BLOB + ".partial")
        self._blob: IO[bytes] | None = None
        self._end = 0
        self._backslashes = 0

    def check(
        self, values: Mapping[str, Any], columns: Sequence[str], *, encoding: str, within: Path | None, own_file: bool
    ) -> Kept | str:
        """The picture's absolute path, or its locator in pictures.bin, with key and size; else the reason against it.

        within: the folder that paths are relative to and must stay in; None where there is none.
        own_file: the row's file is the picture itself, so a reason need not name it. encoding: for messages.
        """
        column = columns[0]
        if column not in values:
            return f'no value for "{column}"'
        cell = _unpacked(values[column])
        try:
            if isinstance(cell, bytes):
                picture = read_picture(cell)
                place = self._written(cell)
            elif isinstance(cell, str) and cell.strip():
                path = self._found(cell, within, encoding)
                picture, place = read_picture(path), str(path)
            else:
                return _no_picture(cell, column)
        except PictureFault as fault:
            return f'"{_short(cell)}": {fault}' if isinstance(cell, str) and not own_file else str(fault)
        height, width = picture.shape[:2]
        key = content_key(picture)
        return Kept((place,), key, key, (int.from_bytes(key, "little"), width, height))

    def links(self) -> None:
        """Pictures stand for themselves."""

    def notes(self) -> list[str]:
        """What was mended."""
        if not self._backslashes:
            return []
        return [f"{self._backslashes:,} paths are written with backslashes; they were read as folders."]

    def close(self, *, keep: bool) -> None:
        """Ends pictures.bin. keep: False where reading failed, so that no half of it stays."""
        if self._blob is not None:
            self._blob.close()
        if self._blob is not None and keep:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)

    def _found(self, cell: str, within: Path | None, encoding: str) -> Path:
        try:
            return place_of(cell, within, encoding)
        except PictureFault:
            if "\\" not in cell:
                raise
            path = place_of(cell.replace("\\", "/"), within, encoding)  # its faults say more: it may lead outside
            self._backslashes += 1
            return path

    def _written(self, content: bytes) -> str:
        try:
            if self._blob is None:
                self._blob = self._partial.open("wb")
            self._blob.write(content)
        except OSError as error:
            raise DiskError(f"{self._partial} cannot be written: {error}") from error
        start, self._end = self._end, self._end + len(content)
        return f"{self._path}#bytes={start}-{self._end}"


def place_of(name: str, within: Path | None, encoding: str = "") -> Path:
    """The absolute path of the picture that data name so, all links followed. PictureFault where data may not name it.

    within: the folder that it is relative to and must lie in. encoding: of the file that names it, for messages.
    """
    if _CONTROL.search(name):
        raise PictureFault("a picture's name cannot hold control characters such as NUL or a line end")
    if wrong_bytes(name):
        raise PictureFault(f"the name cannot be used: {undecodable(name, encoding)}")
    if _URL.match(name):
        raise PictureFault("this is a URL, and nothing is fetched: download the picture and give its path")
    if _LIKE_A_LOCATOR.search(name):
        raise PictureFault('no picture\'s name may end in "#bytes=..."')
    if within is None:
        raise PictureFault("this is a path, but there is no folder that it could be relative to")
    root = os.path.realpath(within)
    named = os.path.join(root, name)
    try:
        path = os.path.realpath(named, strict=True)
        mode = os.stat(path).st_mode
    except OSError as error:
        raise PictureFault(_missing(named, root, error)) from error
    if not lies_inside(path, Path(root)):
        raise PictureFault(_outside(root))
    if not stat.S_ISREG(mode):
        raise PictureFault("this is no file" + (" but a folder" if stat.S_ISDIR(mode) else ""))
    return Path(path)


def _missing(named: str, root: str, error: OSError) -> str:
    """Why a path leads to no file; of what lies outside the folder, not even that is said."""
    if not lies_inside(named, Path(root)):
        return _outside(root)
    if not isinstance(error, FileNotFoundError):
        return f"the file cannot be reached: {error.strerror}"
    return "this is a link to nothing" if os.path.islink(named) else "the file does not exist"


def _outside(root: str) -> str:
    return f"this leads out of the data folder {root}, and nothing outside it is read (see data.pictures)"


def _unpacked(cell: Any) -> Any:
    """The bytes of a mapping with `bytes` and `path`, or else its path; any other cell as it is."""
    if isinstance(cell, Mapping) and ("bytes" in cell or "path" in cell):
        content = cell.get("bytes")
        return content if content is not None else cell.get("path")
    return cell


def _no_picture(cell: Any, column: str) -> str:
    if cell is None or isinstance(cell, str) or cell != cell:
        return f'the picture in "{column}" is empty'
    kind = {bool: "true or false", int: "a number", float: "a number", list: "a list"}.get(type(cell), "an object")
    return f'"{column}" is {kind}, neither a path nor the bytes of a picture file'


def _short(name: str) -> str:
    shown = name.replace("\n", "\\n").replace("\r", "\\r").replace("\0", "\\0")
    return shown if len(shown) <= _SHOWN else f"…{shown[1 - _SHOWN :]}"
