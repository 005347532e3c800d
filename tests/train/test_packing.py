"""Packing: every sequence once, no row too long, few rows."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.train.packing import best_fit


@given(st.lists(st.integers(1, 50), max_size=60))
def test_every_sequence_stands_in_one_row_and_no_row_is_too_long(lengths: list[int]) -> None:
    rows = best_fit(lengths, 50)
    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in row) <= 50 for row in rows)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_no_two_rows_could_be_one(lengths: list[int]) -> None:
    loads = sorted(sum(lengths[number] for number in row) for row in best_fit(lengths, 50))
    assert all(a + b > 50 for a, b in itertools.pairwise(loads))


def test_a_longer_sequence_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="51 tokens"):
        best_fit([51], 50)


def test_the_fullest_row_with_room_is_taken() -> None:
    assert best_fit([5, 3, 9, 2, 7, 1], 10) == [[2, 5], [4, 1], [0, 3]]
