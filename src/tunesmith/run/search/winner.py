"""Which trial is best: by score; with forgetting the best score among those that forget no more than the default."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.run.search.trials import Trial
from tunesmith.types import MainScore


def choose(trials: Sequence[Trial], main: MainScore) -> Trial | None:
    """The winner, None where no trial is complete. Of equal ones the earlier; the default is trial 0.

    With two objectives it is taken from the front: of those that forget at most what the default does the best by
    score, and where the default has no numbers, the best by score of all.
    """
    complete = [trial for trial in trials if trial.state == "complete"]
    if not complete:
        return None
    if len(complete[0].values) > 1:
        complete = front(complete, main)
        limit = trials[0].values[1] if trials[0].values else float("inf")
        complete = [trial for trial in complete if trial.values[1] <= limit] or complete
    best = complete[0]
    for trial in complete[1:]:
        if main.beats(trial.values[0], best.values[0]):
            best = trial
    return best


def front(trials: Sequence[Trial], main: MainScore) -> list[Trial]:
    """The complete trials that no other one beats: as good in score and in forgetting, and better in one of them."""
    sign = -1.0 if main.better == "higher" else 1.0
    losses = {t.number: (sign * t.values[0], t.values[1]) for t in trials if t.state == "complete"}

    def beaten(own: tuple[float, float]) -> bool:
        return any(all(a <= b for a, b in zip(o, own, strict=True)) and o != own for o in losses.values())

    return [t for t in trials if t.number in losses and not beaten(losses[t.number])]
