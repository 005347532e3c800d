"""Token ids on disk: each example encoded once, mapped into memory, read by number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.errors import DiskError
from tunesmith.types import Example, Examples

ROWS = 1024  # examples encoded together: enough for a fast tokenizer, little to hold


class EncodedExamples:
    """Encoded examples by number; `lengths` [examples] counts tokens. Ids stay on disk, memory holds the lengths."""

    def __init__(self, path: Path) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(path), "r"))
        self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self._keys = tuple(reader.schema.names)
        sizes = [np.diff(b.column(0).offsets.to_numpy()) for b in self._batches]
        self.lengths = np.concatenate(sizes).astype(np.int32) if sizes else np.zeros(0, dtype=np.int32)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        batch, row = self._batches[index // ROWS], index % ROWS
        found: dict[str, np.ndarray] = {}
        for number, key in enumerate(self._keys):
            column = batch.column(number)
            start, end = column.offsets[row].as_py(), column.offsets[row + 1].as_py()
            found[key] = column.values.slice(start, end - start).to_numpy()
        return found


def encode_to_disk(
    examples: Examples, encode: Callable[[Sequence[Example]], Sequence[Mapping[str, Sequence[int]]]], path: Path
) -> EncodedExamples:
    """Encode every example in order into an Arrow file at `path` and open it. DiskError when it cannot be written."""
    writer: Any = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(path), "wb") as file:
            for start in range(0, len(examples), ROWS):
                rows = [examples[i] for i in range(start, min(start + ROWS, len(examples)))]
                encoded = encode(rows)
                keys = list(encoded[0])
                arrays = [pa.array([e[k] for e in encoded], type=pa.list_(pa.int32())) for k in keys]
                batch = pa.record_batch(arrays, names=keys)
                writer = writer or pa.ipc.new_file(file, batch.schema)
                writer.write_batch(batch)
            writer = writer or pa.ipc.new_file(file, pa.schema([("input_ids", pa.list_(pa.int32()))]))
            writer.close()
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error}") from error
    return EncodedExamples(path)
