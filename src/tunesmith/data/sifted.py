"""Examples that are left, or split, once the model is known: by number, nothing is copied."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tunesmith.types import Example


def windows(number: int, found: Sequence[int]) -> list[tuple[int, int, int]]:
    """What is taken of the example of that number, by the windows that `Task.sift` found in it."""
    return [(number, window, max(found) + 1) for window in found]


class SiftedExamples:
    """Some of `whole`, each perhaps as several windows: a `types.Examples`. A window's number, 1-based, and how many
    there are stand in the inputs as `part` ("2/5").

    taken: of each example here its number in `whole`, its 0-based window, and how many windows the original has.
    """

    def __init__(self, whole: Any, taken: Sequence[tuple[int, int, int]]) -> None:
        self.whole = whole
        self.rows, self.windows, self.counts = np.array(taken, dtype=np.int64).reshape(-1, 3).T
        self._last: tuple[int, Example] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        row = int(self.rows[index])
        if self._last is None or self._last[0] != row:  # windows of one text, asked for in a row, share it
            self._last = row, self.whole[row]
        example = self._last[1]
        count = int(self.counts[index])
        if count == 1:
            return example
        return replace(example, inputs={**example.inputs, "part": f"{int(self.windows[index]) + 1}/{count}"})

    def __iter__(self) -> Iterator[Example]:
        return (self[i] for i in range(len(self)))

    def membership_sha256(self) -> str:
        """Hash of which examples these are, and how they are split."""
        table = np.stack([self.rows, self.windows, self.counts]).astype("<i8").tobytes()
        return hashlib.sha256(self.whole.membership_sha256().encode() + table).hexdigest()
