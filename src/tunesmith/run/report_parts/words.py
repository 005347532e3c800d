"""Numbers and foreign text as a person can read them.

Everything a run folder holds may come from data that nobody has checked. `shown` makes it visible and harmless before
it is escaped: characters that draw nothing, move the cursor or turn the reading direction are replaced by a sign or a
code, so that no text can hide a part of itself or disturb what stands beside it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NAMES = {
    "accuracy": ("Accuracy", "share of answers that are right"),
    "micro_f1": ("Micro F1", "F1 over all answers together"),
    "macro_f1": ("Macro F1", "mean of the classes’ F1, each class alike"),
    "subset_accuracy": ("Exact match", "share of examples with every label right"),
    "mcc": ("Matthews correlation", "0 is guessing, 1 is perfect, also when classes are unequal"),
    "auroc": ("AUROC", "chance that a true example ranks above a false one"),
    "ap": ("AP", "average precision: how much is found, and how little else, over overlaps of 0.50 to 0.95"),
    "ap50": ("AP50", "the same where half an overlap is enough"),
    "ap75": ("AP75", "the same where boxes must fit well"),
    "ap_small": ("AP small", "of boxes below 32 × 32 pixels"),
    "ap_medium": ("AP medium", "of boxes up to 96 × 96 pixels"),
    "ap_large": ("AP large", "of boxes above 96 × 96 pixels"),
    "nll": ("Negative log-likelihood", "surprise at the truth, in nats; lower is better"),
    "ece": ("Calibration error", "gap between stated and real rightness; lower is better"),
    "loss": ("Loss", "lower is better"),
    "perplexity": ("Perplexity", "how many tokens each next one is chosen from, in effect; lower is better"),
    "token_accuracy": ("Tokens guessed right", "share of the wanted answers’ tokens that the model would have written"),
    "rouge_l": ("ROUGE-L", "words in common with the wanted answer, in order (F1)"),
    "exact_match": ("Exact answers", "share of generated answers that are the wanted one to the character"),
    "normalised_match": (
        "Same answers",
        "share of generated answers that are the wanted one, but for case and punctuation",
    ),
    "pattern_match": ("Pattern match", "share of generated answers in which the pattern finds what is wanted"),
    "number_match": ("Right numbers", "share of generated answers that end on the wanted number"),
    "reward_accuracy": (
        "Right way round",
        "share of pairs whose preferred answer has the higher reward; ties count half",
    ),
    "margin": ("Margin", "reward of the preferred answers less that of the others"),
    "chosen_reward": ("Reward, preferred", "what training has added to the preferred answers’ likelihood, scaled"),
    "rejected_reward": ("Reward, others", "what training has added to the other answers’ likelihood, scaled"),
    "likelier": ("Likelier", "share of pairs whose preferred answer the model would sooner give, token for token"),
    "drift": ("Drift", "how far the model has moved on answers to other questions, in nats"),
}
LOWER_IS_BETTER = ("nll", "ece", "loss", "perplexity", "kl")
BY_CLASS = ("f1/", "ap/")
"""How the names of single classes' scores begin."""
PICTURE_TASKS = ("image_classification", "object_detection")
"""Tasks whose examples are pictures; those of all others are texts."""
LANGUAGE_TASKS = ("causal_lm", "preference")
"""Tasks whose models answer in words."""

_INVISIBLE = re.compile(
    "\r\n|[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)
_SIGNS = {"\n": " ⏎ ", "\r\n": " ⏎ ", "\t": " ⇥ "}


def shown(value: object, limit: int | None = None) -> str:
    """`value` as text in which every character can be seen; cut after `limit` characters with the count that is left.

    A line's end becomes ⏎, a tab ⇥, other control characters, direction marks and invisible ones a code such as
    ⟨U+202E⟩ (signs of their own are missing in many fonts). Joiners that scripts and emoji need are kept.
    """
    text = str(value)
    cut = ""
    if limit is not None and len(text) > limit:
        cut = f" … ({len(text) - limit:,} more characters)"
        text = text[:limit]
    return _INVISIBLE.sub(_picture, text) + cut


def _picture(match: re.Match[str]) -> str:
    found = match.group()
    return _SIGNS.get(found) or f"⟨U+{ord(found):04X}⟩"


def brief(value: object, limit: int = 24) -> str:
    """The beginning of a text, for places where the whole stands close by."""
    text = shown(value)
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def ending(value: object, limit: int = 64) -> str:
    """The end of a path, where its name stands."""
    text = shown(value)
    return text if len(text) <= limit else "…" + text[1 - limit :]


def score(value: Any) -> str:
    """A score with three places; a dash where there is none."""
    return f"{value:.3f}".replace("-", "−") if isinstance(value, int | float) and value == value else "–"


def chance(value: float) -> str:
    """A probability in per cent; near 0 and 1 with a decimal, and never rounded to certainty."""
    percent = 100 * value
    if percent > 99.9 or percent < 0.1:
        return "> 99.9 %" if percent > 50 else "< 0.1 %"
    return f"{percent:.1f} %" if percent > 99 or percent < 1 else f"{percent:.0f} %"


def signed(value: float) -> str:
    """A change with its sign: +0.26 or −0.03; a dash where it is not known."""
    if value != value:
        return "–"
    return f"{'−' if value < 0 else '+'}{abs(value):.3f}"


def span(ends: Any) -> str:
    """An interval such as 0.742–0.818; empty where it is missing or has no width (too few mistakes to tell)."""
    if not (isinstance(ends, list | tuple) and len(ends) == 2):
        return ""
    low, high = ends
    return f"{score(low)}–{score(high)}" if low < high else ""


def count(value: Any) -> str:
    """A whole number with thousands marked; a dash where there is none."""
    return f"{value:,.0f}" if isinstance(value, int | float) and value == value else "–"


def large(value: Any) -> str:
    """A count in three digits: 294 912 as 295 K, 22.7 M, 1.24 B."""
    if not isinstance(value, int | float) or value != value:
        return "–"
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " K")):
        if value >= size:
            return f"{value / size:.3g}{unit}" if value / size < 999.5 else f"{value / size:.0f}{unit}"
    return f"{value:.0f}"


