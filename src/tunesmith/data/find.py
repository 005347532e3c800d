"""What the person wrote as data to the files that hold it: a file, a folder, a glob, a package, a hub name."""

from __future__ import annotations

import glob
import re
from dataclasses import dataclass
from pathlib import Path

from tunesmith.data.known_names import PICTURE_ENDINGS
from tunesmith.data.options import DataOptions
from tunesmith.data.parts import NAMES, PARTS, part_of
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
    ".tgz": "an archive: unpack it",
    ".7z": "an archive: unpack it",
    ".rar": "an archive: unpack it",
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


def find(options: DataOptions, kind: str = "texts") -> tuple[list[Source], list[str]]:
    """Every source of the data, and notes; DataError where something is not there or cannot be read.

    kind: what the data are to hold (`Task.kind`); only readers of that kind are asked.
    """
    sources, notes = _find(options.path, options.format, kind, whole=True)
    for part, name in (("validation", options.validation), ("test", options.test)):
        if name is None:
            continue
        if any(source.part == part for source in sources):
            raise DataError(f"data.path holds a {part} part, and data.{part} names another: leave one of them out.")
        found, more = _find(name, options.format, kind)
        sources += [Source(s.reader, s.path, s.shown, part) for s in found]
        notes += more
    _settings_are_heeded(sources, options, kind)
    return sources, notes


def find_one(name: str, options: DataOptions, kind: str = "texts") -> list[Source]:
    """The sources of one path, all parts alike."""
    sources, _ = _find(name, options.format, kind)
    _settings_are_heeded(sources, options, kind)
    return sources


def pictures_within(path: Path, options: DataOptions) -> Path | None:
    """The folder that paths of pictures in this file (or folder) are relative to; None for a name on the hub."""
    if options.pictures is not None:
        folder = Path(resolve_place(options.pictures)).expanduser()
        if not folder.is_dir():
            raise DataError(f'data.pictures is "{options.pictures}", which is no folder.{_near(folder)}')
        return folder
    return path if path.is_dir() else path.parent if path.is_file() else None


def _find(name: str, form: str, kind: str, *, whole: bool = False) -> tuple[list[Source], list[str]]:
    """whole: whether all parts are looked for there, so that a held-out file must be told from others."""
    if name.startswith("hf:"):
        return [Source(registry.get("hugging_face")(), Path(name), name)], []
    path = Path(resolve_place(name)).expanduser()
    if path.is_dir():
        return _folder(path, name, form, kind, whole=whole)
    if path.exists():
        return [Source(_reader(path, _asked(form, kind)), path, name)], []
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True)) if Path(match).is_file()]
    if matches:
        return _files(matches, [str(match) for match in matches], _asked(form, kind), whole=whole)
    if glob.has_magic(str(path)):
        raise DataError(f'"{name}" matches no file.')
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) and not path.suffix and not path.parent.exists():
        return [Source(registry.get("hugging_face")(), path, name)], []
    raise DataError(f'There is no file or folder "{name}".{_near(path)}{_hub_hint(name)}')


def _folder(path: Path, name: str, form: str, kind: str, *, whole: bool) -> tuple[list[Source], list[str]]:
    asked = _asked(form, kind)
    for reader in asked:
        if reader.recognises(path):
            if form == "auto" and reader.makes_do(path):
                _no_tables_beside(path, name, asked)
            return [Source(reader, path, name)], []
    if files := _files_in(path, asked):
        return _files(files, [f"{name.rstrip('/')}/{p.name}" for p in files], asked, whole=whole)
    parts = [folder for folder in sorted(path.iterdir()) if part_of(folder.name) and folder.is_dir()]
    if kind == "images" and parts and all(_files_in(folder, asked) for folder in parts):
        found = [(folder, _files_in(folder, asked)) for folder in parts]  # such as train/metadata.csv
        return [
            Source(_reader(file, asked), file, f"{name.rstrip('/')}/{folder.name}/{file.name}", part_of(folder.name))
            for folder, files in found
            for file in files
        ], []
    for reader in asked:
        if reader.makes_do(path):
            return [Source(reader, path, name)], []
    folders = "pictures" if kind == "images" else ".txt files"
    known = sorted({ending for reader in _asked("auto", kind) for ending in reader.endings})
    raise DataError(
        f"The folder {name} holds no data: neither files that end in {', '.join(known)} nor folders of "
        f"{folders} (one folder a class) nor a data set saved by save_to_disk."
    )


def _no_tables_beside(path: Path, name: str, asked: list[Reader]) -> None:
    """DataError where folders of pictures could be classes, but a file beside them may hold the labels."""
    if tables := _files_in(path, asked):
        listed = ", ".join(table.name for table in tables[:3])
        raise DataError(
            f"The folder {name} holds folders of pictures and {listed}: it is not plain which says the classes. "
            f"Write data.format=image_folder if a folder is a class, or else name the file: data.path={tables[0]}"
        )


