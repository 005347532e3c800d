"""Token ids on disk: each example encoded once, mapped into memory, read by number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.errors import DiskError
from tunesmith.pulse import pulse
from tunesmith.types import Example, Examples

Encode = Callable[[Sequence[Example]], Sequence[Mapping[str, Sequence[int]]]]
ROWS = 1024  # examples in a batch of the file
LETTERS = 4_000_000  # encoded together: enough for a fast tokenizer, little to hold


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

    def summed(self, key: str, width: int) -> np.ndarray:
        """The sum over all examples of what each has under `key`, int64 [width]; each must have `width` numbers."""
        found = np.zeros(width, dtype=np.int64)
        for batch in self._batches:
            found += batch.column(key).values.to_numpy().reshape(-1, width).sum(0, dtype=np.int64)
        return found


def lots(examples: Iterable[Example], most: int = ROWS) -> Iterator[list[Example]]:
    """The examples in lists of at most `most`, and of some `LETTERS` letters; windows of one text share it."""
    found: list[Example] = []
    letters, before = 0, ""
    for example in examples:
        found.append(example)
        own = max((str(value) for value in example.inputs.values()), key=len, default="")
        letters, before = letters + (0 if own is before else len(own)), own
        if len(found) == most or letters > LETTERS:
            yield found
            found, letters = [], 0
    if found:
        yield found


def encode_to_disk(examples: Examples, encode: Encode, path: Path) -> EncodedExamples:
    """Encode every example in order into an Arrow file at `path` and open it. DiskError when it cannot be written."""
    writer: Any = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(path), "wb") as file:
            for start in range(0, len(examples), ROWS):
                pulse(start, len(examples))
                rows = (examples[i] for i in range(start, min(start + ROWS, len(examples))))
                encoded = [each for some in lots(rows) for each in encode(some)]
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
