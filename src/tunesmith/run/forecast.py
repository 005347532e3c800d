"""Before a run: how long it will take and how much memory it will hold, from a few real passes.

The passes are those of the run itself, over its true lengths: the largest shows the memory, it and the smallest warm
up and are thrown away, a middle one, long and short ones are timed. What each pass takes is read off the line through
them and added up over the steps. Answers, scores, an update and a checkpoint are timed too. Model, optimizer and
randomness are afterwards what they were, bit for bit.

The band is what such a measurement can promise on a machine that does other work as well, not a confidence interval.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.recipe.defaults import head_start
from tunesmith.retention.base import Penalty
from tunesmith.run.features import looked_at, on_sampled_features
from tunesmith.run.folder import write_json
from tunesmith.run.forgotten import chooses
from tunesmith.run.measure import (
    Answers,
    MicroSteps,
    interval_seconds,
    optimizer_beside,
    scoring_seconds,
    writing_seconds,
)
from tunesmith.run.pace import timed
from tunesmith.run.setup import Learning, Ready
from tunesmith.run.tryout import tryout
from tunesmith.train.loop import Plan
from tunesmith.train.memory import peak_mib

SECONDS = 1.5
"""How long training passes are timed for, beside the first ones; answers for a third of it at each precision."""
TIME_BAND = 0.15
"""Share of the time that the band is wide to each side at least."""
WRITE_UP = 0.5
"""Seconds for what cannot be tried before: predictions, and what libraries write beside the weights."""
ONE_PART = 0.6
"""Of the time that an old task takes at first: what one of its two parts takes, as at evaluations, where the run
chooses by it. At the end what was scored at first is scored once more, and one part with the method off."""
GROWTH, GROWTH_WORDS, MEMORY_BAND = 1.08, 1.25, 0.10
"""Memory fragments over many steps of unlike lengths: its share above the first ones, which is larger where a model
goes on with words, as each of its passes fills other places (docs/experiments.md); and the band to each side."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will cost: a value with the low and the high end of its band.

    seconds_of: `before` (scoring the untouched model), `training`, `evaluations`, `checkpoints`, `ending`. Reading the
    data and the model is not in it: it is over before anything can be forecast. peak_mib: as `memory.peak_mib` counts.
    """

    seconds: float
    low: float
    high: float
    peak_mib: float
    peak_low: float
    peak_high: float
    seconds_of: Mapping[str, float]
    steps: int
    batch_size: int
    may_stop_early: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `seconds` and `peak_mib` as [value, low, high]."""
        return {
            "seconds": [self.seconds, self.low, self.high],
            "peak_mib": [self.peak_mib, self.peak_low, self.peak_high],
            "seconds_of": dict(self.seconds_of),
            "steps": self.steps,
        }

    def line(self) -> str:
        """In one sentence."""
        early = "; early stopping may end it sooner" if self.may_stop_early else ""
        return (
            f"{self.steps:,} steps of {self.batch_size} examples: {in_words(self.seconds)} "
            f"({in_words(self.low)} to {in_words(self.high)}), {in_mib(self.peak_mib)} of memory at most "
            f"({in_mib(self.peak_low)} to {in_mib(self.peak_high)}){early}"
        )


def forecast(
    ready: Ready,
    learning: Learning,
    work: Path,
    *,
    penalty: Penalty | None = None,
    spent: Mapping[str, float] | None = None,
) -> Forecast:
    """Measure a fresh, settled learner; what is written goes to `work` and is removed.

    penalty: what a retention adds to every step. spent: seconds of what is over already, by stage (see `Spent`):
    `before`, and `old_tasks` and `answers`, which tell how long old tasks and answers in words will take at the end.
    """
    known = spent or {}
    old, answers = known.get("old_tasks", 0.0), known.get("answers", 0.0)
    plan, parts = learning.plan, ready.parts
    with tryout(ready, learning, updates=False):
        precision = ready.recipe.train.precision
        plainly = Answers(ready, learning.model, "float32", seconds=SECONDS / 3)
        shortly = plainly if precision == "float32" else Answers(ready, learning.model, precision, seconds=SECONDS / 3)
        looping = on_sampled_features(ready, learning)
        alone = looping is not None
        with optimizer_beside(learning) as (update, held):
            ready.device.precision = precision  # type: ignore[assignment]
            training, spread = _training(ready, looping or learning, update, penalty)
            saving = writing_seconds(list(learning.learned.values()), held, work)
        if alone:
            training += shortly.over(parts["train"]) + shortly.over(parts["validation"])
        elif head_start(ready.recipe) == "discriminant":
            classes = len(ready.dataset.labels)
            share = classes * looked_at(classes, kept=False) / len(parts["train"].encoded)
            training += shortly.over(parts["train"]) * min(1.0, share)
        scored = parts["test"] if len(parts["test"].encoded) else parts["validation"]
        scoring = {name: scoring_seconds(ready, plainly, part) for name, part in parts.items() if name != "train"}
        scored_in = scoring["test" if scored is parts["test"] else "validation"]
        evaluation = (0.0 if alone else shortly.over(parts["validation"])) + scoring["validation"]
        evaluation += ONE_PART * old if _old_at_evaluations(ready) else 0.0
        count = _evaluations(plan) if len(parts["validation"].encoded) else 0
        both = plainly.over(scored) + (plainly.over(parts["validation"]) if scored is not parts["validation"] else 0.0)
        peak = peak_mib()
    of = {
        "before": known.get("before", plainly.over(scored) + scored_in) + old + answers,
        "training": training,
        "evaluations": count * evaluation,
        "checkpoints": saving * _checkpoints(plan, int(ready.recipe.train.checkpoint_every), evaluates=count > 0),
        "ending": both
        + scored_in
        + interval_seconds(ready, plainly, scored)
        + saving
        + WRITE_UP
        + answers
        + old * (1 + (ONE_PART if chooses(ready.recipe) else 1.0) * ready.recipe.method.adapter),
    }
    return _banded(of, max(spread, plainly.pace.spread), peak, ready, learning)


