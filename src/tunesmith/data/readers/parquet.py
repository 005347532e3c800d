"""Apache Parquet (.parquet): columns with types, read row group by row group.

A row's number stands for its line. Whole numbers, decimals and booleans as labels become names as they are written in
JSON: 1, 1.0, true.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.data.options import DataOptions
from tunesmith.data.readers.base import SAMPLE, Reader, Row, Table, peek
from tunesmith.errors import DataError

FEW = 16
"""Rows that are held together where cells hold whole files."""


class Parquet(Reader):
    """Reads Parquet tables."""

    endings = (".parquet", ".pq")

    def tables(self, path: Path, options: DataOptions, *, shown: str) -> Iterator[Table]:
        """One table."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(path, memory_map=True)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{shown} cannot be read as Parquet: {error}") from error
        names = file.schema_arrow.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DataError(f'{shown}: "{twice[0]}" names more than one column: {", ".join(names)}.')
        heavy = any(_holds_bytes(field.type) for field in file.schema_arrow)
        sample, rows = peek(_rows(file, shown, FEW if heavy else 1024), FEW if heavy else SAMPLE)
        facts = {"row_groups": file.num_row_groups}
        yield Table(file=shown, columns=tuple(names), rows=rows, sample=sample, facts=facts)


def _holds_bytes(kind: Any) -> bool:
    """Whether cells of this Arrow type hold binary data, such as whole picture files."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(_holds_bytes(kind.field(place).type) for place in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _rows(file: Any, shown: str, together: int) -> Iterator[Row]:
    import pyarrow as pa

    number = 0
    try:
        for batch in file.iter_batches(batch_size=together):
            for row in _values(batch):
                number += 1
                yield Row(number, row) if row is not None else Row(number, None, "a text in it is not valid UTF-8")
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{shown} is damaged behind row {number}: {error}") from error


def _values(batch: Any) -> Iterator[dict[str, Any] | None]:
    """Rows as mappings, None for one that does not decode."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for place in range(batch.num_rows):
            try:
                yield batch.slice(place, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield None
