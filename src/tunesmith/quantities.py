"""Sizes, counts and times as a person writes them: `4GiB`, `100M`, `1h30m`.

Read strictly: a number without its unit, an unknown unit or a number that is not above zero is a fault, and the
message gives an example. A wrong guess here would let a model of the wrong size through, or run a night too long.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

from tunesmith.errors import RecipeError

_BYTES: Final[Mapping[str, int]] = {
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_COUNTS: Final[Mapping[str, int]] = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
_SECONDS: Final[Mapping[str, int]] = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}

_ONE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)
_TIME: Final = re.compile(r"(?:\d+(?:\.\d+)?\s*[A-Za-z]+\s*)+", re.ASCII)


def parse_bytes(text: str, *, what: str = "size") -> int:
    """`8GiB` -> 8,589,934,592 bytes; GiB is 1024 MiB, GB is 10**9 bytes. `what` names the setting in the message.

    Raises RecipeError for a bare number (of bytes or of gigabytes?), an unknown unit, and anything not above zero.
    """
    return _whole(text, _BYTES, what, "a number and its unit, such as 8GiB, 512MiB or 1.5GB")


def parse_count(text: str, *, what: str = "count") -> int:
    """`100M` -> 100,000,000; k, M, B (or G) are thousands, millions, billions; `1_500` and `1500` are plain numbers.

    Raises RecipeError for an unknown ending and anything that is not a whole number above zero.
    """
    return _whole(text.replace("_", ""), _COUNTS, what, "a number such as 100M (million), 300k or 1.5B (billion)")


def parse_seconds(text: str, *, what: str = "time") -> float:
    """`30m` -> 1800.0 seconds; s, m (or min), h, d, also several: `1h30m`.

    Raises RecipeError for a bare number (of seconds or of minutes?), an unknown unit, and anything not above zero.
    """
    example = "a number and its unit, such as 90s, 30m or 1h30m"
    written = text.strip()
    if _TIME.fullmatch(written) is None:
        raise _fault(text, what, example, _missing(written, _SECONDS))
    total = 0.0
    for number, unit in _ONE.findall(written):
        if unit not in _SECONDS:
            raise _fault(text, what, example, _unknown(unit, _SECONDS))
        total += float(number) * _SECONDS[unit]
    return _above_zero(total, text, what, example)


def _whole(text: str, units: Mapping[str, int], what: str, example: str) -> int:
    found = _ONE.fullmatch(text.strip())
    if found is None:
        raise _fault(text, what, example)
    number, unit = found.groups()
    if unit not in units:
        raise _fault(text, what, example, _unknown(unit, units) if unit else _missing(number, units))
    value = _above_zero(float(number) * units[unit], text, what, example)
    # A float is exact to 2**53 only; the plain integer keeps every digit of a longer one.
    exact = int(number) * units[unit] if number.isdigit() else round(value)
    if exact < 1 or (units[unit] == 1 and not number.isdigit() and not value.is_integer()):
        raise _fault(text, what, example, "it must be a whole number above zero")
    return exact


def _above_zero(value: float, text: str, what: str, example: str) -> float:
    if not math.isfinite(value) or value <= 0:
        raise _fault(text, what, example, "it must be above zero")
    return value


def _unknown(unit: str, units: Mapping[str, int]) -> str:
    """Names the units, and the one that differs only in upper and lower case: `100m` is not `100M`."""
    near = [known for known in units if known and known.lower() == unit.lower()]
    known = ", ".join(name for name in units if name)
    return f'"{unit}" is no unit here ({known})' + (f'; did you mean "{near[0]}"?' if near else "")


def _missing(number: str, units: Mapping[str, int]) -> str:
    bare = re.fullmatch(r"\d+(\.\d+)?", number) is not None
    return f"it has no unit ({', '.join(name for name in units if name)})" if bare else ""


def _fault(text: str, what: str, example: str, why: str = "") -> RecipeError:
    return RecipeError(f'{what}: "{text}" was given' + (f", and {why}" if why else "") + f". Write {example}.")
