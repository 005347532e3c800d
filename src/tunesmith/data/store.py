"""Examples on disk: an Arrow file that is written while rows stream in and mapped into memory when they are read."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, overload

import numpy as np
import pyarrow as pa

from tunesmith.errors import DiskError
from tunesmith.types import Example, Label

BATCH_ROWS = 4096
BATCH_CHARACTERS = 1 << 23
"""A batch ends when either is reached, so that the writer's memory is bounded whatever the texts are."""


FACTS = ("key", "width", "height")
"""What is kept of each picture beside its place: the key of its content, and its size in pixels."""
_HIDDEN = ("label", "file", "line", *FACTS)


class Kept(NamedTuple):
    """What is kept of one row's inputs: the cells themselves, their exact and normalised key, the facts if any."""

    inputs: Sequence[str | None]
    exact: bytes
    normal: bytes
    facts: tuple[int, ...] = ()


class Writer:
    """Appends rows to an Arrow file; what is held back is less than one batch."""

    def __init__(self, path: Path, inputs: Sequence[str], facts: Sequence[str] = ()) -> None:
        fields = [*((name, pa.large_string()) for name in inputs), *((name, pa.uint64()) for name in facts)]
        fields.append(("label", pa.int32()))
        self._schema = pa.schema([*fields, ("file", pa.string()), ("line", pa.int64())])
        self._path, self._partial = path, path.with_name(path.name + ".partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: Any = pa.OSFile(str(self._partial), "wb")
            self._writer = pa.ipc.new_file(self._file, self._schema)
        except OSError as error:
            raise DiskError(f"{path} cannot be written: {error}") from error
        self._inputs = len(inputs)
        self._rows: list[tuple[Any, ...]] = []
        self._characters = 0

    def add(self, inputs: Sequence[str | None], label: int, file: str, line: int, facts: tuple[int, ...] = ()) -> None:
        """One row; inputs may lack the last ones or be None, `label` is its code, -1 for none."""
        self._rows.append((*inputs, *[None] * (self._inputs - len(inputs)), *facts, label, file, line))
        self._characters += sum(len(text) for text in inputs if text is not None)
        if len(self._rows) >= BATCH_ROWS or self._characters >= BATCH_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        columns = zip(*self._rows, strict=True)
        arrays = [pa.array(c, type=f.type) for c, f in zip(columns, self._schema, strict=True)]
        try:
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        except OSError as error:
            raise DiskError(f"the data cannot be written to disk: {error}") from error
        self._rows.clear()
        self._characters = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            self._writer.close()
            self._file.close()
        if kind is None:
            self._partial.replace(self._path)  # an older file of that name may still be mapped into memory
        else:
            self._partial.unlink()


class Store:
    """The rows of an Arrow file; `labels` gives the label that each code means."""

    def __init__(self, path: Path, labels: Sequence[Label]) -> None:
        self._reader = pa.ipc.open_file(pa.memory_map(str(path), "r"))
        self._batches: list[Any] = [self._reader.get_batch(i) for i in range(self._reader.num_record_batches)]
        self._starts = [0]
        for batch in self._batches:
            self._starts.append(self._starts[-1] + batch.num_rows)
        self._inputs = tuple(name for name in self._reader.schema.names if name not in _HIDDEN)
        self._labels = tuple(labels)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, row: int) -> Example:
        number = bisect_right(self._starts, row) - 1
        batch, place = self._batches[number], row - self._starts[number]
        columns = batch.columns
        texts = ((name, columns[i][place].as_py()) for i, name in enumerate(self._inputs))
        code = columns[-3][place].as_py()
        return Example(
            inputs={name: text for name, text in texts if text is not None},
            label=self._labels[code] if code >= 0 else None,
            file=columns[-2][place].as_py(),
            line=columns[-1][place].as_py(),
        )

    def fact(self, name: str) -> np.ndarray | None:
        """One of `FACTS` of every row, uint64 [rows]; None where the store holds no pictures."""
        if name not in self._reader.schema.names:
            return None
        columns = [batch.column(name).to_numpy() for batch in self._batches]
        return np.concatenate(columns) if columns else np.zeros(0, dtype=np.uint64)


class ArrowExamples:
    """Some rows of a store in a fixed order: a `types.Examples`. 8 bytes of memory a row, texts stay on disk."""

    def __init__(self, store: Store, rows: np.ndarray) -> None:
        self.store = store
        self.rows = np.asarray(rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int, /) -> Example: ...
    @overload
    def __getitem__(self, index: slice, /) -> ArrowExamples: ...
    def __getitem__(self, index: int | slice, /) -> Example | ArrowExamples:
        if isinstance(index, slice):
            return ArrowExamples(self.store, self.rows[index])
        return self.store[int(self.rows[index])]

    def __iter__(self) -> Iterator[Example]:
        return (self.store[int(row)] for row in self.rows)

    def membership_sha256(self) -> str:
        """Hash of which rows these are, and in which order: equal for an equal split of equal files."""
        return hashlib.sha256(self.rows.astype("<i8").tobytes()).hexdigest()