def _old_at_evaluations(ready: Ready) -> bool:
    return ready.recipe.forgetting.at_evaluations or ready.recipe.forgetting.at_most is not None


def _banded(of: Mapping[str, float], spread: float, peak: float, ready: Ready, learning: Learning) -> Forecast:
    seconds, band = sum(of.values()), min(0.6, TIME_BAND + spread)
    expected = peak * (GROWTH_WORDS if ready.recipe.task.goes_on else GROWTH)
    return Forecast(
        seconds=seconds,
        low=seconds * (1 - band),
        high=seconds * (1 + band),
        peak_mib=expected,
        peak_low=peak,
        peak_high=expected * (1 + MEMORY_BAND),
        seconds_of=of,
        steps=learning.plan.steps,
        batch_size=learning.batches.batch_size,
        may_stop_early=ready.recipe.train.early_stopping is not None,
    )


def _training(ready: Ready, learning: Learning, update: float, penalty: Penalty | None) -> tuple[float, float]:
    """Seconds of all steps, and how far the readings spread. A method that lets more learn from some step on is
    measured in both states."""
    method, plan = ready.recipe.method, learning.plan
    passes = MicroSteps(ready, learning)
    first_whole = method.whole_from(plan.steps)
    share = (first_whole - 1) / plan.steps
    paces = [(1.0, passes.pace(SECONDS))]
    if share > 0:
        method.after_step(learning.model, first_whole - 1, plan.steps)
        paces = [(share, paces[0][1]), (1 - share, passes.pace(SECONDS))]
    times_all = plan.steps / passes.steps
    forwards = sum(part * pace.over(passes.sizes) for part, pace in paces) * times_all
    extra = update + timed(method.training_mode, learning.model) + _penalty_seconds(learning, penalty)
    return forwards + plan.steps * extra, max(pace.spread for _, pace in paces)


def _penalty_seconds(learning: Learning, penalty: Penalty | None) -> float:
    if penalty is None:
        return 0.0

    def added() -> None:
        for part in penalty(learning.model, 1):
            part.backward()

    added()
    return timed(added)


def _evaluations(plan: Plan) -> int:
    return plan.steps // plan.evaluate_every + (plan.steps % plan.evaluate_every > 0)


def _checkpoints(plan: Plan, every: int, *, evaluates: bool) -> int:
    """How many `fit` writes: every so many steps, at each evaluation, and at the end."""
    due = {*range(every, plan.steps + 1, every), plan.steps}
    return len(due | set(range(plan.evaluate_every, plan.steps + 1, plan.evaluate_every)) if evaluates else due)


def keep_forecast(found: Forecast, folder: Path) -> None:
    """Write it to the run folder, so that a resumed run can still be held against it."""
    write_json(folder / "forecast.json", found.as_dict())


def kept_forecast(folder: Path) -> dict[str, Any] | None:
    """What `keep_forecast` wrote; None where there is none."""
    file = folder / "forecast.json"
    found: dict[str, Any] | None = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    return found


def in_words(seconds: float) -> str:
    """A time as 40 s, 3.5 min or 1.2 h."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def in_mib(mib: float) -> str:
    """A size as 380 MiB or 1.2 GiB."""
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.2f} GiB"
