"""Apache Parquet (.parquet): columns with types, read row group by row group.

A row's number stands for its line. Whole numbers, decimals and booleans as labels become names as they are written in
JSON: 1, 1.0, true.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tunesmith.data.options import DataOptions
from tunesmith.data.readers._arrow_rows import rows_of_parquet
from tunesmith.data.readers.base import Reader, Row, Table, peek
from tunesmith.errors import DataError


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
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise DataError(f'{shown}: "{twice[0]}" names more than one column: {", ".join(names)}.')
        found = enumerate(rows_of_parquet(file, shown, path=path), start=1)
        sample, rows = peek(Row(number, row, reason) for number, (row, reason) in found)
        facts = {"row_groups": file.num_row_groups}
        yield Table(file=shown, columns=tuple(names), rows=rows, sample=sample, facts=facts)
