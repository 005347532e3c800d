"""Hashes of the files that a recipe reads from: by them two studies, or a run and its resumption, see what changed."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tunesmith.data.options import PLACES
from tunesmith.forgetting.run import is_run
from tunesmith.places import harness_parts, resolve_place
from tunesmith.recipe.forgetting import is_place
from tunesmith.recipe.read import MAX_BYTES
from tunesmith.run.folder import open_run

YOLO_PARTS = ("train", "val", "valid", "validation", "test")
LONGEST_PATH = 1_000


def contents(settings: Mapping[str, Any], known: dict[str, str] | None = None) -> dict[str, str]:
    """Hash by place of everything on this disk that a recipe's settings (`Recipe.as_dict`) name: data, model, and what
    old tasks name. Paths must be absolute. known: hashes that were taken already, which is added to."""
    model = settings["model"]
    places = [*_of_data(settings["data"]), *(model.get(key) for key in ("name", "backbone", "weights"))]
    data, tasks = _of_old(settings)
    return _hashed([*places, *data], tasks, {} if known is None else known)


def old_contents(settings: Mapping[str, Any]) -> dict[str, str]:
    """The same of what old tasks name alone."""
    return _hashed(*_of_old(settings), {})


def _hashed(places: list[Any], tasks: list[str], known: dict[str, str]) -> dict[str, str]:
    """tasks: task files of the harness, and old tasks' names."""
    found = {str(place): _of_pictures for place in places if place} | dict.fromkeys(tasks, _of_task)
    for place, named_in in found.items():
        if place not in known:
            known[place] = _content(place, named_in)
    return {place: known[place] for place in found if known[place]}


def _of_old(settings: Mapping[str, Any]) -> tuple[list[Any], list[str]]:
    """(the data of old tasks, what they are)."""
    olds = (settings.get("forgetting") or {}).get("old_tasks") or []
    data = [place for old in olds if old.get("data") for place in _of_data(old["data"])]
    return data, [harness_parts(old["source"])[1] for old in olds if is_place(old["source"])]


def _of_data(data: Mapping[str, Any]) -> list[Any]:
    return [data.get(key) for key in PLACES]


def _content(place: str, named_in: Callable[[Path], Iterator[Path]]) -> str:
    """Hash of the files behind a name, names and contents; empty for a name that means nothing on this disk.

    named_in: what a YAML file of that kind reads beside itself.
    """
    path = Path(resolve_place(place))
    roots = [path] if path.exists() else sorted(map(Path, glob.glob(place)))
    if is_run(str(path)):  # what it delivers and what it was made from
        open_run(path)
        roots = [path / "manifest.json", path / "best"]
    elif path.suffix in (".yaml", ".yml") and path.is_file():
        roots = [path, *named_in(path)]
    digest = hashlib.sha256()
    for root in roots:
        files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root] * root.is_file()
        for file in files:
            name = file.relative_to(root).as_posix() if root.is_dir() else file.name
            if "__pycache__" in name or any(part.startswith(".") for part in name.split("/")):
                continue
            digest.update(f"{len(name)}:{name}:{file.stat().st_size}:".encode(errors="surrogateescape"))
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest() if roots else ""


def _told(file: Path) -> Mapping[str, Any]:
    """What a YAML file says, its tags passed over; nothing where it is larger than such a file, or none."""
    try:
        if not file.is_file() or file.stat().st_size > MAX_BYTES:
            return {}
        told = yaml.load(file.read_bytes(), Loader=yaml.BaseLoader)  # makes texts, lists and mappings, no objects
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return told if isinstance(told, Mapping) else {}


def _of_pictures(file: Path) -> Iterator[Path]:
    """The folders of pictures and labels that YOLO's data.yaml names; nothing outside its own folder."""
    told, root = _told(file), file.parent.resolve()
    bases = dict.fromkeys(base for name in (*_texts(told.get("path"))[:1], ".")
                          if (base := _real(root / name)).is_relative_to(root))  # fmt: skip
    names = {name.removeprefix("../") for part in YOLO_PARTS for name in _texts(told.get(part))}
    found = {_real(base / name) for base in bases for name in names}
    for place in sorted(found):
        if place != root and place.is_relative_to(root):  # nothing else is read, either
            inside = str(place.relative_to(root))
            for each in dict.fromkeys((inside, "labels".join(inside.rsplit("images", 1)))):
                if os.path.exists(root / each) and _real(root / each).is_relative_to(root):
                    yield root / each


def _of_task(file: Path, on_the_way: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The includes and the data that a task file of the harness names."""
    if file in on_the_way:
        return
    told = _told(file)
    for name in _texts(told.get("include")):
        if os.path.isfile(file.parent / name):
            yield file.parent / name
            yield from _of_task(file.parent / name, (*on_the_way, file))
    options = told.get("dataset_kwargs")
    for name in _texts(options.get("data_files") if isinstance(options, Mapping) else None):
        for place in (file.parent / name, Path(name)):
            yield from (Path(each) for each in sorted(glob.glob(str(place), recursive=True)))


def _real(path: Path) -> Path:
    """With all links followed; one that leads in a circle stays as it is."""
    return Path(os.path.realpath(path))


def _texts(value: Any) -> list[str]:
    """All texts in lists and mappings that can be paths, each once, however often aliases repeat them."""
    texts: dict[str, None] = {}
    waiting, seen = [value], set()
    while waiting:
        each = waiting.pop()
        if isinstance(each, str) and 0 < len(each) <= LONGEST_PATH and "\0" not in each:
            texts[each] = None
        elif isinstance(each, list | Mapping) and id(each) not in seen:
            seen.add(id(each))
            waiting += reversed(list(each.values()) if isinstance(each, Mapping) else each)
    return list(texts)
