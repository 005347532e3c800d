"""Several short sequences in one row, so that little is padded; which goes where follows from the lengths alone.

Best-fit decreasing: the longest first, each into the fullest row that still has room (Johnson 1974; used for
sequences by Ding et al. 2024, arXiv:2404.10830). No sequence is cut, and the order of rows is that of their first.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def best_fit(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Numbers of the sequences in each row of `width` tokens. ValueError where one is longer than a row."""
    order = sorted(range(len(lengths)), key=lambda number: (-lengths[number], number))
    rows: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # (room left, row), ascending
    for number in order:
        length = lengths[number]
        if length > width:
            raise ValueError(f"a sequence of {length} tokens does not fit into a row of {width}")
        place = bisect_left(open_rows, (length, -1))
        if place < len(open_rows):
            room, row = open_rows.pop(place)
            rows[row].append(number)
        else:
            room, row = width, len(rows)
            rows.append([number])
        if room - length:
            insort(open_rows, (room - length, row))
    return rows
