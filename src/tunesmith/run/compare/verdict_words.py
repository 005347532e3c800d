"""The verdict of a study in plain words: no more than the numbers support.

"As good as" needs the whole 95 % interval of a difference within two points; a wide interval around zero only means
that no difference can be told. The correction for many pairs keeps differences from being called real; it makes no two
rows alike, so a row is advised in place of the best only where the interval of the two alone reaches zero. Forgetting
differs where the intervals of two rows do not touch. Time is said as it was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tunesmith.run.compare.comparable import none_shared
from tunesmith.run.compare.left_out import left_out
from tunesmith.run.compare.verdict import SHARES, Pair, Row, comparable, lower_is_better
from tunesmith.run.report_parts import words
from tunesmith.types import Interval

MARGIN = 0.02
"""Scores between 0 and 1 whose difference surely lies within this are called equally good."""
FEW_EXAMPLES = 100
_NAMED = 6  # rows that a sentence names
_PARTS = {2: "half", 3: "a third of", 4: "a quarter of", 5: "a fifth of", 10: "a tenth of"}


def verdict(rows: Sequence[Row], pairs: Sequence[Pair], over: Sequence[str]) -> list[str]:
    """Sentences, the first the most telling. over: what the front is over."""
    some = [number for number, row in enumerate(rows) if row.score is not None]
    sound = [number for number in comparable(rows) if not rows[number].broken]
    ending = [*left_out(rows), *_caveats(rows, some)]
    if not some:
        return ["No run ended well, so there is nothing to compare.", *ending]
    if not sound:
        return ["No row can be advised here.", *ending]
    if none_shared([row.runs for row in rows]):
        return ["These rows were scored on different test examples, so none is advised.", *ending]
    best = _best(rows, sound)
    if len(sound) == 1:
        only = "has a finished run" if len(some) == 1 else "is left to advise"
        return [f"Only {rows[best].name} {only}: {_scored(rows[best])}.", *ending]
    return [*_compared(rows, sound, best, pairs), *_front(rows, sound, over), *ending]


def _compared(rows: Sequence[Row], sound: Sequence[int], best: int, pairs: Sequence[Pair]) -> list[str]:
    """The best row, or the one that is advised in its place, and how the others stand to it."""
    to_best = {n: found for n in sound if n != best and (found := _between(pairs, n, best)) is not None}
    unsure = [n for n, pair in to_best.items() if not pair.real and not math.isnan(pair.p)]
    near = [n for n in unsure if to_best[n].difference.low <= 0 <= to_best[n].difference.high]
    advised = _advised(rows, [best, *near])
    other = best if advised != best else max(near, key=lambda n: _burden(rows[n]), default=None)
    said = [_headline(rows, advised, other, pairs, to_best)]
    others = [rows[n] for n in near if n not in (advised, other)]
    if others:
        listed = _listed([f"{row.name} ({words.score(_value(row))})" for row in others])
        said.append(f"Not to be told from {rows[best].name} either: {listed}.")
    if some := [n for n in unsure if n not in near]:
        said.append(f"Beside {rows[best].name} alone worse, but not once all {len(pairs)} pairs are counted: "
                    f"{_behind(rows, some, to_best)}.")  # fmt: skip
    if worse := [n for n, pair in to_best.items() if pair.real]:
        kind = "higher" if lower_is_better(rows[best]) else "lower"
        said.append(f"Worse than {rows[best].name} by more than {_chance(rows)} ({kind} {_metric(rows[best])}): "
                    f"{_behind(rows, worse, to_best)}.")  # fmt: skip
    if apart := [n for n, pair in to_best.items() if math.isnan(pair.p)]:
        names = _listed([rows[n].name for n in apart])
        said.append(f"Not compared with {rows[best].name}, since intervals lack: {names}.")
    return said


def _front(rows: Sequence[Row], sound: Sequence[int], over: Sequence[str]) -> list[str]:
    names = [rows[n].name for n in sound if rows[n].on_front]
    if len(over) < 2 or not names:
        return []
    return [f"Beaten by none in {' and '.join([', '.join(over[:-1]), over[-1]])} together: {_listed(names)}."]


def amount(row: Row, task: str, value: float) -> tuple[str, str]:
    """What was lost of an old task as a number, and its unit: points of a score between 0 and 1, else the score's."""
    held: dict[str, Any] = next(
        (told for run in row.runs if (told := (run.scores.get("old_tasks") or {}).get(task))), {}
    )
    main = (held.get("main_score") or {}).get("name", "score")
    if main in SHARES:
        return f"{100 * value:.1f}".replace("-", "−").replace("−0.0", "0.0"), "points"
    return f"{value:.3g}".replace("-", "−"), words.inside(str(main))


