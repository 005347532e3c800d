"""Which rows train, which validate, which test: by content and seed alone, so that nothing else can change it.

Rows with the same text (see `duplicates.py`) or the same group form one unit, and a unit is never divided. Within each
class the units are ordered by a hash of seed and content (counter-based: no generator whose state could drift), and the
first of them are taken for test, the next for validation, until the class's share of rows is reached.
"""

from __future__ import annotations

from typing import Any

import numpy as np

TRAIN, VALIDATION, TEST = 0, 1, 2
UNSPLIT = -1
"""A row that no file assigns to a part."""


def split(
    keys: np.ndarray,
    classes: np.ndarray,
    *,
    validation: float,
    test: float,
    seed: int,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Part of each row [rows]: TRAIN, VALIDATION or TEST.

    keys: uint64 content keys [rows]; classes: the class each row is stratified by [rows]; groups: uint64 keys [rows] of
    what must stay together. Shares are of rows. Every class keeps at least one unit in train; a unit with rows of
    several classes counts for the class of its first row. With groups, shares are of all rows and classes fall as
    they may: few groups cannot be dealt out class by class.
    """
    parts = np.zeros(len(keys), dtype=np.int8)
    if not len(keys):
        return parts
    unit_of, unit_keys = _units(keys, groups)
    sizes = np.bincount(unit_of)
    first_row = np.unique(unit_of, return_index=True)[1]
    unit_class = classes[first_row] if groups is None else np.zeros(len(sizes), dtype=np.int64)
    order = np.lexsort((unit_keys, shuffled(unit_keys, seed)))
    names, rows_of = np.unique(unit_class, return_inverse=True)
    totals = np.bincount(rows_of, weights=sizes).astype(np.int64)
    wanted = {TEST: targets(totals, test), VALIDATION: targets(totals, validation)}
    unit_part = np.zeros(len(sizes), dtype=np.int8)
    by_class = order[np.argsort(rows_of[order], kind="stable")]
    ends = np.cumsum(np.bincount(rows_of, minlength=len(names)))
    for number in range(len(names)):
        units = by_class[ends[number - 1] if number else 0 : ends[number]]
        free = units.tolist()
        for part in (TEST, VALIDATION):
            taken, free = _take(free, sizes, int(wanted[part][number]), grouped=groups is not None)
            unit_part[taken] = part
    parts[:] = unit_part[unit_of]
    return parts


def sample(keys: np.ndarray, classes: np.ndarray, limit: int, *, seed: int) -> np.ndarray:
    """Rows [limit] of a sample with the same class shares, in the order they stood in."""
    order = np.lexsort((np.arange(len(keys)), shuffled(keys, seed)))
    names, number_of = np.unique(classes, return_inverse=True)
    wanted = targets(np.bincount(number_of), limit / len(keys), at_least_one=limit >= len(names))
    rank = np.empty(len(keys), dtype=np.int64)
    by_class = order[np.argsort(number_of[order], kind="stable")]
    starts = np.cumsum(np.bincount(number_of)) - np.bincount(number_of)
    rank[by_class] = np.arange(len(keys)) - starts[number_of[by_class]]
    chosen: np.ndarray = np.flatnonzero(rank < wanted[number_of])
    return chosen


def targets(totals: np.ndarray, share: float, *, at_least_one: bool = False) -> np.ndarray:
    """Whole numbers near `share` of each total that sum to that share of all (largest remainder)."""
    exact = totals * share
    counts = np.floor(exact).astype(np.int64)
    if at_least_one:
        counts = np.maximum(counts, 1)
    missing = round(float(totals.sum()) * share) - int(counts.sum())
    for number in np.argsort(counts - exact, kind="stable")[: max(missing, 0)]:
        counts[number] += 1
    for _ in range(max(-missing, 0)):
        counts[np.argmax(counts)] -= 1
    most: np.ndarray = np.minimum(counts, totals)
    return most


def shuffled(keys: np.ndarray, seed: int) -> np.ndarray:
    """Keys mixed with the seed: splitmix64 (Steele, Lea and Flood 2014, doi:10.1145/2714064.2660195)."""
    with np.errstate(over="ignore"):
        z = keys.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = z ^ (z >> np.uint64(31))
    return mixed


def _units(keys: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(unit of each row [rows], a key of each unit [units]); rows linked by key or group are one unit."""
    unique, text_of = np.unique(keys, return_inverse=True)
    if groups is None:
        return text_of, unique
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, group_of = np.unique(groups, return_inverse=True)
    nodes = len(unique) + len(names)
    links = coo_array((np.ones(len(keys), dtype=np.int8), (text_of, len(unique) + group_of)), shape=(nodes, nodes))
    _, component = connected_components(links, directed=False)
    _, unit_of = np.unique(component[text_of], return_inverse=True)
    unit_keys = np.full(unit_of.max() + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(unit_keys, unit_of, keys)
    return unit_of, unit_keys


def _take(units: list[int], sizes: Any, wanted: int, *, grouped: bool) -> tuple[list[int], list[int]]:
    """Units in order whose sizes fit into `wanted`, and the others; one at least is left over.

    Where every group is larger than what is wanted, the smallest is taken: too large a part serves better than none.
    """
    taken: list[int] = []
    others: list[int] = []
    rows = 0
    for place, unit in enumerate(units):
        if rows >= wanted or len(taken) + 1 >= len(units):
            others.extend(units[place:])
            break
        if rows + sizes[unit] <= wanted:
            taken.append(unit)
            rows += int(sizes[unit])
        else:
            others.append(unit)
    if grouped and wanted and not taken and len(units) > 1:
        smallest = min(units, key=lambda unit: int(sizes[unit]))
        return [smallest], [unit for unit in units if unit != smallest]
    return taken, others
