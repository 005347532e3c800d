"""What the person wrote as data to the files that hold it: a file, a folder, a glob, a package, a hub name."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from tunesmith.data.options import DataOptions
from tunesmith.data.parts import PARTS, part_of
from tunesmith.data.readers.base import Reader, registry
from tunesmith.errors import DataError, did_you_mean
from tunesmith.places import resolve_place

_SAME = {"tsv": "csv", "txt": "csv", "ndjson": "jsonl"}
_REFUSED = {
    ".xlsx": "a spreadsheet: save it as CSV (UTF-8)",
    ".xls": "a spreadsheet: save it as CSV (UTF-8)",
    ".ods": "a spreadsheet: save it as CSV (UTF-8)",
    ".zip": "an archive: unpack it",
    ".gz": "compressed: unpack it",
    ".bz2": "compressed: unpack it",
    ".xz": "compressed: unpack it",
    ".zst": "compressed: unpack it",
    ".tar": "an archive: unpack it",
    ".pkl": "a pickle, which can run code when it is opened: save it as CSV or Parquet",
    ".pickle": "a pickle, which can run code when it is opened: save it as CSV or Parquet",
}


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to open: how, where, its name in messages, and the part it is if its place says so."""

    reader: Reader
    path: Path
    shown: str
    part: str | None = None


def find(options: DataOptions) -> tuple[list[Source], list[str]]:
    """Every source of the data, and notes; DataError where something is not there or cannot be read."""
    sources, notes = _find(options.path, options.format)
    for part, name in (("validation", options.validation), ("test", options.test)):
        if name is None:
            continue
        if any(source.part == part for source in sources):
            raise DataError(f"data.path holds a {part} part, and data.{part} names another: leave one of them out.")
        found, more = _find(name, options.format)
        sources += [Source(s.reader, s.path, s.shown, part) for s in found]
        notes += more
    _settings_are_heeded(sources, options)
    return sources, notes


def find_one(name: str, options: DataOptions) -> list[Source]:
    """The sources of one path, all parts alike."""
    sources, _ = _find(name, options.format)
    _settings_are_heeded(sources, options)
    return sources


def _find(name: str, form: str) -> tuple[list[Source], list[str]]:
    if name.startswith("hf:"):
        return [Source(registry.get("hugging_face")(), Path(name), name)], []
    path = Path(resolve_place(name)).expanduser()
    if path.is_dir():
        return _folder(path, name, form)
    if path.exists():
        return [Source(_reader(path, form), path, name)], []
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True)) if Path(match).is_file()]
    if matches:
        return _files(matches, [str(match) for match in matches], form)
    if glob.has_magic(str(path)):
        raise DataError(f'"{name}" matches no file.')
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) and not path.suffix and not path.parent.exists():
        return [Source(registry.get("hugging_face")(), path, name)], []
    raise DataError(f'There is no file or folder "{name}".{_near(path)}{_hub_hint(name)}')


def _folder(path: Path, name: str, form: str) -> tuple[list[Source], list[str]]:
    for kind in registry.names() if form == "auto" else (_SAME.get(form, form),):
        reader = registry.get(kind)()
        if reader.recognises(path):
            return [Source(reader, path, name)], []
    known = {ending for kind in registry.names() for ending in registry.get(kind).endings}
    files = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in known and p.name[0] not in "._")
    files = [p for p in files if part_of(p.name) or not p.stem.casefold().startswith(("readme", "license", "licence"))]
    if form != "auto":
        endings = registry.get(_SAME.get(form, form)).endings
        files = [p for p in files if p.suffix.lower() in endings]
    if not files:
        raise DataError(
            f"The folder {name} holds no data: neither files that end in {', '.join(sorted(known))} nor folders of "
            f".txt files (one folder a class) nor a data set saved by save_to_disk."
        )
    return _files(files, [f"{name.rstrip('/')}/{p.name}" for p in files], form)


def _files(paths: list[Path], shown: list[str], form: str) -> tuple[list[Source], list[str]]:
    """Several files: parts if one of them is called train, else all alike."""
    parts = [part_of(path.name) for path in paths]
    notes: list[str] = []
    if "train" in parts:
        left = [name for name, part in zip(shown, parts, strict=True) if part is None]
        if left:
            notes.append(f"Not used, since their names are none of {', '.join(PARTS)}: {', '.join(left[:5])}.")
    else:
        parts = [None] * len(paths)
    return [
        Source(_reader(path, form), path, name, part)
        for path, name, part in zip(paths, shown, parts, strict=True)
        if part is not None or "train" not in parts
    ], notes


def _reader(path: Path, form: str) -> Reader:
    if form != "auto":
        return registry.get(_SAME.get(form, form))()
    ending = path.suffix.lower()
    if ending in _REFUSED:
        raise DataError(f"{path} is {_REFUSED[ending]}, then name that.")
    if not path.is_file():
        raise DataError(f"{path} is neither a file nor a folder.")
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"PAR1"):
        return registry.get("parquet")()
    if ending == ".json" and text.startswith(b"{") and _one_object_a_line(text):
        return registry.get("jsonl")()
    for kind in registry.names():
        if ending in registry.get(kind).endings:
            return registry.get(kind)()
    if text.startswith((b"{", b"[")):
        return registry.get("jsonl" if text.startswith(b"{") and _one_object_a_line(text) else "json")()
    return registry.get("csv")()


def _one_object_a_line(text: bytes) -> bool:
    first, _, rest = text.partition(b"\n")
    return first.rstrip().endswith(b"}") and rest.lstrip().startswith(b"{")


def _settings_are_heeded(sources: list[Source], options: DataOptions) -> None:
    """A setting that no reader here heeds is refused, not ignored."""
    for setting in ("encoding", "separator", "header"):
        if getattr(options, setting) != "auto" and not any(setting in source.reader.settings for source in sources):
            formats = " and ".join(sorted({source.reader.name for source in sources}))
            raise DataError(f"data.{setting} is given, but means nothing for {formats} data: leave it out.")


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f" The folder {path.parent} does not exist either."
    return did_you_mean(path.name, [p.name for p in path.parent.iterdir()])


def _hub_hint(name: str) -> str:
    return f" For a data set of the Hugging Face hub write hf:{name}." if re.fullmatch(r"[\w-]+", name) else ""
