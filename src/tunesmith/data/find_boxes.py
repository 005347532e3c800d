"""What the person wrote as data to the annotations that hold it: a folder, a JSON file, a data.yaml, a hub name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tunesmith.data.box_readers.base import BoxReader, registry
from tunesmith.data.options import DataOptions
from tunesmith.errors import DataError, did_you_mean
from tunesmith.places import resolve_place

_ORDER = ("coco", "voc", "yolo", "hugging_face")
"""Which format a folder is read in where it holds several: the one that says most first."""


class BoxSource(NamedTuple):
    """One thing to open: how, where, its name in messages, and the part it is if the recipe says so."""

    reader: BoxReader
    path: Path
    shown: str
    part: str | None = None


def find_boxes(options: DataOptions) -> tuple[list[BoxSource], list[str]]:
    """Every source of pictures with boxes, and notes; DataError where there is none, or a setting means nothing."""
    first, notes = _find(options.path, options.format)
    sources = [first]
    for part, name in (("validation", options.validation), ("test", options.test)):
        if name is not None:
            found, more = _find(name, options.format)
            sources.append(found._replace(part=part))
            notes += more
    _refuse_what_means_nothing(options, sources)
    return sources, notes


def find_one_of_boxes(name: str, options: DataOptions) -> BoxSource:
    """The source of one path, all parts alike."""
    source, _ = _find(name, options.format)
    _refuse_what_means_nothing(options, [source])
    return source


def _find(name: str, form: str) -> tuple[BoxSource, list[str]]:
    asked = _readers() if form == "auto" else [registry.get(form)()]
    if name.startswith("hf:"):
        return BoxSource(registry.get("hugging_face")(), Path(name), name), []
    path = Path(resolve_place(name)).expanduser()
    if path.is_dir():
        fitting = [reader for reader in asked if reader.recognises(path)]
        if not fitting:
            raise DataError(_nothing(name, form))
        others = ", ".join(reader.name for reader in fitting[1:])
        note = f"{name} is read as {fitting[0].name}; it holds {others} too (data.format={others.split(',')[0]})."
        return BoxSource(fitting[0], path, name), [note] if others else []
    if path.is_file():
        ending = path.suffix.lower()
        reader = next((reader for reader in asked if ending in reader.endings), None)
        if reader is None:
            endings = ", ".join(ending for reader in asked for ending in reader.endings)
            raise DataError(f"{name} holds no pictures with boxes: name a folder, or a file that ends in {endings}.")
        return BoxSource(reader, path, name), []
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) and not path.suffix and not path.parent.exists():
        return BoxSource(registry.get("hugging_face")(), path, name), []
    near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise DataError(f'There is no file or folder "{name}".{did_you_mean(path.name, near)}')


def _readers() -> list[BoxReader]:
    """Every reader: ours in their order, then those of other packages."""
    names = [*_ORDER, *(name for name in registry.names() if name not in _ORDER)]
    return [registry.get(name)() for name in names]


def _nothing(name: str, form: str) -> str:
    asked = "" if form == "auto" else f" in {form} form"
    return (
        f"The folder {name} holds no pictures with boxes{asked}: neither COCO JSON files (in it or in annotations/), "
        f"nor Pascal VOC XML files (in it or in Annotations/), nor a data.yaml of a YOLO set, nor a data set saved by "
        f"save_to_disk, nor Parquet files."
    )


def _refuse_what_means_nothing(options: DataOptions, sources: list[BoxSource]) -> None:
    """A setting that is for texts and labels is refused, not ignored."""
    given = [f"data.{name}" for name in ("encoding", "separator", "header") if getattr(options, name) != "auto"]
    given += [f"data.columns.{name}" for name in type(options.columns).model_fields if getattr(options.columns, name)]
    given += ["data.multi_label"] if options.multi_label != "auto" else []
    given += ["data.label_separator"] if options.label_separator is not None else []
    given += ["data.split.group_by"] if options.split.group_by is not None else []
    if options.pictures is not None and not any(source.reader.heeds_pictures for source in sources):
        given.append("data.pictures")
    if given:
        formats = " and ".join(sorted({source.reader.name for source in sources}))
        raise DataError(f"{', '.join(given)} given, but without meaning for boxes in {formats} form: leave it out.")
