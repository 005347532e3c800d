"""How many rows of a Parquet file are read together: as many as are quick, as few as the memory holds.

A row group says how many bytes it has, but a dictionary page may hold one long value that every row repeats. So a row
is taken to have its share of the row group's bytes, and of each column with a dictionary the longest value in it.
Where a batch is heavier than that, the rest of the row group is read few rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

FEW, MANY = 16, 1024
"""Rows that are read together where nothing says how long they are, and at most."""
PLANNED, HEAVY = 4 << 20, 16 << 20
"""Bytes that a batch should have, and those at which the next ones become small."""
_NUMBER = 8


def batches(file: Any, path: Path) -> Iterator[Any]:
    """The record batches of an open `pyarrow.parquet.ParquetFile`, which lies at `path`, in the order of its rows."""
    import pyarrow.parquet as pq

    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    names = sorted({name for group in groups for name, _ in _with_dictionary(group)})
    with pq.ParquetFile(path, memory_map=True, read_dictionary=names) as again:
        for number, group in enumerate(groups):
            yield from _of_group(file, number, _rows_together(again, group, number))


def _of_group(file: Any, number: int, together: int) -> Iterator[Any]:
    done = 0
    for batch in file.iter_batches(batch_size=together, row_groups=[number]):
        done += batch.num_rows
        yield batch
        if together > FEW and batch.nbytes > HEAVY:
            break
    else:
        return
    seen = 0
    for batch in file.iter_batches(batch_size=FEW, row_groups=[number]):
        seen += batch.num_rows
        if seen > done:
            yield batch.slice(max(0, batch.num_rows - (seen - done)))


def _with_dictionary(group: Any) -> list[tuple[str, Any]]:
    """Columns of texts or bytes with a dictionary, by their paths; in the order of the schema."""
    chunks = (group.column(place) for place in range(group.num_columns))
    return [(c.path_in_schema, c) for c in chunks if c.physical_type == "BYTE_ARRAY" and c.has_dictionary_page]


def _rows_together(file: Any, group: Any, number: int) -> int:
    """Rows a batch of this row group; `file` is opened so that dictionaries stay what they are."""
    rows = group.num_rows
    if rows <= FEW:
        return FEW
    size = group.total_byte_size
    for place in range(group.num_columns):
        chunk = group.column(place)
        if chunk.physical_type == "FIXED_LEN_BYTE_ARRAY":
            size += chunk.num_values * file.schema.column(place).length
        elif chunk.physical_type != "BYTE_ARRAY":
            size += chunk.num_values * _NUMBER
    known = _with_dictionary(group)
    longest = _longest(file, number, [name for name, _ in known])
    for place, (_, chunk) in enumerate(known):
        length, count = longest[place] if len(longest) == len(known) else max(longest, default=(0, 0))
        if count <= 1:  # one value, or the dictionary is not yet read
            length = max(length, chunk.total_uncompressed_size)
        size += chunk.num_values * length
    return int(min(max(PLANNED * rows // max(size, 1), FEW), MANY))


def _longest(file: Any, number: int, names: list[str]) -> list[tuple[int, int]]:
    """Of each dictionary the bytes of its longest value and how many it has: the first row brings them all."""
    if not names:
        return []
    found: list[tuple[int, int]] = []
    for batch in file.iter_batches(batch_size=1, row_groups=[number], columns=names):
        for column in batch.columns:
            _look(column, found)
        break
    return found


def _look(column: Any, found: list[tuple[int, int]]) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        values = column.dictionary
        found.append((pc.max(pc.binary_length(values)).as_py() or 0, len(values)))
    elif pa.types.is_struct(kind):
        for place in range(kind.num_fields):
            _look(column.field(place), found)
    elif pa.types.is_map(kind):
        _look(column.keys, found)
        _look(column.items, found)
    elif hasattr(column, "values"):
        _look(column.values, found)