def difference(interval: Interval) -> str:
    """A difference with its interval: −0.002 [−0.008, 0.004]."""
    if math.isnan(interval.low):
        return words.score(interval.value)
    return f"{words.score(interval.value)} [{words.score(interval.low)}, {words.score(interval.high)}]"


def times(new: float, old: float) -> str:
    """How long one takes beside another, in words; empty where either is not known."""
    if not (new > 0 and old > 0):
        return ""
    ratio = new / old
    if 0.8 <= ratio <= 1.25:
        return "takes about the same time"
    if ratio > 1:
        return f"takes {ratio:.2g} times as long" if ratio < 10 else f"takes {ratio:.0f} times as long"
    for part, said in _PARTS.items():
        if abs(ratio * part - 1) <= 0.1:
            return f"takes {said} the time"
    return f"takes {100 * ratio:.2g} % of the time"


def _headline(
    rows: Sequence[Row], advised: int, other: int | None, pairs: Sequence[Pair], to_best: dict[int, Pair]
) -> str:
    row = rows[advised]
    if other is None:  # it is the best, and nothing comes near
        beaten = [n for n, pair in to_best.items() if pair.real]
        if not beaten:
            return f"{row.name} scores highest here: {_scored(row)}."
        rest = rows[beaten[0]].name if len(beaten) == 1 else f"each of {len(beaten)} others"
        return f"{row.name} is best here: {_scored(row)}; it beats {rest} by more than {_chance(rows)}."
    top, pair = rows[other], _between(pairs, advised, other)
    assert pair is not None
    scores = f"{words.score(_value(row))} against {words.score(_value(top))}"
    gap = f"the difference of {difference(pair.difference)} is within chance"
    equal = _metric_name(top) in SHARES and max(-pair.difference.low, pair.difference.high) <= MARGIN
    start = f"{row.name} {'is as good as' if equal else 'cannot be told apart from'} {top.name} here"
    told = [*_forgets(row, top), times(row.cost.get("seconds", 0.0), top.cost.get("seconds", 0.0))]
    told = [each for each in told if each]
    end = "" if not told else f", {told[0]}" if len(told) == 1 else f", {', '.join(told[:-1])}, and {told[-1]}"
    return f"{start} ({_metric(row)} {scores}; {gap}){end}."


def _forgets(row: Row, top: Row) -> list[str]:
    """What a row forgets (or gains, where both do) beside another, of at most two old tasks."""
    said = []
    for task, own in list(row.forgetting.items())[:2]:
        other = top.forgetting.get(task)
        if other is None:
            continue
        gained = own.value < 0 and other.value < 0
        sign, verb = (-1, "gains") if gained else (1, "forgets")
        (new, unit), (old, _) = amount(row, task, sign * own.value), amount(top, task, sign * other.value)
        of = f"{unit} of {task}" if unit == "points" else f"of {task} ({unit})"
        less, more = own.high < other.low, own.low > other.high
        if less or more:
            said.append(f"{verb} {new} {'and thus more than' if more != gained else 'instead of'} {old} {of}")
        else:
            said.append(f"{verb} {new} against {old} {of}, too close to tell")
    return said


def _advised(rows: Sequence[Row], alike: Sequence[int]) -> int:
    """Of rows whose new scores cannot be told apart: without those that surely forget more than the one that forgets
    least, the fastest; of those about as fast, the best, then the one that forgets less, then the plain one."""
    olds = [name for name in rows[alike[0]].forgetting if all(name in rows[n].forgetting for n in alike)]
    least = {name: min(rows[n].forgetting[name].high for n in alike) for name in olds}
    mild = [n for n in alike if all(rows[n].forgetting[name].low <= least[name] for name in olds)] or list(alike)
    fastest = min(rows[n].cost.get("seconds", math.inf) for n in mild)
    fast = [n for n in mild if rows[n].cost.get("seconds", math.inf) <= max(1.25 * fastest, fastest + 1.0)]
    sign = -1.0 if lower_is_better(rows[alike[0]]) else 1.0
    return max(fast or mild, key=lambda n: (sign * _value(rows[n]), -_burden(rows[n])[0], rows[n].retention == "none"))


