"""Options of generated answers: what is refused, and in which words."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tunesmith.tasks._answers import AnswerOptions


def test_defaults_show_some_answers_with_two_scores() -> None:
    options = AnswerOptions()
    assert (options.rows, options.most_tokens) == (16, 96)
    assert options.scores == ("rouge_l", "normalised_match")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"rows": -1}, "greater than or equal to 0"),
        ({"most_tokens": 0}, "greater than or equal to 1"),
        ({"scores": ["bleu"]}, "rouge_l"),
        ({"scores": ["rouge_l", "rouge_l"]}, "each score once"),
        ({"scores": ["pattern_match"]}, "needs a pattern"),
        ({"pattern": "a (b)"}, "only used where"),
        ({"scores": ["pattern_match"], "pattern": "a ("}, "not a regular expression"),
        ({"scores": ["pattern_match"], "pattern": "a b"}, "has 0"),
        ({"scores": ["pattern_match"], "pattern": "(a)(b)"}, "has 2"),
        ({"scores": ["pattern_match"], "pattern": "((?:a|a|aa)+)+$"}, "too many ways"),
        ({"sampled": True}, "not permitted"),
    ],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        AnswerOptions(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("pattern", [r"(?:a+)+(b)$", r"^(\w+\s?)*$", r"(.*,){20}x", r"(?:(\d+)\s*)+!"])
def test_patterns_that_run_for_ever_are_refused_or_end_in_time(pattern: str) -> None:
    import time

    from tunesmith.metrics.answers import group_of

    try:
        AnswerOptions(scores=("pattern_match",), pattern=pattern)
    except ValidationError as fault:
        assert "too many ways" in str(fault)  # noqa: PT017
        return
    began = time.process_time()
    group_of(pattern, "ab1 ," * 200)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "pattern", [r"answer is \(?([A-D])", r"####\s*(-?[\d,.]+)", r"(?i)\b(yes|no)\b", r"^(.+)$", r"答案(?:是|为)(\w+)"]
)
def test_patterns_of_use_pass(pattern: str) -> None:
    assert AnswerOptions(scores=("pattern_match",), pattern=pattern).pattern == pattern