def seconds(value: Any) -> str:
    """A time as 8.4 s, 2 min 12 s, or 1 h 04 min."""
    if not isinstance(value, int | float) or value != value:
        return "–"
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def mebibytes(value: Any) -> str:
    """A size given in MiB, in the unit that suits it."""
    if not isinstance(value, int | float) or value != value:
        return "–"
    if value >= 1024:
        return f"{value / 1024:.2f} GiB"
    return f"{value:.3g} MiB" if value >= 1 else f"{value * 1024:.0f} KiB"


def share(part: Any, whole: Any) -> str:
    """A share in per cent with two telling digits: 1.3 %, 0.042 %, 100 %."""
    if not isinstance(part, int | float) or not isinstance(whole, int | float) or whole <= 0:
        return "–"
    percent = 100 * part / whole
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.2g} %"


def name(metric: str) -> str:
    """A score's name in words."""
    return NAMES.get(metric, (metric.replace("_", " "), ""))[0]


def inside(metric: str) -> str:
    """A score's name inside a sentence: accuracy, but AP50 and AUROC."""
    told = name(metric)
    return told if told[1:2].isupper() else told[:1].lower() + told[1:]


def measured(metric: str, value: Any) -> Any:
    """A score, or None where there was nothing to score: no number, or the -1 that COCO's scores then say."""
    from tunesmith.metrics.boxes import nothing_to_score

    if not isinstance(value, int | float) or value != value:
        return None
    return None if nothing_to_score(metric, value) else value


def noun(task: str) -> str:
    """What one example of a task is."""
    return "picture" if task in PICTURE_TASKS else "text"


def headline(scores: Mapping[str, Any], examples: int | None) -> dict[str, str]:
    """The result in plain words: title, before, after, and two sentences on where and how sure.

    `sure` is "better", "worse", or "unclear" by the interval of the paired difference, which is what decides it.
    """
    main = scores["main_score"]["name"]
    before, after = (measured(main, scores.get(when, {}).get(main)) for when in ("before", "after"))
    interval = span(scores.get("intervals", {}).get("after", {}).get(main))
    part = {"test": "held-out", "validation": "validation"}.get(scores.get("part", "test"), scores.get("part", ""))
    where = f"on {examples:,} {part} examples" if examples else f"on the {part} examples"
    words = {
        "name": name(main),
        "before": score(before) if before is not None else "",
        "after": score(after),
        "where": where + (f" (95 % interval {interval})" if interval else ""),
        "sure": "",
        "verdict": "",
    }
    change = scores.get("difference", {}).get(main)
    if change is None and before is not None and after is not None:
        change = [after - before, None, None]
    if change is not None:
        first = scores.get("before", {}).get(main)
        nothing = first is not None and first == first and before is None
        words |= _verdict(change, scores["main_score"].get("better", "higher"), nothing=nothing)
    return words


def _verdict(change: list[Any], better: str, *, nothing: bool) -> dict[str, str]:
    value, low, high = change
    if value != value:
        return {
            "sure": "unclear",
            "gain": signed(value),
            "verdict": f"The change is not known{': there is nothing to score' if nothing else ''}.",
        }
    told = low is not None and high is not None and low == low
    if told and low <= 0 <= high:
        sure, sentence = "unclear", "No clear change"
    else:
        gained = value > 0 if better == "higher" else value < 0
        sure, sentence = ("better", "Better") if gained else ("worse", "Worse") if value else ("unclear", "No change")
    between = f", between {signed(low)} and {signed(high)} with 95 % confidence" if told else ""
    return {"sure": sure, "gain": signed(value), "verdict": f"{sentence}: {signed(value)}{between}."}
