"""Sizes, counts and times as a person writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.errors import RecipeError
from tunesmith.quantities import parse_bytes, parse_count, parse_seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8GiB", 8 * 2**30),
        ("512 MiB", 512 * 2**20),
        ("1.5GB", 1_500_000_000),
        ("0.5KiB", 512),
        ("1kB", 1000),
        (" 7B ", 7),
        ("9007199254740993B", 9007199254740993),
    ],
)
def test_bytes_are_read_with_their_unit(text: str, value: int) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("100M", 100_000_000), ("22_700_000", 22_700_000), ("1.5B", 1_500_000_000), ("300k", 300_000)]
)
def test_counts_are_read_with_their_ending(text: str, value: int) -> None:
    assert parse_count(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("30m", 1800.0), ("90s", 90.0), ("1h30m", 5400.0), ("1h 30min", 5400.0), ("0.5d", 43200.0)]
)
def test_times_are_read_and_added(text: str, value: float) -> None:
    assert parse_seconds(text) == value


@pytest.mark.parametrize(
    "text", ["", "8", "GiB", "-8GiB", "0GiB", "8 GiBs", "1e3MB", "nanGB", "8GiB 4MiB", "0.5B", "٣GB"]
)
def test_a_size_that_is_not_plain_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RecipeError, match=r"8GiB, 512MiB"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["", "M", "-5", "0", "0.5", "10 millions", "1,000", "inf"])
def test_a_count_that_is_not_plain_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RecipeError, match=r"such as 100M"):
        parse_count(text)


@pytest.mark.parametrize("text", ["", "30", "h", "-5m", "0s", "1h30", "5 weeks", "1:30"])
def test_a_time_that_is_not_plain_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(RecipeError, match=r"90s, 30m or 1h30m"):
        parse_seconds(text)


def test_a_unit_in_the_wrong_case_is_met_with_the_right_one() -> None:
    with pytest.raises(RecipeError, match='did you mean "M"'):
        parse_count("100m")
    with pytest.raises(RecipeError, match='did you mean "GiB"'):
        parse_bytes("4gib")


def test_a_bare_number_is_told_that_its_unit_is_missing_and_the_setting_is_named() -> None:
    with pytest.raises(RecipeError, match=r"^--memory: .*it has no unit"):
        parse_bytes("8", what="--memory")
    with pytest.raises(RecipeError, match=r"^--time: .*it has no unit"):
        parse_seconds("30", what="--time")


@given(st.integers(min_value=1, max_value=10**18))
def test_every_whole_number_comes_back_exactly(number: int) -> None:
    assert parse_count(str(number)) == number
    assert parse_bytes(f"{number}B") == number
