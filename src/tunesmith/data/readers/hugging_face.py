"""A Hugging Face data set: a folder written by `save_to_disk`, or a name on the hub (`hf:NAME`, `hf:NAME/CONFIG`).

The hub is asked only because the recipe names it; code from the hub is never run. Splits called train, validation (dev)
and test become the parts; class numbers become their names where the data set knows them. Pictures, sounds and videos
are what the data set has: their bytes, or a path that is looked up in the folder; no address is fetched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.data.options import DataOptions
from tunesmith.data.parts import part_of
from tunesmith.data.readers._arrow_rows import rows_of_saved
from tunesmith.data.readers._splits import load_splits
from tunesmith.data.readers.base import Reader, Row, Table, peek
from tunesmith.errors import DataError


class HuggingFace(Reader):
    """Reads through the datasets library, memory-mapped."""

    def recognises(self, path: Path) -> bool:
        """A folder that `save_to_disk` wrote."""
        return path.is_dir() and any((path / name).is_file() for name in ("dataset_dict.json", "dataset_info.json"))

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[Table]:
        """One table a split."""
        splits = load_splits(path, shown)
        parts = {name: part_of(name) for name in splits}
        if sum(part is not None for part in parts.values()) == 0 and len(splits) > 1:
            raise DataError(f"{shown} has the splits {', '.join(splits)}; none is called train. Name one as a folder.")
        left = [name for name in splits if parts[name] is None and len(splits) > 1]
        notes = [f"{shown}: the splits {', '.join(left)} are not used."] if left else []
        for name, split in splits.items():
            if name in left:
                continue
            file = f"{shown}/{name}" if name else shown
            sample, rows = peek(_rows(split, file, hub=not path.is_dir()))
            yield Table(
                file=file,
                columns=tuple(split.column_names),
                rows=rows,
                sample=sample,
                part=parts[name] if len(splits) > 1 else None,
                notes=notes,
            )

    def sha256(self, path: Path) -> str:
        """Hash of the Arrow files of all splits."""
        digest = hashlib.sha256()
        for name, rows in sorted(load_splits(path, str(path)).items()):
            digest.update(name.encode())
            for file in rows.cache_files:
                with open(file["filename"], "rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
        return digest.hexdigest()


def _pictures(split: Any) -> list[str]:
    """The columns that hold pictures."""
    import datasets

    return [name for name, feature in split.features.items() if isinstance(feature, datasets.Image)]


def _rows(split: Any, shown: str, *, hub: bool) -> Iterator[Row]:
    import datasets

    pictures = _pictures(split) if hub else []
    names = {k: f.names for k, f in split.features.items() if isinstance(f, datasets.ClassLabel)}
    lists = {
        k: f.feature.names
        for k, f in split.features.items()
        if isinstance(f, datasets.List) and isinstance(f.feature, datasets.ClassLabel)
    }
    for number, (row, reason) in enumerate(rows_of_saved(split, shown), start=1):
        if row is None:
            yield Row(number, None, reason)
            continue
        for key in pictures:
            row[key] = _from_cache(row[key])
        for key, known in names.items():
            row[key] = _name(row[key], known)
        for key, known in lists.items():
            row[key] = None if row[key] is None else [_name(one, known) for one in row[key]]
        yield Row(number, row)


def _from_cache(cell: Any) -> Any:
    """A picture of a hub data set that is a file of its own in the library's cache: its bytes. Others as they are."""
    import datasets
    from huggingface_hub.constants import HF_HUB_CACHE

    if not isinstance(cell, dict) or cell.get("bytes") is not None or not cell.get("path"):
        return cell
    path = Path(cell["path"]).resolve()
    caches = (Path(HF_HUB_CACHE), Path(datasets.config.HF_DATASETS_CACHE))
    if any(path.is_relative_to(cache.resolve()) for cache in caches) and path.is_file():
        return {"bytes": path.read_bytes(), "path": None}
    return cell


def _name(index: int | None, known: list[str]) -> str | None:
    """A class number's name; -1 and None mean that the row has no label."""
    return known[index] if index is not None and 0 <= index < len(known) else None