def _files_in(path: Path, asked: list[Reader]) -> list[Path]:
    """The files directly in a folder that these readers can read by their endings; no notes beside loose pictures."""
    endings = {ending for reader in asked for ending in reader.endings}
    files = sorted(p for p in path.iterdir() if p.is_file() and p.suffix.lower() in endings and p.name[0] not in "._")
    files = [p for p in files if part_of(p.name) or not p.stem.casefold().startswith(("readme", "license", "licence"))]
    if any(reader.makes_do(path) for reader in asked):
        files = [p for p in files if part_of(p.name) or p.suffix.lower() != ".txt"]
    return files


def _asked(form: str, kind: str) -> list[Reader]:
    """The reader that the recipe names, or every one whose format can hold that kind of data."""
    fitting = [cls() for cls in map(registry.get, registry.names()) if kind in cls.kinds]
    if form == "auto":
        return fitting
    reader = registry.get(_SAME.get(form, form))()
    if kind not in reader.kinds:
        known = ", ".join(r.name for r in fitting)
        raise DataError(f'data.format is "{form}", which holds no {kind}. Formats that do: {known}.')
    return [reader]


def _files(paths: list[Path], shown: list[str], asked: list[Reader], *, whole: bool) -> tuple[list[Source], list[str]]:
    """Several files: parts if one of them is called train, else all alike."""
    parts = [None if path.suffix.lower() in PICTURE_ENDINGS else part_of(path.name) for path in paths]
    notes: list[str] = []
    if "train" in parts:
        left = [name for name, part in zip(shown, parts, strict=True) if part is None]
        if left:
            notes.append(f"Not used, since their names are none of {', '.join(PARTS)}: {', '.join(left[:5])}.")
    else:
        if whole:
            _refuse_mixed(paths, shown, parts)
        parts = [None] * len(paths)
    return [
        Source(_reader(path, asked), path, name, part)
        for path, name, part in zip(paths, shown, parts, strict=True)
        if part is not None or "train" not in parts
    ], notes


def _refuse_mixed(paths: list[Path], shown: list[str], parts: list[str | None]) -> None:
    """DataError where held-out rows would be trained on: several files, of which names say that some are held out."""
    words = [set(re.split(r"[^a-z]+", path.stem.casefold())) & set(NAMES) for path in paths]
    said = {name: part or NAMES[min(word)] for name, part, word in zip(shown, parts, words, strict=True)
            if part or len(word) == 1}  # fmt: skip
    held = [name for name, part in said.items() if part != "train"]
    if held and len(paths) > 1 and not any(path.suffix.lower() in PICTURE_ENDINGS for path in paths):
        raise DataError(
            f"{', '.join(held[:3])} seems to be held out, and no file is called train, so that all rows would be put "
            "together and split anew. Say which is which: data.path for what is learned from, with data.test and "
            "data.validation; or call the files train, validation and test."
        )


def _reader(path: Path, asked: list[Reader]) -> Reader:
    if len(asked) == 1:
        return asked[0]
    for reader in asked:
        if reader.recognises(path):
            return reader
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
    if ending in (".json", ".txt") and text.startswith(b"{") and _one_object_a_line(text):
        return registry.get("jsonl")()
    for reader in asked:
        if ending in reader.endings:
            return reader
    if text.startswith((b"{", b"[")):
        return registry.get("jsonl" if text.startswith(b"{") and _one_object_a_line(text) else "json")()
    return registry.get("csv")()


def _one_object_a_line(text: bytes) -> bool:
    first, _, rest = text.partition(b"\n")
    return first.rstrip().endswith(b"}") and rest.lstrip().startswith(b"{")


def _settings_are_heeded(sources: list[Source], options: DataOptions, kind: str) -> None:
    """A setting that no reader here heeds is refused, not ignored."""
    for setting in ("encoding", "separator", "header"):
        if getattr(options, setting) != "auto" and not any(setting in source.reader.settings for source in sources):
            formats = " and ".join(sorted({source.reader.name for source in sources}))
            raise DataError(f"data.{setting} is given, but means nothing for {formats} data: leave it out.")
    if options.pictures is not None and (kind != "images" or all(s.reader.kinds == ("images",) for s in sources)):
        formats = kind if kind != "images" else " and ".join(sorted({s.reader.name for s in sources}))
        raise DataError(f"data.pictures is given, but means nothing for {formats}: leave it out.")


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f" The folder {path.parent} does not exist either."
    return did_you_mean(path.name, [p.name for p in path.parent.iterdir()])


def _hub_hint(name: str) -> str:
    return f" For a data set of the Hugging Face hub write hf:{name}." if re.fullmatch(r"[\w-]+", name) else ""
