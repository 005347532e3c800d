"""Arrow data as rows: in memory is what a few rows need, whatever the file says, and a bad value costs its own row.

A file of some hundred bytes may say one long text a million times over; so values are made of a piece of at most
`PIECE` bytes, or of a single row, at a time. No feature of the datasets library is decoded but its JSON: its pictures,
sounds and videos would open any file and fetch any address that a cell names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunesmith.data.encoding import LONGEST_LINE
from tunesmith.data.readers._parquet_batches import FEW, batches
from tunesmith.errors import DataError

PIECE = 1 << 20
"""Bytes of rows whose values are made together."""
LONGEST_ROW = LONGEST_LINE
"""Bytes that a row may have."""

Found = tuple[dict[str, Any] | None, str]
"""(a row's values, "") or (None, why they cannot be had)."""


def rows_of(piece: Any) -> Iterator[Found]:
    """The rows of a pyarrow table or record batch, as mappings."""
    import pyarrow as pa

    if any(_plain(kind) != kind for kind in piece.schema.types):
        if piece.num_rows > FEW:
            yield from _halves(piece)
            return
        piece = _written_out(piece)
    size = piece.nbytes
    if piece.num_rows > 1 and size > PIECE:
        yield from _halves(piece)
    elif piece.num_rows == 1 and size > LONGEST_ROW:
        yield None, f"the row has {size:,} bytes; at most {LONGEST_ROW:,} may be"
    else:
        try:
            rows = piece.to_pylist()
        except (ValueError, ArithmeticError, LookupError, TypeError, RuntimeError, pa.ArrowException) as error:
            if piece.num_rows > 1:
                yield from _halves(piece)
            else:
                yield None, _why(error)
        else:
            yield from ((row, "") for row in rows)


def _halves(piece: Any) -> Iterator[Found]:
    middle = piece.num_rows // 2
    yield from rows_of(piece.slice(0, middle))
    yield from rows_of(piece.slice(middle))


def _why(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "a text in it is not valid UTF-8"
    return f"a value in it cannot be read: {type(error).__name__}: {error}"


def rows_of_parquet(file: Any, shown: str, *, path: Path) -> Iterator[Found]:
    """The rows of an open `pyarrow.parquet.ParquetFile`, which lies at `path`; DataError where it is damaged."""
    import pyarrow as pa

    number = 0
    try:
        for batch in batches(file, path):
            for found in rows_of(_written_out(batch)):
                number += 1
                yield found
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{shown} is damaged behind row {number}: {error}") from error


def _written_out(piece: Any) -> Any:
    """The piece with texts and bytes in the place of numbers that point at them, so that its size is that of its
    values: a dictionary or a view counts what it shares with other rows."""
    import pyarrow as pa

    for place, field in enumerate(piece.schema):
        if (kind := _plain(field.type)) != field.type:
            try:
                piece = piece.set_column(place, field.name, piece.column(place).cast(kind))
            except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
                continue  # a form that Arrow cannot write out; its size is then the larger one
    return piece


def _plain(kind: Any) -> Any:
    """The type with nothing in it that points elsewhere."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct(
            [kind.field(place).with_type(_plain(kind.field(place).type)) for place in range(kind.num_fields)]
        )
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_plain(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_plain(kind.value_type)))
    return kind


def rows_of_saved(split: Any, shown: str) -> Iterator[Found]:
    """The rows of a `datasets.Dataset`, files in them as `bytes` and `path`; DataError where it is damaged."""
    import datasets

    features = datasets.Features({key: _only_json(feature) for key, feature in split.features.items()})
    number = 0
    try:
        for table in split.with_format("arrow").iter(batch_size=FEW * FEW):
            for row, reason in rows_of(table):
                number += 1
                yield _decoded(row, features) if row is not None else (None, reason)
    except Exception as error:  # the library raises many kinds; each of them means: this cannot be read
        raise DataError(f"{shown} is damaged behind row {number}: {type(error).__name__}: {error}") from error


def _decoded(row: dict[str, Any], features: Any) -> Found:
    try:
        return features.decode_example(row), ""
    except (ValueError, RecursionError) as error:
        return None, f"a value in it is not valid JSON: {error}"


def _only_json(feature: Any) -> Any:
    """The feature, with plain values in the place of all that are decoded but are no JSON."""
    import datasets

    if isinstance(feature, Mapping):
        return {key: _only_json(one) for key, one in feature.items()}
    if isinstance(feature, datasets.LargeList):
        return datasets.LargeList(_only_json(feature.feature))
    if isinstance(feature, datasets.List):
        return datasets.List(_only_json(feature.feature), length=feature.length)
    if isinstance(feature, list | tuple):
        return [_only_json(one) for one in feature]
    is_json = type(feature).__name__ == "Json"  # which older datasets do not have
    return feature if is_json or not hasattr(feature, "decode_example") else datasets.Value("null")
