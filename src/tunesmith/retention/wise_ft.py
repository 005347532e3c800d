"""Back part of the way from tuned to untouched, once training has ended.

## Idea

`w(s) = w0 + s (w1 - w0)` for `s` from 0, the untouched weights, to 1, the tuned ones, both exactly; the head stays
tuned. Of an adapter it is the scale: `s` times its change. The points are scored on validation examples of the new task
and of the old tasks, and that one is taken which forgets least among those that cost at most `give` of the best new
score on the line. An old task that has one held-out part only (a task of the harness, data without a test or without a
validation part) is asked on that: the report then says that choice and number share their examples, and the number may
be too good. Forgetting is the most that any old task loses, and what one gains counts as nothing lost. Of points
that forget alike the one with the better new score is taken, then the one nearer to the tuned model. Without an old
task nothing is known of forgetting: the least change that keeps the new score is taken. The statistics of norms that
move are taken anew at each point between the ends. The curve stands in the report.

## Fits

Methods with a line between untouched and tuned: those that change weights, and adapters that add to them or scale them.
Prompts and prefixes have none and are refused. It needs validation examples.

## Cost

One scoring of both validation parts a point, after training; nothing while training; a copy of what learns.

## When to choose it

Nearly always as a first try with `full`: it needs no old training data and no second run. Where untouched and tuned lie
far apart (high rates, small networks from nothing) the middle of the line may be worse than both ends.

## Source

Wortsman et al. 2022, Robust fine-tuning of zero-shot models, arXiv 2109.01903, eq. 1 (their head is moved too; ours is
new and has no start; the rule with `give` is ours). Norms: Izmailov et al. 2018, arXiv 1803.05407, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from tunesmith.retention.base import Finishing, Retention

ROUNDING = 1e-9  # a score that is worse by just `give` is within it, whatever its last digit says


class WiseFT(Retention):
    """A point on the line between untouched and tuned."""

    at_end: ClassVar[bool] = True

    points: int = Field(11, ge=2, le=101, description="points that are tried, both ends among them")
    give: float = Field(0.01, ge=0, description="how much of the best new score may be given for less forgetting")

    def finish(self, finishing: Finishing) -> dict[str, Any]:
        """Score the line and stay at the point chosen; `curve`, `share` and the rule."""
        curve: list[dict[str, Any]] = []
        for number in range(self.points):
            share = number / (self.points - 1)
            finishing.put(share)
            lost = {name: float(value) for name, value in finishing.old_forgetting().items()}
            curve.append({"share": share, "new_score": float(finishing.new_score()), "forgetting": lost})
        share = chosen(curve, self.give, better=finishing.better)
        finishing.put(share)
        rule = f"the least forgetting among points within {self.give:g} of the best new validation score"
        return {"name": "wise_ft", "share": share, "rule": rule, "curve": curve}


def chosen(curve: Sequence[Mapping[str, Any]], give: float, *, better: str) -> float:
    """The share of the point that the rule takes; the tuned end where no new score is a number."""
    sign = 1.0 if better == "higher" else -1.0
    scored = [point for point in curve if math.isfinite(point["new_score"])]
    top = max((sign * point["new_score"] for point in scored), default=0.0)
    allowed = [point for point in scored if sign * point["new_score"] >= top - give - ROUNDING]

    def rank(point: Mapping[str, Any]) -> tuple[float, float, float]:
        share, lost = float(point["share"]), point["forgetting"].values()
        if not lost:
            return 0.0, 0.0, share
        # an old score that is not a number is lost altogether
        most = max(math.inf if math.isnan(value) else max(value, 0.0) for value in lost)
        return most, -sign * point["new_score"], -share

    return float(min(allowed, key=rank)["share"]) if allowed else 1.0
