"""Decoded pictures on disk: each read and resized once, mapped into memory, read by number.

As many as fit into `limit` bytes are kept, in order; the others are decoded again whenever they are asked for, with
the same result. Memory holds the shapes alone; which pages of the file stay in memory is the system's business.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.cores import cores
from tunesmith.errors import DiskError
from tunesmith.pictures.form import patches
from tunesmith.pulse import pulse
from tunesmith.types import Example, Examples

Encode = Callable[[Sequence[Example]], Sequence[Mapping[str, Any]]]
LIMIT = 8 << 30  # bytes of decoded pictures that one part may keep on disk
SPARE = 2 << 30  # bytes that stay free
LOT, AHEAD = 8, 8  # pictures that a thread decodes at once; how many such lots there are at most: memory holds no more
THREADS = 4  # at most that decode; each holds one whole picture


class StoredPictures:
    """Encoded pictures by number: `picture` uint8 [height, width, 3] and what else `encode` gave, such as sizes.

    lengths: 16 x 16 patches of each, [examples], the measure of work.
    """

    def __init__(self, path: Path, shapes: np.ndarray, more: list[dict[str, Any]], kept: int, live: Any) -> None:
        self.lengths = np.array([patches(*shape) for shape in shapes.tolist()], dtype=np.int32)
        self._shapes, self._more, self._kept, self._live = shapes, more, kept, live
        ends = np.cumsum(shapes[:kept, 0] * shapes[:kept, 1] * 3)
        self._starts = np.concatenate([[0], ends]).astype(np.int64)
        self._pixels = np.memmap(path, dtype=np.uint8, mode="r") if kept else np.zeros(0, dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._shapes)

    @property
    def highest_and_widest(self) -> tuple[int, int]:
        """The largest height and the largest width, in pixels, perhaps of two pictures."""
        height, width = self._shapes.max(axis=0).tolist()
        return height, width

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        if index >= self._kept:
            found: Mapping[str, Any] = self._live(index)
            return found
        flat = self._pixels[self._starts[index] : self._starts[index + 1]]
        return {**self._more[index], "picture": flat.reshape(*self._shapes[index], 3)}


def keep_pictures(examples: Examples, encode: Encode, path: Path, *, limit: int = LIMIT) -> StoredPictures:
    """Encode every picture in order into a flat file at `path`, up to `limit` bytes, and open it. DiskError when it
    cannot be written; a disk that is nearly full is left alone instead."""
    shapes: list[tuple[int, int]] = []
    more: list[dict[str, Any]] = []
    kept = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        room = min(limit, shutil.disk_usage(path.parent).free - SPARE)
        full = False
        with path.open("wb") as file:
            for encoded in _encoded(examples, encode):
                picture: np.ndarray = encoded["picture"]
                pulse(len(shapes), len(examples))
                shapes.append((picture.shape[0], picture.shape[1]))
                more.append({key: value for key, value in encoded.items() if key != "picture"})
                full = full or picture.nbytes > room
                if not full:
                    file.write(np.ascontiguousarray(picture).data)
                    room -= picture.nbytes
                    kept += 1
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error}") from error
    table = np.array(shapes, dtype=np.int64).reshape(-1, 2)
    return StoredPictures(path, table, more, kept, lambda index: encode([examples[index]])[0])


def _encoded(examples: Examples, encode: Encode) -> Iterator[Mapping[str, Any]]:
    """In order; decoding leaves Python's lock free, so a few threads share it."""
    rows = iter(examples)
    pool = ThreadPoolExecutor(min(max(2, cores()), THREADS))
    try:
        lots = iter(lambda: list(islice(rows, LOT)), [])
        waiting = deque(pool.submit(encode, lot) for lot in islice(lots, AHEAD))
        while waiting:
            found = waiting.popleft().result()
            waiting.extend(pool.submit(encode, lot) for lot in islice(lots, 1))
            yield from found
    finally:
        pool.shutdown(cancel_futures=True)
