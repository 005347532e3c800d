"""What the runs of a study allow to be said: a row a method and retention, and every two rows tested.

**New score.** The mean over seeds. Its interval says how far it would move with another test set of this size and
other seeds. Examples are resampled (`judged.py`). Seeds are not: of three runs a bootstrap would show two thirds of
their variance and nothing outside the three values. Their own standard deviation is used, with t quantiles for so few
(`chance.py`). The part that examples have in the spread over seeds is counted twice, which errs to the wide side. With
one run a row the spread over seeds is unknown: the numbers then speak of these very models, not of the methods.

**Paired test.** The difference of two rows is taken on the same resamples, each row averaged over its seeds. Where the
score is a share of right answers, Fisher's permutation test of the examples' signs is made as well, and the larger p
counts. Holm's correction keeps the chance of any false difference among all pairs at 5 %.

**Forgetting** is the old score before minus after (the reverse where lower is better): above 0 something was lost. The
runs' own intervals over old examples are averaged over seeds and widened by the spread over seeds.

**The front** holds the rows that no other row beats: none is at least as good in new score, in every old task's
forgetting and in time, and better in one of them. It goes by the means alone. It is over rows scored on the same test
examples (`comparable.py`), and holds none whose old task has no number any more: not known is not nothing lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tunesmith.run.compare.chance import SHARE, added, flipped, front, half_width, holm, tail, with_seeds
from tunesmith.run.compare.comparable import before, lost, none_shared, old_names, same_examples, went_wrong
from tunesmith.run.compare.judged import Judged
from tunesmith.types import Interval

LEVEL = 0.05
COSTS = ("learned", "total", "seconds", "peak_mib", "file_mib")
SHARES = ("accuracy", "micro_f1", "macro_f1", "subset_accuracy", "ap", "ap50", "ap75", "agreement", "cka")
"""Scores that lie between 0 and 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One method with one retention, over its seeds.

    failed: seed and reason of each run that did not end well; missing: runs that have not ended. score: the new one
    with its 95 % interval; spread: its standard deviation over seeds, None with one. forgetting: by old task. broken:
    old tasks whose score is no number any more in some run. cost: means over the seeds, of memory the highest.
    on_front: whether no other row beats it.
    """

    method: str
    retention: str
    runs: tuple[Judged, ...]
    failed: tuple[tuple[int, str], ...] = ()
    missing: int = 0
    score: Interval | None = None
    spread: float | None = None
    forgetting: Mapping[str, Interval] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    on_front: bool = False
    broken: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Method and retention, for people."""
        return self.method if self.retention == "none" else f"{self.method} with {self.retention}"


@dataclass(frozen=True, slots=True)
class Pair:
    """The new score of one row minus another's, with its 95 % interval.

    first, second: numbers of the rows. p: two-sided, of this pair alone; holm: corrected for all pairs; NaN where the
    two cannot be compared. paired: whether it was taken example by example.
    """

    first: int
    second: int
    difference: Interval
    p: float
    holm: float = math.nan
    paired: bool = True

    @property
    def real(self) -> bool:
        """Whether chance alone would hardly make such a difference."""
        return self.holm < LEVEL


def lower_is_better(row: Row) -> bool:
    """Whether the new score is one that should be low."""
    return bool(row.runs) and row.runs[0].scores["main_score"].get("better") == "lower"


def summed_up(
    method: str, retention: str, runs: Sequence[Judged], failed: Sequence[tuple[int, str]] = (), missing: int = 0
) -> Row:
    """A row from its finished runs, from those that failed, and from how many have not ended."""
    bare = Row(method, retention, tuple(runs), tuple(failed), missing)
    if not runs:
        return bare
    values = [run.value for run in runs]
    first = runs[0].scores
    olds = old_names(runs)
    names = [name for name in olds if all(lost(run, name) is not None for run in runs)]
    costs = [run.scores.get("cost") or {} for run in runs]
    known = {key: [float(c[key]) for c in costs if c.get(key) is not None] for key in COSTS}
    return replace(
        bare,
        score=_bounded(str(first["main_score"]["name"]), with_seeds(_over_examples(runs), values)),
        spread=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        forgetting={name: _forgotten(runs, name) for name in names},
        broken=tuple(name for name in olds if any(went_wrong(run, name) for run in runs)),
        cost={key: max(held) if key == "peak_mib" else float(np.mean(held)) for key, held in known.items() if held},
    )


def comparable(rows: Sequence[Row]) -> list[int]:
    """Numbers of the rows whose new scores may be held against each other: those on the test examples of most."""
    return same_examples([row.runs for row in rows])


def compare_pairs(rows: Sequence[Row]) -> list[Pair]:
    """Every two rows that have a score, the first minus the second, tested and corrected."""
    some = [number for number, row in enumerate(rows) if row.runs]
    pairs = [_pair(rows, a, b) for place, a in enumerate(some) for b in some[place + 1 :]]
    tested = [n for n, pair in enumerate(pairs) if not math.isnan(pair.p)]
    for n, corrected in zip(tested, holm([pairs[n].p for n in tested]), strict=True):
        pairs[n] = replace(pairs[n], holm=corrected)
    return pairs


