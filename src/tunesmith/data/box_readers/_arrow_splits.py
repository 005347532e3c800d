"""The splits of a Hugging Face data set: a folder that `save_to_disk` wrote, Parquet files, or a name on the hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tunesmith.data.parts import part_of
from tunesmith.data.readers._arrow_rows import Found, rows_of_parquet, rows_of_saved
from tunesmith.data.readers._splits import load_splits
from tunesmith.data.readers._walk import lies_inside, links_aside
from tunesmith.errors import DataError


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of a folder, or of its folder `data`; no link that leads out of it."""
    home = folder.resolve()
    return [file for file in _parquet_files(folder) if lies_inside(file, home)]


def links_out(folder: Path, shown: str) -> list[str]:
    """A note on the Parquet files that are links out of the folder, if there are any."""
    home = folder.resolve()
    return links_aside(shown, [file.name for file in _parquet_files(folder) if not lies_inside(file, home)])


def _parquet_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = sorted(folder.glob("*.parquet")) or sorted((folder / "data").glob("*.parquet"))
    return [file for file in found if file.is_file() and file.name[0] != "."]


def splits_of(path: Path, shown: str) -> dict[str, Any]:
    """Each split by its name, "" for a single one, with `features` and `column_names`. DataError where it has none."""
    if not (files := [path] if path.is_file() else parquet_files(path)) and (notes := links_out(path, shown)):
        raise DataError(f"{notes[0]} Nothing outside a folder is read: copy the files to the places of the links.")
    if files:
        return _from_parquet(files, shown)
    return {name: _SavedRows(split, shown) for name, split in load_splits(path, shown).items()}


class _SavedRows:
    """The rows of a `datasets.Dataset`."""

    def __init__(self, split: Any, shown: str) -> None:
        self._split, self._shown = split, shown
        self.features, self.column_names = split.features, split.column_names
        self.cache_files = split.cache_files

    def __iter__(self) -> Iterator[Found]:
        return rows_of_saved(self._split, self._shown)


class _ParquetRows:
    """The rows of some Parquet files of one form."""

    def __init__(self, files: Sequence[Path], shown: str) -> None:
        import datasets
        import pyarrow.parquet as pq

        self._files, self._shown = files, shown
        self.features = datasets.Features.from_arrow_schema(pq.read_schema(files[0]))
        self.column_names = list(self.features)

    def __iter__(self) -> Iterator[Found]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        for file in self._files:
            shown = f"{self._shown.rstrip('/')}/{file.name}" if len(self._files) > 1 else self._shown
            try:
                stream = pq.ParquetFile(file, memory_map=True)
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{shown} cannot be read as Parquet: {error}") from error
            with stream:
                if set(stream.schema_arrow.names) != set(self.column_names):
                    raise DataError(f"{shown} has other columns than {self._files[0].name}, which lies beside it.")
                yield from rows_of_parquet(stream, shown, path=file)


def _from_parquet(files: Sequence[Path], shown: str) -> dict[str, Any]:
    parts: dict[str, list[Path]] = {}
    for file in files:
        parts.setdefault((part_of(file.name) or "") if len(files) > 1 else "", []).append(file)
    if len(parts) > 1 and "" in parts:
        raise DataError(f"{parts[''][0]} is called by no part of the data, while other files beside it are.")
    return {part: _ParquetRows(parts[part], shown) for part in parts}
