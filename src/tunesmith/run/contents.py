"""Hashes of the files that a recipe reads from: by them two studies, or a run and its resumption, see what changed."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tunesmith.data.options import PLACES
from tunesmith.forgetting.run import is_run
from tunesmith.places import harness_parts, resolve_place
from tunesmith.recipe.forgetting import is_place
from tunesmith.run.folder import open_run

YOLO_PARTS = ("train", "val", "valid", "validation", "test")


def contents(settings: Mapping[str, Any], known: dict[str, str] | None = None) -> dict[str, str]:
    """Hash by place of everything on this disk that a recipe's settings (`Recipe.as_dict`) name: data, model, and what
    old tasks name. Paths must be absolute. known: hashes that were taken already, which is added to."""
    model = settings["model"]
    places = [*_of_data(settings["data"]), *(model.get(key) for key in ("name", "backbone", "weights"))]
    return _hashed([*places, *_of_old(settings)], {} if known is None else known)


def old_contents(settings: Mapping[str, Any]) -> dict[str, str]:
    """The same of what old tasks name alone."""
    return _hashed(_of_old(settings), {})


def _hashed(places: list[Any], known: dict[str, str]) -> dict[str, str]:
    found = [str(place) for place in places if place]
    for place in found:
        if place not in known:
            known[place] = _content(place)
    return {place: known[place] for place in found if known[place]}


def _of_old(settings: Mapping[str, Any]) -> list[Any]:
    olds = (settings.get("forgetting") or {}).get("old_tasks") or []
    data = [place for old in olds if old.get("data") for place in _of_data(old["data"])]
    return [*data, *(harness_parts(old["source"])[1] for old in olds if is_place(old["source"]))]


def _of_data(data: Mapping[str, Any]) -> list[Any]:
    return [data.get(key) for key in PLACES]


def _content(place: str) -> str:
    """Hash of the files behind a name, names and contents; empty for a name that means nothing on this disk."""
    path = Path(resolve_place(place))
    roots = [path] if path.exists() else sorted(map(Path, glob.glob(place)))
    if is_run(str(path)):  # what it delivers and what it was made from
        open_run(path)
        roots = [path / "manifest.json", path / "best"]
    elif path.suffix in (".yaml", ".yml") and path.is_file():
        roots = [path, *_named_in(path)]
    digest = hashlib.sha256()
    for root in roots:
        files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
        for file in files:
            name = file.relative_to(root).as_posix() if root.is_dir() else file.name
            if "__pycache__" in name or any(part.startswith(".") for part in name.split("/")):
                continue
            digest.update(f"{len(name)}:{name}:{file.stat().st_size}:".encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest() if roots else ""


def _named_in(file: Path, on_the_way: tuple[Path, ...] = ()) -> Iterator[Path]:
    """What such a file says it reads: YOLO's folders of pictures and labels, a harness task's includes and data."""
    try:
        told = yaml.load(file.read_bytes(), Loader=yaml.BaseLoader)  # makes texts, lists and mappings, no objects
    except (OSError, ValueError, yaml.YAMLError):
        return
    if not isinstance(told, Mapping) or file in on_the_way:
        return
    root = file.parent.resolve()
    bases = dict.fromkeys(base for base in ((root / str(told.get("path") or ".")).resolve(), root)
                          if base.is_relative_to(root))  # fmt: skip
    names = [name.removeprefix("../") for part in YOLO_PARTS for name in _texts(told.get(part))]
    for place in sorted({base / Path(name) for base in bases for name in names}):
        inside = place.resolve().is_relative_to(root) and place.resolve() != root  # nothing else is read, either
        for each in (place, Path(re.sub(r"images(?!.*images)", "labels", str(place)))) if inside else ():
            yield from [each] if each.exists() else []
    for name in _texts(told.get("include")):
        if (file.parent / name).is_file():
            yield file.parent / name
            yield from _named_in(file.parent / name, (*on_the_way, file))
    options = told.get("dataset_kwargs")
    for name in _texts(options.get("data_files") if isinstance(options, Mapping) else None):
        for place in (file.parent / name, Path(name)):
            yield from (Path(each) for each in sorted(glob.glob(str(place), recursive=True)))


def _texts(value: Any) -> list[str]:
    """All texts in lists and mappings."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) and value else []
