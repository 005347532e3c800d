"""Of which kind the parts of a run's files are: a report of a foreign or damaged folder leaves the others out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Kind = Callable[[Any], bool] | Mapping[str, "Kind"] | list["Kind"]
"""A test; or the kinds of a mapping's entries by key (`*`: of all others); or the kind of each item of a list."""


def text(value: Any) -> bool:
    """A name or a sentence."""
    return isinstance(value, str)


def measure(value: Any) -> bool:
    """A score; NaN and infinity are some."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)


def number(value: Any) -> bool:
    """A number with an end."""
    return measure(value) and abs(value) < 2**63


def amount(value: Any) -> bool:
    """A number with an end, or NaN where it is not known."""
    return number(value) or value != value


def ends(value: Any) -> bool:
    """The two ends of an interval."""
    return isinstance(value, list) and len(value) == 2 and all(map(measure, value))


def change(value: Any) -> bool:
    """A difference and the two ends of its interval, which may be unknown."""
    return isinstance(value, list) and len(value) == 3 and measure(value[0]) and _known(value[1:])


def _known(values: list[Any]) -> bool:
    return all(one is None or measure(one) for one in values)


def foretold(value: Any) -> bool:
    """A forecast and its two ends."""
    return isinstance(value, list) and len(value) == 3 and all(map(amount, value))


def lost(value: Any) -> bool:
    """What was forgotten, and the two ends of its interval."""
    return isinstance(value, list) and len(value) == 3 and all(map(measure, value))


def named(value: Any) -> bool:
    """A name, alone or with what goes with it."""
    return isinstance(value, str | Mapping)


_MEASURES: Kind = {"*": measure}
_NUMBERS: Kind = {"*": number}
_AMOUNTS: Kind = {"*": amount}
_MAIN: Kind = {"name": text, "better": text}

MANIFEST: Kind = {
    "labels": [text],
    "known_labels": [text],
    "model": named,
    "versions": {},
    "origins": {},
    "cut": {"share": number, "max_length": number},
    "data": {
        "summary": {
            **dict.fromkeys(("read", "used", "quarantined", "blank"), number),
            "split_sizes": _NUMBERS,
            "class_counts": {"*": _NUMBERS},
            "notes": [text],
            "files": [named],
        }
    },
}
SCORES: Kind = {
    "main_score": _MAIN,
    "part": text,
    "before": _MEASURES,
    "after": _MEASURES,
    "intervals": {"*": {"*": ends}},
    "difference": {"*": change},
    "temperature": amount,
    "best_step": number,
    "cost": {
        **dict.fromkeys(("learned", "total", "seconds", "whole_seconds", "peak_mib", "file_mib"), amount),
        "forecast": {"seconds": foretold, "peak_mib": foretold, "steps": number, "seconds_of": _AMOUNTS},
        "stages": _AMOUNTS,
    },
    "old_tasks": {
        "*": {
            "main_score": _MAIN,
            "rows": number,
            **dict.fromkeys(("before", "after", "off"), _MEASURES),
            "forgetting": {"initial_minus_last": lost},
            "definition": text,
            "chosen_by": [text],
        }
    },
    "retention": {"share": number, "curve": [{"share": number, "new_score": measure, "forgetting": _MEASURES}]},
}
EVENT: Kind = {
    **dict.fromkeys(("step", "seconds", "examples"), number),
    **dict.fromkeys(("loss", "learning_rate", "gradient_norm"), measure),
    "scores": _MEASURES,
}


def fitting(value: Any, kind: Kind, name: str, wrong: list[str]) -> Any:
    """The value without its parts that are not of their kind, which are named in `wrong`; None where all of it is not.

    Parts of which nothing is said stay; others that are null go, without a word.
    """
    if isinstance(kind, Mapping) and isinstance(value, Mapping):
        kept = {}
        for key, part in value.items():
            expected = kind.get(key, kind.get("*"))
            if expected is None:
                kept[key] = part
            elif part is not None and (fit := fitting(part, expected, f"{name}: {key}", wrong)) is not None:
                kept[key] = fit
        return kept
    if isinstance(kind, list) and isinstance(value, list):
        items = (fitting(one, kind[0], f"{name}: {place}", wrong) for place, one in enumerate(value))
        return [one for one in items if one is not None]
    if callable(kind) and kind(value):
        return value
    wrong.append(f"{name} is of another kind than a run writes")
    return None