def put_on_front(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """The rows with `on_front` set, and what the front is over. What was not measured in every row that may be on it is
    no criterion."""
    some = [number for number in comparable(rows) if not rows[number].broken]
    if not some or none_shared([row.runs for row in rows]):
        return list(rows), []
    sign = 1.0 if lower_is_better(rows[some[0]]) else -1.0
    olds = [name for name in rows[some[0]].forgetting if all(name in rows[n].forgetting for n in some)]
    timed = all("seconds" in rows[n].cost for n in some)
    losses = np.array(
        [[sign * rows[n].score.value, *(rows[n].forgetting[name].value for name in olds),  # type: ignore[union-attr]
          *([rows[n].cost["seconds"]] if timed else [])] for n in some]
    )  # fmt: skip
    best = dict(zip(some, front(losses), strict=True))
    over = ["new score", *(f"forgetting of {name}" for name in olds), *(["time"] if timed else [])]
    return [replace(row, on_front=best.get(number, False)) for number, row in enumerate(rows)], over


def _over_examples(runs: Sequence[Judged]) -> Interval:
    """Mean over seeds, with the interval over test examples; where that cannot be, the mean of the runs' own."""
    value = float(np.mean([run.value for run in runs]))
    draws = _draws(runs)
    if draws is not None:
        low, high = np.nanquantile(draws, [(1 - SHARE) / 2, (1 + SHARE) / 2])
        return Interval(value, min(value, float(low)), max(value, float(high)), SHARE)
    name = runs[0].scores["main_score"]["name"]
    ends = [(run.scores.get("intervals") or {}).get("after", {}).get(name) for run in runs]
    if not all(isinstance(each, list) and len(each) == 2 for each in ends):
        return Interval(value, math.nan, math.nan, SHARE)
    low, high = np.mean(np.array(ends, np.float64), axis=0)
    return Interval(value, float(low), float(high), SHARE)


def _draws(runs: Sequence[Judged]) -> np.ndarray | None:
    """The mean over seeds on each resample; None where the runs cannot be resampled alike."""
    known = [run.draws for run in runs if run.draws is not None]
    if len(known) < len(runs) or len({run.key for run in runs}) > 1:
        return None
    return np.asarray(np.mean(known, axis=0))


def _right(row: Row) -> np.ndarray | None:
    """How often each test example was answered rightly, as a share of the seeds [examples]."""
    known = [run.right for run in row.runs if run.right is not None]
    return np.asarray(np.mean(known, axis=0)) if len(known) == len(row.runs) else None


def _forgotten(runs: Sequence[Judged], name: str) -> Interval:
    each = [found for run in runs if (found := lost(run, name)) is not None]
    value, low, high = (float(np.mean([getattr(one, end) for one in each])) for end in ("value", "low", "high"))
    found = with_seeds(Interval(value, low, high, SHARE), [one.value for one in each])
    first = before(runs, name, SHARES)  # a score between 0 and 1 cannot lose more than it had, nor gain beyond 1
    if first is None or math.isnan(found.low):
        return found
    return Interval(value, min(value, max(found.low, first - 1)), max(value, min(found.high, first)), SHARE)


def _pair(rows: Sequence[Row], first: int, second: int) -> Pair:
    one, two = rows[first], rows[second]
    assert one.score is not None
    assert two.score is not None
    value = one.score.value - two.score.value
    keys = {run.key for row in (one, two) for run in row.runs}
    nothing = Pair(first, second, Interval(value, math.nan, math.nan, SHARE), math.nan, paired=False)
    if len(keys) > 1:  # other test examples: no difference between them says anything of the methods
        return nothing
    draws = _draws(one.runs), _draws(two.runs)
    paired = draws[0] is not None and draws[1] is not None
    if paired:
        gain = draws[0] - draws[1]  # type: ignore[operator]
        known = gain[~np.isnan(gain)]
        examples = float(np.var(known, ddof=1)) if len(known) > 1 else math.nan
    else:
        sides = [_over_examples(row.runs) for row in (one, two)]
        examples = sum(((side.high - side.low) / 2 / 1.96) ** 2 for side in sides)
    if math.isnan(examples):
        return nothing
    seeds = [(row.spread**2 / len(row.runs), len(row.runs) - 1.0) for row in (one, two) if row.spread is not None]
    freedom = max(1.0, one.runs[0].examples - 1.0) if one.runs[0].examples else math.inf
    parts = [(examples, freedom), *seeds]
    half = half_width(parts) if added(parts)[0] > 0 else 0.0
    rights = _right(one), _right(two)
    p = tail(value, parts)
    if paired and rights[0] is not None and rights[1] is not None:
        p = max(p, flipped(rights[0] - rights[1], math.lcm(len(one.runs), len(two.runs))))
    return Pair(first, second, Interval(value, value - half, value + half, SHARE), p, paired=paired)


def _bounded(name: str, interval: Interval) -> Interval:
    if name not in SHARES:
        return interval
    return Interval(interval.value, max(0.0, interval.low), min(1.0, interval.high), SHARE)
