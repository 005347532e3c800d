"""What a YOLO data.yaml says: the classes and where the pictures of each part lie."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tunesmith.data.box_readers.base import text_of
from tunesmith.data.parts import PARTS, part_of
from tunesmith.data.readers._walk import lies_inside
from tunesmith.errors import DataError

_LARGEST = 1 << 20
"""Bytes that a data.yaml may have."""

_PARTS = {"train", "val", "test"}


class Layout(NamedTuple):
    """What a data.yaml says. parts: part -> its folders of pictures, or text files that list pictures."""

    root: Path
    names: tuple[str, ...]
    parts: dict[str | None, list[Path]]
    own: Path


def yaml_of(folder: Path) -> Path | None:
    """The file that names classes and a part; one called data.yaml before others."""
    for file in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")], key=lambda p: (p.stem != "data", p.name)):
        try:
            known = _parsed(file, folder.resolve())
        except DataError:
            continue
        if isinstance(known, dict) and "names" in known and _PARTS & set(known):
            return file
    return None


def is_plain(folder: Path) -> bool:
    """Whether classes.txt stands in for a data.yaml."""
    return (folder / "classes.txt").is_file() and all((folder / name).is_dir() for name in ("images", "labels"))


def _parsed(file: Path, folder: Path) -> Any:
    """The YAML with every scalar as the text it is: a class may be called `no` or `1.0`."""
    try:
        text = text_of(file, folder, _LARGEST)
        return yaml.load(text, Loader=yaml.BaseLoader)  # makes texts, lists and mappings, no objects
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error


def layout_of(path: Path, shown: str) -> Layout:
    """What the data.yaml at `path`, or in the folder `path`, says; DataError where it makes no sense."""
    file = path if path.is_file() else yaml_of(path)
    if file is None:
        return _plain(path.resolve())
    known = _parsed(file, file.resolve().parent if path.is_file() else path.resolve())
    if not isinstance(known, dict) or "names" not in known or not _PARTS & set(known):
        raise DataError(
            f"{shown} is no data.yaml of a YOLO data set: "
            "it must have `names` (the classes) and `train` (or `val`, `test`)."
        )
    root = file.parent.resolve()
    given = known.get("path")
    base = (root / given).resolve() if isinstance(given, str) and "\0" not in given else root
    if not base.is_dir():
        base = root  # a path of the machine that the data set was made on
    if not base.is_relative_to(root):
        raise DataError(
            f"{shown}: path: {given} leads out of the folder {root}, and nothing outside it is read. Put the "
            f"data.yaml into the folder that holds the pictures, without `path`."
        )
    named = {part_of(key): value for key, value in known.items() if isinstance(key, str) and part_of(key) and value}
    return Layout(
        root,
        _names(known["names"], shown),
        {
            part: [_inside(one, base, root, shown, part) for one in _texts(named[part], shown, part)]
            for part in PARTS
            if part in named
        },
        root / file.name,
    )


def _plain(root: Path) -> Layout:
    """Of a folder where classes.txt stands in for a data.yaml."""
    names = tuple(line.strip() for line in text_of(root / "classes.txt", root).splitlines() if line.strip())
    inner = sorted(p for p in (root / "images").iterdir() if p.is_dir() and part_of(p.name))
    parts: dict[str | None, list[Path]] = {part_of(p.name): [p] for p in inner}
    parts = parts or {None: [root / "images"]}
    for place in (places[0] for places in parts.values()):
        if not lies_inside(place, root):
            raise DataError(f"{place} is a link that leads out of the folder {root}, and nothing outside it is read.")
    return Layout(root, names, parts, root / "classes.txt")


def _texts(value: Any, shown: str, key: str) -> list[str]:
    """A text or a list of texts; never the text of a nested value, which aliases can make endless."""
    many = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) and one.strip() and "\0" not in one for one in many):
        raise DataError(f"{shown}: {key} must be a text or a list of texts.")
    return [one.strip() for one in many]


def _inside(name: str, base: Path, root: Path, shown: str, part: str) -> Path:
    """The folder or list that a part names. Roboflow writes `../train/images` for what is `train/images`."""
    for spelling in (name, name.removeprefix("../")):
        for place in (base, root):
            named = place / spelling
            path = named.resolve()
            if path.is_relative_to(root) and path.exists():
                return path
            if named.is_file() and lies_inside(named, root) and lies_inside(named.parent, root):
                return named.parent.resolve() / named.name  # a list in a snapshot of the hub, whose place is elsewhere
    if not (base / name).resolve().is_relative_to(root):
        raise DataError(
            f"{shown}: {part}: {name} leads out of the folder {root}, and nothing outside it is read. Put the "
            f"data.yaml into the folder that holds the pictures, with paths relative to it."
        )
    raise DataError(f"{shown}: {part}: there is no {name} in {base}.")


def _names(given: Any, shown: str) -> tuple[str, ...]:
    if isinstance(given, dict):
        numbers = [key for key in map(str, range(len(given))) if key in given]
        if len(numbers) < len(given):
            raise DataError(f"{shown}: names must number the classes 0, 1, 2 ... without a gap.")
        given = [given[key] for key in numbers]
    if not isinstance(given, list) or not given:
        raise DataError(f"{shown}: names lists no classes.")
    names = tuple(_texts(given, shown, "names"))
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{shown}: names has a class twice: {twice}.")
    return names
