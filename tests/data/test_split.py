from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.split import TEST, TRAIN, VALIDATION, sample, split, targets

SHARES = st.sampled_from([0.0, 0.1, 0.25, 0.4])
ROWS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3), st.integers(0, 8)), min_size=1, max_size=80)


def _columns(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    keys, classes, groups = np.array(rows, dtype=np.int64).T
    return keys.astype(np.uint64), classes, groups.astype(np.uint64)


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, validation=SHARES, test=SHARES, seed=st.integers(0, 2**63 - 1), grouped=st.booleans())
def test_duplicates_and_groups_never_straddle_and_every_row_has_one_part(
    rows: list[tuple[int, int, int]], validation: float, test: float, seed: int, grouped: bool
) -> None:
    keys, classes, groups = _columns(rows)
    given_groups = groups if grouped else None
    parts = split(keys, classes, validation=validation, test=test, seed=seed, groups=given_groups)
    assert parts.shape == keys.shape
    assert set(parts.tolist()) <= {TRAIN, VALIDATION, TEST}
    for column in (keys, groups) if grouped else (keys,):
        for value in np.unique(column):
            assert len(set(parts[column == value].tolist())) == 1
    assert (parts == TRAIN).any()
    again = split(keys, classes, validation=validation, test=test, seed=seed, groups=given_groups)
    assert np.array_equal(parts, again)


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 1000), shuffle=st.randoms(use_true_random=False))
def test_a_text_keeps_its_part_in_whatever_order_rows_without_copies_come(
    rows: list[tuple[int, int, int]], seed: int, shuffle: object
) -> None:
    unique = list({row[0]: row for row in rows}.values())
    keys, classes, _ = _columns(unique)
    order = np.array(sorted(range(len(unique)), key=lambda _: shuffle.random()))  # type: ignore[attr-defined]
    straight = split(keys, classes, validation=0.2, test=0.2, seed=seed)
    mixed = split(keys[order], classes[order], validation=0.2, test=0.2, seed=seed)
    assert np.array_equal(straight[order], mixed)


def test_shares_are_met_within_each_class() -> None:
    keys = np.arange(1000, dtype=np.uint64)
    classes = np.repeat([0, 1, 2], [700, 250, 50])
    parts = split(keys, classes, validation=0.1, test=0.2, seed=0)
    counts = {part: np.bincount(classes[parts == part]).tolist() for part in (TRAIN, VALIDATION, TEST)}
    assert counts == {TRAIN: [490, 175, 35], VALIDATION: [70, 25, 5], TEST: [140, 50, 10]}


def test_a_class_of_one_row_goes_to_train() -> None:
    classes = np.array([0] * 20 + [1])
    for seed in range(20):
        assert split(np.arange(21, dtype=np.uint64), classes, validation=0.4, test=0.4, seed=seed)[20] == TRAIN


def test_another_seed_gives_another_split() -> None:
    keys, classes = np.arange(200, dtype=np.uint64), np.zeros(200, dtype=np.int64)
    first, second = (split(keys, classes, validation=0.2, test=0.2, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first, second)
    assert (first == TEST).sum() == (second == TEST).sum() == 40


def test_few_large_groups_still_fill_every_part() -> None:
    groups = np.repeat(np.arange(3, dtype=np.uint64), 40)
    parts = split(
        np.arange(120, dtype=np.uint64), np.zeros(120, dtype=int), validation=0.1, test=0.1, seed=0, groups=groups
    )
    assert np.bincount(parts).tolist() == [40, 40, 40]


def test_targets_sum_to_the_share_of_all() -> None:
    assert targets(np.array([3, 3, 4]), 0.1).sum() == 1
    assert targets(np.array([5, 5]), 0.2).tolist() == [1, 1]


@pytest.mark.parametrize("limit", [3, 10, 50, 99])
def test_a_sample_keeps_class_shares_and_every_class(limit: int) -> None:
    keys, classes = np.arange(100, dtype=np.uint64), np.repeat([0, 1, 2], [80, 19, 1])
    rows = sample(keys, classes, limit, seed=3)
    assert len(rows) == len(set(rows.tolist())) == limit
    assert set(classes[rows].tolist()) == {0, 1, 2}
    assert np.array_equal(rows, np.sort(rows))


def test_the_split_does_not_depend_on_the_process() -> None:
    code = (
        "from tunesmith.data.duplicates import as_numbers, keys_of\n"
        "from tunesmith.data.split import split\n"
        "import numpy as np\n"
        "keys = as_numbers(b''.join(keys_of((f'text {i}',))[1] for i in range(50)))\n"
        "print(split(keys, np.arange(50) % 2, validation=0.2, test=0.2, seed=7).tolist())\n"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for seed in ("0", "1")
    }
    assert len(runs) == 1
