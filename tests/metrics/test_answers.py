"""Measures of answers against values worked out by hand and a plain reference."""

from __future__ import annotations

import time
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, strategies

from tunesmith.metrics import answers


@pytest.mark.parametrize(
    ("said", "wanted", "same"),
    [("Paris", "Paris", 1), (" Paris\n", "Paris", 1), ("paris", "Paris", 0), ("Paris.", "Paris", 0), ("", "", 1)],
)
def test_exact_match_forgives_only_white_space_around(said: str, wanted: str, same: int) -> None:
    assert answers.exact_match(said, wanted) == same


@pytest.mark.parametrize(
    ("said", "wanted", "same"),
    [
        ("The answer is: Paris!", "the answer is paris", 1),
        ("A cat", "cat", 0),
        ("Ｐａｒｉｓ，１２", "paris 12", 1),
        ("你好，世界。", "你好世界", 1),
        ("用 Python 写", "用Python写", 1),
        ("well-known", "well known", 1),
        ("don't", "don’t", 1),
        ("1,234", "1234", 1),
        ("2.5", "25", 0),
        ("3,4", "34", 0),
        ("-5", "5", 0),
        ("−5", "-5", 1),
        ("C++", "C", 0),
        ("$5", "5", 0),
        ("line one\n\tline two", "Line one line two", 1),
        ("(yes)", "“yes”", 1),
        ("Hello,world", "Hello, world", 1),
    ],
)
def test_normalised_match_forgives_what_carries_no_meaning(said: str, wanted: str, same: int) -> None:
    assert answers.normalised_match(said, wanted) == same


@pytest.mark.parametrize(
    ("said", "wanted", "value"),
    [
        # Lin 2004, section 3.1: 3 of 4 words in order, then 2 of 4.
        ("police kill the gunman", "police killed the gunman", 3 / 4),
        ("the gunman kill police", "police killed the gunman", 2 / 4),
        # common: the cat the mat = 4 of 6 given and 5 wanted: F = 2 x 4 / 11.
        ("the cat sat on the mat", "the cat ate the mat", 2 * 4 / 11),
        # 我 爱 京 of 我爱北京 against 我很爱南京: 3 common of 4 and 5.
        ("我爱北京。", "我很爱南京", 2 * 3 / 9),
        # GPT 模 型 of GPT模型 and GPT-4 的模型: gpt 模 型 common of 3 and 5 (gpt 4 的 模 型).
        ("GPT模型", "gpt-4 的模型", 2 * 3 / 8),
        ("नमस्ते दुनिया", "नमस्ते सुंदर दुनिया", 2 * 2 / 5),
        ("same words here", "Same, words: here!", 1.0),
        ("nothing", "alike", 0.0),
        ("", "something", 0.0),
        ("", "", 1.0),
    ],
)
def test_rouge_l_is_what_is_worked_out_by_hand(said: str, wanted: str, value: float) -> None:
    assert answers.rouge_l(said, wanted) == pytest.approx(value)


def plain_longest_common(first: str, second: str) -> int:
    row = [0] * (len(second) + 1)
    for one in first:
        last = row[:]
        for place, other in enumerate(second, 1):
            row[place] = last[place - 1] + 1 if one == other else max(last[place], row[place - 1])
    return row[-1]


@given(strategies.text("abcd", max_size=40), strategies.text("abcd", max_size=40))
def test_the_longest_common_subsequence_is_that_of_the_textbook(first: str, second: str) -> None:
    assert answers._longest_common(first, second) == plain_longest_common(first, second)


