"""The files of a folder at any depth, one after the other, in the order of their names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tunesmith.errors import DataError


def names_in(folder: str | Path) -> list[str]:
    """What lies in a folder, by name. DataError where it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error


def walk(folder: str | Path, wanted: Callable[[str, bool], bool]) -> Iterator[str]:
    """Paths of all that is no folder, also of links, in a folder and the folders in it; links to folders are not
    entered. In memory are the names in the folders on the way.

    wanted: of a name, and whether it is a folder's, whether it is looked at. DataError where a folder cannot be read.
    """
    waiting = [(str(folder), True)]
    while waiting:
        path, is_folder = waiting.pop()
        if not is_folder:
            yield path
            continue
        try:
            with os.scandir(path) as entries:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError as error:
            raise DataError(f"The folder {path} cannot be read: {error.strerror}.") from error
        kept = sorted((one for one in found if wanted(*one)), reverse=True)
        waiting += [(os.path.join(path, name), inner) for name, inner in kept]


def leads_out(path: str | Path, home: Path) -> bool:
    """Whether a path that stands in the folder `home` (resolved) is a link that leads out of it."""
    return os.path.islink(path) and not Path(os.path.realpath(path)).is_relative_to(home)
