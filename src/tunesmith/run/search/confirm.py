"""Is the winner better than the default, or was it lucky? Both are run on seeds that the search has not seen.

The search took the best of many scores, so the winner's own score is too good by what chance gave it. On new seeds
chance starts afresh: winner and default are run on each of them, on the same data, and compared seed by seed on the
same validation examples. The interval (95 %) holds two sources of chance, added up as a comparison adds them
(run/compare/chance.py): how the differences spread over seeds, and, of accuracy, the least that so many examples let it
vary. What each example was answered is not kept of validation, so of any other score (a loss, micro F1, AP) the
interval is over seeds alone, and its words say so. What old tasks lose is reckoned in the same way: where the interval
is over seeds alone, more forgetting is said of these seeds only. Nor does any interval tell how far the search fitted
these examples: it chose on them, and the more trials it made, the more. The test part, which no search looks at, tells
that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from tunesmith.recipe.recipe import Recipe
from tunesmith.run.compare.chance import SHARE, half_width
from tunesmith.run.search import trial_folder as folders
from tunesmith.run.search.session import Session
from tunesmith.run.search.trials import Trial
from tunesmith.types import Interval, MainScore

Kind = Literal["better", "forgets", "unclear", "worse", "same", "open"]
SHARES: Final = ("accuracy",)
"""Main scores to which each example counts 0 or 1, so that `least_variance` holds."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run that confirms: whose it is, and on which seed."""

    who: Literal["default", "winner"]
    seed: int
    folder: Path
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the new seeds say. kind: `better`, `unclear`, `worse`; `forgets` where the score is better and old tasks
    lose more; `same` where the default itself won; `open` where runs are missing. gain: winner minus default,
    above 0 is better, with its interval. forgotten: what the winner loses of old tasks minus what the default loses
    (below 0 is better), where that is an objective."""

    kind: Kind
    words: str
    seeds: tuple[int, ...] = ()
    default: tuple[float, ...] = ()
    winner: tuple[float, ...] = ()
    gain: Interval | None = None
    forgotten: Interval | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        spans = {"gain": self.gain, "forgotten": self.forgotten}
        told = {key: None if span is None else [span.value, span.low, span.high] for key, span in spans.items()}
        runs = {"seeds": list(self.seeds), "default": list(self.default), "winner": list(self.winner)}
        return {"verdict": self.kind, "words": self.words, **runs, **told}


def plan(default: Recipe, winner: Recipe, number: int, *, seeds: int, folder: Path) -> list[Run]:
    """The runs of a confirmation: for each of `seeds` new seeds the default and the winner, trial `number`."""
    found: list[Run] = []
    for seed in range(default.train.seed + 1, default.train.seed + 1 + seeds):
        for who, recipe, name in (("default", default, "default"), ("winner", winner, f"trial-{number:04d}")):
            changed = recipe.changed(f"train.seed={seed}")
            found.append(Run(who, seed, folder / f"{name}-seed-{seed}", changed))  # type: ignore[arg-type]
    return found


def verdict(
    main: MainScore,
    runs: Sequence[Run],
    scores: Mapping[Path, tuple[float, float | None]],
    failed: Mapping[Path, str],
    *,
    examples: int,
    old_rows: int | None = None,
) -> Verdict:
    """What the runs that ended say. scores: of each its main score and what it forgot; failed: why others have none;
    examples: of validation, on which all are scored; old_rows: of old tasks, None where what they lose is no difference
    of shares of so many."""
    lost = [f"on seed {run.seed} the {run.who} failed: {failed[run.folder]}" for run in runs if run.folder in failed]
    pairs = _pairs(runs, scores)
    seeds = tuple(pairs)
    default, winner = (tuple(pair[place][0] for pair in pairs.values()) for place in (0, 1))
    values = (seeds, default, winner)
    if lost:
        shown = ". ".join(_sentence(each) for each in lost[:3])
        return Verdict("unclear", f"Not shown to be better than the default: {shown}.", *values)
    missing = len({run.seed for run in runs}) - len(pairs)
    if missing or len(pairs) < 2:
        words = (f"Not confirmed yet: {missing} of the new seeds are still to be run." if missing else
                 "Not confirmed: one seed tells nothing of chance; ask for two or more with --seeds.")  # fmt: skip
        return Verdict("open", words, *values)
    sign = 1.0 if main.better == "higher" else -1.0
    counted = examples if main.name in SHARES else None
    gain = spread([sign * (w - d) for d, w in zip(default, winner, strict=True)], counted)
    forgotten = None
    lost_by = [(a[1], b[1]) for a, b in pairs.values()]
    if all(a is not None and b is not None for a, b in lost_by):
        forgotten = spread([b - a for a, b in lost_by if a is not None and b is not None], old_rows)
    kind: Kind = "better" if gain.low > 0 else "worse" if gain.high < 0 else "unclear"
    if kind == "better" and forgotten is not None and forgotten.low > 0:
        kind = "forgets"
    return Verdict(kind, _words(kind, main, gain, forgotten, len(pairs), counted, old_rows), *values, gain, forgotten)


def spread(values: Sequence[float], examples: int | None = None) -> Interval:
    """Mean of a few values, one a seed, with its 95 % interval: Student's over the seeds, widened by `least_variance`
    where the values are differences of shares of so many examples."""
    mean, count = float(np.mean(values)), len(values)
    seeds = float(np.var(values, ddof=1)) / count
    half = half_width([(least_variance(mean, examples) if examples else 0.0, math.inf), (seeds, count - 1)])
    return Interval(mean, mean - half, mean + half, SHARE)


def least_variance(difference: float, examples: int) -> float:
    """The least variance that a difference d between two shares of the same n examples can have: (|d| - d^2) / n.

    Each example counts -1, 0 or 1, and d is their mean; fewest differ where all that differ do so the same way, |d| of
    them, and then their variance is |d| - d^2. Of other scores it is not: AP of pictures that each gain a little has
    less, and micro F1 is no mean over examples.
    """
    return max(0.0, abs(difference) - difference**2) / examples


def confirm(session: Session, winner: Trial | None, default: Trial) -> Verdict:
    """Run the winner and the default on new seeds, as long as there is time, and say what they show."""
    book, limits, crew, say = session.book, session.limits, session.crew, session.say
    assert book.main is not None
    early = _without_runs(winner, default, limits.seeds)
    if early is not None or winner is None:
        return early or Verdict("open", "No trial is complete.")
    base, place = book.base, book.folder / "confirm"
    runs = plan(base, base.changed(*winner.settings), winner.number, seeds=limits.seeds, folder=place)
    say(f"confirming trial {winner.number} against the default on {limits.seeds} new seeds")
    scores: dict[Path, tuple[float, float | None]] = {}
    failed: dict[Path, str] = {}

    def note(folder: Path) -> None:
        try:
            found = folders.delivered(folder, book.main, forgetting=book.forgetting)  # type: ignore[arg-type]
        except ValueError as error:
            failed[folder] = str(error)
            return
        scores[folder] = (found.score, found.forgotten)
        say(f"  {folder.name}: validation {book.main.name} {found.score:.4f}")  # type: ignore[union-attr]

    for run in runs:
        if folders.is_finished(run.folder):
            note(run.folder)
    waiting = [run for run in runs if run.folder not in scores and run.folder not in failed]
    while waiting or len(crew):
        if session.clock.left() <= 0:
            crew.ask()
            waiting = []
        while waiting and len(crew) < limits.jobs:
            crew.start(waiting[0].recipe, waiting[0].folder)
            del waiting[0]
        for ended in crew.ended():
            if ended.state == "finished":
                note(ended.folder)
            elif ended.state == "failed":
                failed[ended.folder] = ended.reason
        session.breathe()
    examples = folders.manifest_of(book.trial(0))["data"]["summary"]["split_sizes"]["validation"]
    old_rows = folders.old_rows(book.trial(0), SHARES) if book.forgetting else None
    return verdict(book.main, runs, scores, failed, examples=examples, old_rows=old_rows)


def _without_runs(winner: Trial | None, default: Trial, seeds: int) -> Verdict | None:
    """The verdict where there is nothing to run."""
    if winner is None:
        return Verdict("open", "No trial is complete, so there is no winner.")
    if winner.number == default.number:
        return Verdict("same", "No trial was better than the default, so the default it stays.")
    if not default.values:
        why = _sentence(default.reason) or "it has not ended"
        return Verdict("open", f"The default has no score to compare with ({why}).")
    if not seeds:
        return Verdict("open", "Not confirmed: no new seeds were asked for, and the best of many scores is too good by "
                       "what chance gave it. Ask for --seeds 3.")  # fmt: skip
    return None


def _pairs(
    runs: Sequence[Run], scores: Mapping[Path, tuple[float, float | None]]
) -> dict[int, tuple[tuple[float, float | None], tuple[float, float | None]]]:
    """By seed the default's and the winner's scores, where both are there."""
    by_seed: dict[int, dict[str, tuple[float, float | None]]] = {}
    for run in runs:
        if run.folder in scores:
            by_seed.setdefault(run.seed, {})[run.who] = scores[run.folder]
    return {seed: (both["default"], both["winner"]) for seed, both in sorted(by_seed.items()) if len(both) == 2}


def _words(
    kind: Kind,
    main: MainScore,
    gain: Interval,
    forgotten: Interval | None,
    seeds: int,
    examples: int | None,
    old_rows: int | None,
) -> str:
    name = main.name
    between = f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
    over = "seeds alone" if examples is None else f"seeds and {examples:,} examples"
    how = f"validation {name}, mean over {seeds} new seeds with 95 % interval over {over}"
    if main.better == "lower":
        how += ", sign turned so that above 0 is better"
    more = "surely forgets more" if old_rows else "forgets more on these seeds"
    said = {
        "better": f"Better than the default by {between} ({how}).",
        "forgets": f"Better than the default by {between} ({how}), but it {more}.",
        "worse": f"Worse than the default on new seeds: {between} ({how}). Keep the default.",
        "unclear": f"Not better than the default as far as {seeds} new seeds tell: {between} ({how}).",
    }[kind]
    if forgotten is not None:
        said += (f" What old tasks lose changes by {forgotten.value:+.4f} "
                 f"[{forgotten.low:+.4f}, {forgotten.high:+.4f}] (below 0: less is lost).")  # fmt: skip
    return said


def _sentence(text: str) -> str:
    return text.splitlines()[0].rstrip(".")[:200] if text else text