def _chance(rows: Sequence[Row]) -> str:
    """Which chance the tests know of: with one run a row, that of the test examples alone."""
    return "chance" if any(len(row.runs) > 1 for row in rows) else "the chance that lies in the test examples"


def _burden(row: Row) -> tuple[float, float]:
    """How much a row forgets and how long it takes, to find the one that a better one is best held against."""
    return sum(each.value for each in row.forgetting.values()), row.cost.get("seconds", 0.0)


def _caveats(rows: Sequence[Row], some: Sequence[int]) -> list[str]:
    said = []
    if some and min(len(rows[n].runs) for n in some) == 1:
        said.append(
            "With one run a row, the spread over seeds is unknown: what is said holds for these very models, and "
            "another seed may turn differences round. For the methods, take --seeds 3."
            if max(len(rows[n].runs) for n in some) == 1
            else f"Of {_listed([rows[n].name for n in some if len(rows[n].runs) == 1])} there is one run only: its "
            "spread over seeds is unknown."
        )
    compared = comparable(rows)
    examples = rows[compared[0]].runs[0].examples if compared else 0
    if 0 < examples < FEW_EXAMPLES:
        said.append(f"There are only {examples} test examples: only large differences can show.")
    if some and not any(rows[n].forgetting or rows[n].broken for n in some):
        said.append("No old task was scored, so nothing is known of forgetting.")
    failed = [f"{row.name} (seed{'s' if len(row.failed) > 1 else ''} {', '.join(str(seed) for seed, _ in row.failed)})"
              for row in rows if row.failed]  # fmt: skip
    if failed:
        runs = sum(len(row.runs) + len(row.failed) + row.missing for row in rows)
        lost = sum(len(row.failed) for row in rows)
        said.append(f"{lost} of {runs} runs failed and count{'s' if lost == 1 else ''} nowhere: {_listed(failed)}.")
    if missing := sum(row.missing for row in rows):
        said.append(f"{missing} run{'s have' if missing > 1 else ' has'} not ended yet.")
    return said


def _best(rows: Sequence[Row], some: Sequence[int]) -> int:
    sign = -1.0 if lower_is_better(rows[some[0]]) else 1.0
    return max(some, key=lambda n: sign * _value(rows[n]))


def _between(pairs: Sequence[Pair], one: int, other: int) -> Pair | None:
    """The pair of these two as one minus other."""
    for pair in pairs:
        if (pair.first, pair.second) == (one, other):
            return pair
        if (pair.first, pair.second) == (other, one):
            gap = pair.difference
            turned = Interval(-gap.value, -gap.high, -gap.low, gap.share)
            return Pair(one, other, turned, pair.p, pair.holm, pair.paired)
    return None


def _value(row: Row) -> float:
    return math.nan if row.score is None else row.score.value


def _metric_name(row: Row) -> str:
    return str(row.runs[0].scores["main_score"]["name"])


def _metric(row: Row) -> str:
    return words.inside(_metric_name(row))


def _scored(row: Row) -> str:
    assert row.score is not None
    span = words.span([row.score.low, row.score.high])
    return f"{_metric(row)} {words.score(row.score.value)}" + (f" (95 % interval {span})" if span else "")


def _behind(rows: Sequence[Row], numbers: Sequence[int], to_best: dict[int, Pair]) -> str:
    """Rows with their scores, the nearest to the best first; with the differences where there are not many."""
    near = sorted(numbers, key=lambda n: abs(to_best[n].difference.value))
    gaps = [f", {difference(to_best[n].difference)}" if len(near) <= 3 else "" for n in near]
    return _listed([f"{rows[n].name} ({words.score(_value(rows[n]))}{gap})" for n, gap in zip(near, gaps, strict=True)])


def _listed(names: Sequence[str]) -> str:
    kept = list(names[:_NAMED])
    if len(names) > _NAMED:
        kept.append(f"{len(names) - _NAMED} more")
    return kept[0] if len(kept) == 1 else f"{', '.join(kept[:-1])} and {kept[-1]}"
