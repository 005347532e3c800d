"""The files of a folder at any depth, one after the other, in the order of their names, and where its links lead."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tunesmith.errors import DataError

_REPOSITORY = re.compile("(datasets|models|spaces)--.")


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
    """Whether a path that stands in the folder `home` (resolved) is itself a link that leads out of it."""
    return os.path.islink(path) and not lies_inside(path, home)


def lies_inside(path: str | Path, home: Path) -> bool:
    """Whether a path, with all links in it followed, lies in the folder `home` (resolved).

    The cache of the Hugging Face hub keeps a data set as links in `datasets--NAME/snapshots/HASH`, which lead to
    `datasets--NAME/blobs`: for a folder in such a snapshot that is inside, too.
    """
    real = Path(os.path.realpath(path))
    return real.is_relative_to(home) or any(real.is_relative_to(blobs) for blobs in _blobs(home))


def links_aside(shown: str, names: Sequence[str]) -> list[str]:
    """The note on links that lead out of a folder and are not followed, by their names; none where there are none."""
    return [f"{shown}: left aside are {len(names)} links that lead out of it, such as {names[0]}."] if names else []


def _blobs(home: Path) -> Iterator[Path]:
    for snapshots in home.parents:
        if snapshots.name == "snapshots" and _REPOSITORY.match(snapshots.parent.name):
            yield snapshots.parent / "blobs"
