"""Which held-out examples are answered in words, by the untouched and by the tuned model, and how that is scored."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tunesmith.plugin import Options

Score = Literal["exact_match", "normalised_match", "rouge_l", "pattern_match", "number_match"]

PROBED = 1_000
"""Characters of the texts on which a pattern is tried out: more than most answers have."""
SECONDS = 0.5
"""What a pattern may take on each of them."""


class AnswerOptions(Options):
    """Generated answers to the first scored examples."""

    rows: int = Field(16, ge=0, le=100_000, description="held-out examples answered in words; 0: none")
    most_tokens: int = Field(96, ge=1, le=65_536, description="tokens at which an answer is cut off")
    scores: tuple[Score, ...] = Field(
        ("rouge_l", "normalised_match"), description="how near an answer comes to the wanted one"
    )
    pattern: str | None = Field(
        None,
        min_length=1,
        max_length=1_000,
        description="for pattern_match: a regular expression with one group, which is compared",
    )

    @field_validator("scores")
    @classmethod
    def _each_once(cls, scores: tuple[Score, ...]) -> tuple[Score, ...]:
        if len(set(scores)) < len(scores):
            raise ValueError("each score once")
        return scores

    @field_validator("pattern")
    @classmethod
    def _pattern_serves(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            _check(pattern)
        return pattern

    @model_validator(mode="after")
    def _pattern_is_used(self) -> AnswerOptions:
        asked = "pattern_match" in self.scores
        if asked and self.pattern is None:
            raise ValueError(r"pattern_match needs a pattern, such as pattern: 'answer is \(?([A-D])'")
        if self.pattern is not None and not asked:
            raise ValueError("pattern is only used where scores holds pattern_match")
        return self


def _check(pattern: str) -> None:
    """ValueError unless the pattern is a regular expression with one group that ends its search in time."""
    import time

    import regex

    from tunesmith.metrics.answers import group_of

    try:
        groups = regex.compile(pattern).groups
    except regex.error as fault:
        raise ValueError(f"not a regular expression: {fault}") from fault
    if groups != 1:
        raise ValueError(
            f"one group in round brackets is compared, and this pattern has {groups}; write (?:...) for brackets "
            r"that only hold together, and (...) once around what is compared: 'answer is \(?([A-D])'"
        )
    for text in _hard_texts(pattern):
        began = time.process_time()
        group_of(pattern, text, seconds=SECONDS)
        if time.process_time() - began > SECONDS / 2:
            raise ValueError(
                f"searching a text of {len(text):,} characters takes it more than {SECONDS / 2:g} s, since it may "
                "match in too many ways; avoid a repetition within a repetition, such as (a+)+"
            )


def _hard_texts(pattern: str) -> list[str]:
    """Texts on which a pattern that may match in many ways would try them all: its own characters, over and over."""
    letters = sorted({*pattern, *"a1 .\n"})
    runs = [letter * PROBED for letter in letters]
    whole = (pattern * PROBED)[:PROBED]
    return [text + end for text in (*runs, whole, "a 1, " * (PROBED // 5)) for end in ("", "\x00")]
