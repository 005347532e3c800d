"""The learning rate's course over the steps of a run."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["linear", "cosine", "constant"]


def rate_factor(step: int, steps: int, *, schedule: Schedule, warmup: float) -> float:
    """What the highest rate is multiplied by at 1-based `step` of `steps`; in (0, 1].

    It rises in a straight line over the first `warmup` share of the steps, then falls towards 0 in a straight line or
    half a cosine, or stays. The last step still has a rate above 0.
    """
    rising = math.ceil(warmup * steps)
    if step <= rising:
        return step / (rising + 1)
    left = (steps - step + 1) / max(1, steps - rising)
    if schedule == "linear":
        return left
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (1 - left))) if left < 1 else 1.0
    return 1.0