@given(strategies.text(max_size=60), strategies.text(max_size=60))
def test_rouge_l_is_symmetric_and_between_0_and_1(first: str, second: str) -> None:
    value = answers.rouge_l(first, second)
    assert value == answers.rouge_l(second, first)
    assert 0 <= value <= 1
    assert answers.rouge_l(first, first) == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\nShe makes 9 * 2 = $18.\n#### 18", "18"),
        ("#### 72 apples in 3 boxes", "72"),
        ("That is $1,234.50.", "1234.5"),
        ("It costs 5.00", "5"),
        ("from 10-12", "12"),
        ("at -3 degrees", "-3"),
        ("at −3 degrees", "-3"),
        ("the answer is 72.", "72"),
        ("答案是１２元", "12"),
        ("3e2", "300"),
        ("1,2,3", "3"),
        ("1,234,567 people", "1234567"),
        (".5", "0.5"),
        ("-$5", "-5"),
        ("100%", "100"),
        ("€20", "20"),
        ("The total:\n- 18", "18"),
        ("- $5", "5"),
        ("from 10 - 12", "12"),
        ("x = -3", "-3"),
        ("GPT-4", "4"),
        ("f(x)-3", "3"),
        ("answer: -.5", "-0.5"),
        ("#### -18", "-18"),
        ("$-5", "-5"),
        ("1e-5", "0.00001"),
        ("1 000", "1000"),
        ("1\u202f234\u00a0567 people", "1234567"),
        ("12\u2009345,6", "12345.6"),
        ("-12 000.50", "-12000.5"),
        ("in 2020 300 people", "300"),
        ("10 200,300", "200300"),
        ("1 000,2 000", "2000"),
        ("1 000 5", "5"),
        ("7 123 4567", "4567"),
        ("答案是-5。", "-5"),
        ("答案是−５", "-5"),
        ("答案：－￥１，２３４．５０", "-1234.5"),
        ("10元-20元", "20"),
        ("5%-7%", "7"),
        ("第3题是-5", "-5"),
        ("3e2元", "300"),
    ],
)
def test_the_last_number_is_found(text: str, number: str) -> None:
    assert answers.number_in(text) == Decimal(number)


def test_numbers_are_compared_as_numbers() -> None:
    assert answers.number_match("So it is 72.0 in all", "#### 72") == 1
    assert answers.number_match("It is 27", "#### 72") == 0
    assert answers.number_match("no idea", "#### 72") == 0
    assert np.isnan(answers.number_match("72", "seventy-two"))


def test_a_pattern_compares_its_group_at_its_last_place() -> None:
    pattern = r"answer is \(?([A-D])"
    assert answers.pattern_match("The answer is A. No, the answer is (b).", "B", pattern=r"(?i)" + pattern) == 1
    assert answers.pattern_match("answer is C", "The answer is C.", pattern=pattern) == 1
    assert answers.pattern_match("answer is C", "The answer is D.", pattern=pattern) == 0
    assert answers.pattern_match("it is C", "C", pattern=pattern) == 0


def test_a_pattern_that_never_ends_counts_as_not_found() -> None:
    began = time.perf_counter()
    assert answers.group_of(r"((?:a|a|aa)+)+$b", "a" * 60, seconds=0.1) is None
    assert time.perf_counter() - began < 5


def test_scores_are_summed_up_with_intervals_over_the_same_answers() -> None:
    wanted = ["#### 1", "#### 2", "none", "#### 4"] * 10
    before = answers.score_answers(["1", "1", "1", "1"] * 10, wanted, ["number_match", "exact_match"])
    after = answers.score_answers(["1", "2", "1", "1"] * 10, wanted, ["number_match", "exact_match"])
    told = answers.means(after, seed=0)
    assert told["number_match"].value == pytest.approx(2 / 3)
    assert told["number_match"].low < 2 / 3 < told["number_match"].high
    gain = answers.gains(before, after, seed=0)["number_match"]
    assert gain.value == pytest.approx(1 / 3)
    assert 0 < gain.low < gain.value < gain.high
    assert told["exact_match"].value == 0
    nothing = answers.score_answers(["1"], ["none"], ["number_match"])
    assert answers.means(nothing, seed=0) == {}
    assert answers.gains(nothing, nothing, seed=0) == {}


def test_a_pattern_score_without_a_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="pattern"):
        answers.score_answers(["a"], ["a"], ["pattern_match"])


@pytest.mark.parametrize(
    ("text", "number"),
    [("x = - 5", -5), ("x = − 5", -5), ("x ≈- 5", -5), ("− 5", -5), ("Answer: − $5", -5), ("10 − 5", 5), ("x − 5", 5),
     ("(3) − 5", 5), ("Items:\n- 5", 5), ("- 5", 5), ("10 - 5", 5), ("= 10 - 5", 5), ("= 10 − 5", 5)],
)  # fmt: skip
def test_a_space_may_stand_within_a_number_below_0_where_no_dash_can_be_meant(text: str, number: int) -> None:
    assert answers.number_in(text) == number
