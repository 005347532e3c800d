"""How near an answer in words comes to the wanted one: five measures between 0 and 1, and their means with intervals.

All but `exact_match` read text in its compatible form (NFKC), so that full-width letters, digits and marks count as
their plain ones. Tokens of ROUGE-L are words, and single characters in scripts that are written without spaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any
from unicodedata import normalize

import numpy as np
import regex

from tunesmith.metrics.interval import bootstrap_mean, paired_mean_difference
from tunesmith.types import Interval

SCORES = ("exact_match", "normalised_match", "rouge_l", "pattern_match", "number_match")
SECONDS = 1.0
"""What one search for a pattern may take; beyond it the text counts as one without a match."""

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_TOKEN = regex.compile(rf"(?V1)[{_UNSPACED}]\p{{M}}*|[[\p{{L}}\p{{N}}\p{{M}}]--[{_UNSPACED}]]+")
_THOUSANDS = regex.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_APOSTROPHE = regex.compile(r"(?<=\w)['’](?=\w)")
_MARK = regex.compile(r"(?V1)[\p{P}--[.,+\-]]|[.,](?!\d)|(?<!\d),|(?<=\w)-|-(?!\d)")
_NO_SPACE = regex.compile(rf"(?<=[{_UNSPACED}])\s+|\s+(?=[{_UNSPACED}])")
_SPAN = regex.compile(r"(?<=\d([\p{L}%°]{1,3}))-(?=[\d.,]+\1)")
"""The dash of 10元-20元 and 5%-7%: behind a unit that comes again."""
# A minus stands directly before its number, and behind no digit, letter or bracket: else it is a dash, a bullet, a sign
# between two numbers. Scripts without spaces write it right behind a word.
_MINUS = rf"(?<![[\p{{L}}\p{{N}}_%)\]]--[{_UNSPACED}]])-(?=\p{{Sc}}?\.?\d)"
# Behind = or ≈ a space may stand within it, and behind a true minus sign (U+2212) that no value stands before.
_WIDE_MINUS = regex.compile(r"(?:(?<![\p{L}\p{N}_%)\]] *)−|(?<=[=≈] *)-) +(?=\p{Sc}?\.?\d)")
# 12 345,6: thousands in groups of exactly three, and no other number beside them; a comma is then a decimal one.
_SPACED = r"[1-9]\d{0,2}(?: \d{3}){1,6}+(?! ?\d|,\d{3}(?!\d))(?:,\d+(?! ?\d))?"
_NUMBER = regex.compile(
    rf"(?V1)(?:(?<minus>{_MINUS})|(?<![\d.]))\p{{Sc}}?(?=\.?\d)"
    rf"(?:(?<spaced>{_SPACED})|(?<whole>\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d+))?"
    r"(?<rest>(?:\.\d+)?(?:[eE][+-]?\d+(?![A-Za-z0-9_]))?)"
)


def exact_match(given: str, wanted: str) -> float:
    """1 where both are the same, character by character, but for white space around them; else 0."""
    return float(given.strip() == wanted.strip())


def normalised(text: str) -> str:
    """Text without what does not change its meaning: compatible form (NFKC), lower case, no punctuation, single spaces,
    and none beside scripts that need none. Articles, signs (`+`, `$`), a minus and a decimal point stay; the commas of
    1,234 go.
    """
    plain = normalize("NFKC", text).casefold().replace("−", "-")
    plain = _APOSTROPHE.sub("", _THOUSANDS.sub("", plain))
    return str(_NO_SPACE.sub("", " ".join(_MARK.sub(" ", plain).split())))


def normalised_match(given: str, wanted: str) -> float:
    """1 where both are the same once `normalised`; else 0."""
    return float(normalised(given) == normalised(wanted))


def rouge_l(given: str, wanted: str) -> float:
    """ROUGE-L as F1 (Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries, section 3.1, with beta 1).

        P = L / tokens given;   R = L / tokens wanted;   F = 2 P R / (P + R)

    L: length of the longest common subsequence of tokens, lower case. Departure: tokens are not stemmed. Two texts
    without any token score 1 where both are empty of them, else 0.
    """
    said, asked = _tokens(given), _tokens(wanted)
    if not said or not asked:
        return float(not said and not asked)
    return 2 * _longest_common(said, asked) / (len(said) + len(asked))


def pattern_match(given: str, wanted: str, *, pattern: str) -> float:
    """1 where the pattern's group in the answer is that in the wanted answer, but for case and white space; else 0.

    The last match counts, since an answer that thinks aloud ends with what it means. A wanted answer in which the
    pattern is not found stands for the group itself. An answer in which it is not found scores 0.
    """
    said = group_of(pattern, given)
    asked = group_of(pattern, wanted)
    asked = wanted if asked is None else asked
    return float(said is not None and " ".join(said.casefold().split()) == " ".join(asked.casefold().split()))


def group_of(pattern: str, text: str, *, seconds: float = SECONDS) -> str | None:
    """The group of the last place where the pattern is found in the text (NFKC); None where it is not found.

    None also where the search takes longer than `seconds` of processor time. regex.error for no regular expression.
    """
    compiled: Any = _compiled(pattern)
    try:
        found = list(compiled.finditer(normalize("NFKC", text), timeout=seconds))
    except TimeoutError:
        return None
    return found[-1].group(1) if found else None


def number_match(given: str, wanted: str) -> float:
    """1 where the last number of the answer equals that of the wanted answer; NaN where the wanted one has none.

    Behind `####`, as GSM8K writes its result, the first number counts. 1,234 and 1 234 are 1234, $5.00 is 5, 3e2 is
    300; the 18 of "- 18" and of "10-18" is 18, that of "x = - 18" is -18.
    """
    asked = number_in(wanted)
    if asked is None:
        return float("nan")
    return float(number_in(given) == asked)


def number_in(text: str) -> Decimal | None:
    """The number that a text ends on, or None."""
    plain = _SPAN.sub(" ", _WIDE_MINUS.sub("-", normalize("NFKC", text)).replace("−", "-"))
    _, marked, result = plain.rpartition("####")
    numbers = list(_NUMBER.finditer(result))
    if not numbers:
        return None
    chosen = numbers[0] if marked else numbers[-1]
    sign, spaced, whole, rest = (chosen.group(name) or "" for name in ("minus", "spaced", "whole", "rest"))
    digits = spaced.replace(" ", "").replace(",", ".") or whole.replace(",", "")
    try:
        return Decimal(sign + digits + rest)
    except InvalidOperation:
        return None


def score_answers(
    given: Sequence[str], wanted: Sequence[str], names: Sequence[str], *, pattern: str | None = None
) -> dict[str, np.ndarray]:
    """Each named score of each answer, float64 [answers]; NaN where there is nothing to compare with.

    pattern: with one group, for `pattern_match`; ValueError where that is asked for without one.
    """
    plain = {"exact_match": exact_match, "normalised_match": normalised_match, "rouge_l": rouge_l,
             "number_match": number_match}  # fmt: skip
    found: dict[str, np.ndarray] = {}
    for name in names:
        if name != "pattern_match":
            values = [plain[name](said, asked) for said, asked in zip(given, wanted, strict=True)]
        elif pattern is None:
            raise ValueError("pattern_match needs a pattern")
        else:
            values = [pattern_match(said, asked, pattern=pattern) for said, asked in zip(given, wanted, strict=True)]
        found[name] = np.array(values, dtype=np.float64)
    return found


def means(scores: Mapping[str, np.ndarray], *, seed: int) -> dict[str, Interval]:
    """The mean of each score with its bootstrap interval; scores of which no answer has any are left out."""
    told = {name: values[~np.isnan(values)] for name, values in scores.items()}
    return {name: bootstrap_mean(values, seed=seed) for name, values in told.items() if len(values)}


def gains(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], *, seed: int) -> dict[str, Interval]:
    """The mean of after minus before of each score, with the interval of that difference over the same answers."""
    found = {}
    for name in before:
        told = ~(np.isnan(before[name]) | np.isnan(after[name]))
        if told.any():
            found[name] = paired_mean_difference(before[name][told], after[name][told], seed=seed)
    return found


@cache
def _compiled(pattern: str) -> Any:
    return regex.compile(pattern)


def _tokens(text: str) -> list[str]:
    return list(_TOKEN.findall(normalize("NFKC", text).casefold()))


def _longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, a machine word of tokens at a time (Hyyrö 2004, Bit-parallel LCS-length
    computation revisited): a cleared bit is a token of `first` that the sequence has taken up.
    """
    places: dict[str, int] = {}
    for place, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << place
    every = (1 << len(first)) - 1
    row = every
    for token in second:
        shared = row & places.get(token, 0)
        row = ((row + shared) | (row - shared)) & every
    return len(first) - row.bit_count()
