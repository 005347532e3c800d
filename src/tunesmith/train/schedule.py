"""The learning rate's course over the steps of a run."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["linear", "cosine", "constant", "exponential"]
"""`exponential` belongs to the range test of learning rates (`run/lr_find.py`), not to recipes."""

RANGE = 1e5
"""How far an exponential course rises in all."""


def rate_factor(step: int, steps: int, *, schedule: Schedule, warmup: float) -> float:
    """What the highest rate is multiplied by at 1-based `step` of `steps`; in (0, 1].

    It rises in a straight line over the first `warmup` share of the steps, then falls towards 0 in a straight line or
    half a cosine, or stays. The last step still has a rate above 0. `exponential` has no warm-up: it rises from
    1 / RANGE to 1 by the same factor every step.
    """
    if schedule == "exponential":
        return float(RANGE ** ((step - 1) / max(1, steps - 1) - 1))
    rising = math.ceil(warmup * steps)
    if step <= rising:
        return step / (rising + 1)
    left = (steps - step + 1) / max(1, steps - rising)
    if schedule == "linear":
        return left
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (1 - left))) if left < 1 else 1.0
    return 1.0
