"""The splits of a Hugging Face data set: a folder that `save_to_disk` wrote, Parquet files, or a name on the hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tunesmith.data.parts import part_of
from tunesmith.data.readers._arrow_rows import Found, refuse_outside, rows_of_parquet, rows_of_saved
from tunesmith.errors import DataError

PREFIX = "hf:"


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of a folder, or of its folder `data`; no link that leads out of it."""
    if not folder.is_dir():
        return []
    found = sorted(folder.glob("*.parquet")) or sorted((folder / "data").glob("*.parquet"))
    root = folder.resolve()
    return [p for p in found if p.is_file() and p.name[0] != "." and p.resolve().is_relative_to(root)]


def splits_of(path: Path, shown: str) -> dict[str, Any]:
    """Each split by its name, "" for a single one, with `features` and `column_names`. DataError where it has none."""
    import datasets

    try:
        if files := [path] if path.is_file() else parquet_files(path):
            return _from_parquet(files, shown)
        found = datasets.load_from_disk(str(path)) if path.is_dir() else _from_hub(shown)
    except DataError:
        raise
    except Exception as error:  # the library raises many kinds; each of them means: this cannot be loaded
        raise DataError(f"{shown} cannot be loaded by datasets: {type(error).__name__}: {error}") from error
    splits = dict(found) if isinstance(found, datasets.DatasetDict) else {"": found}
    if path.is_dir():
        refuse_outside(splits, path, shown)
    return {name: _SavedRows(split, shown) for name, split in splits.items()}


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
                yield from rows_of_parquet(stream, shown)


def _from_parquet(files: Sequence[Path], shown: str) -> dict[str, Any]:
    parts: dict[str, list[Path]] = {}
    for file in files:
        parts.setdefault((part_of(file.name) or "") if len(files) > 1 else "", []).append(file)
    if len(parts) > 1 and "" in parts:
        raise DataError(f"{parts[''][0]} is called by no part of the data, while other files beside it are.")
    return {part: _ParquetRows(parts[part], shown) for part in parts}


def _from_hub(shown: str) -> Any:
    import datasets

    name = shown.removeprefix(PREFIX)
    owner, _, rest = name.partition("/")
    repository, _, config = rest.partition("/")
    return datasets.load_dataset(f"{owner}/{repository}" if repository else owner, config or None)
