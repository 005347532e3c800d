"""What a run tells while it goes: each is a frozen value that `stream` yields and a progress bar draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunesmith.types import MainScore


@dataclass(frozen=True, slots=True)
class Begun:
    """Training is about to begin, or to go on after `done` steps: where, for how long, and how the untouched model
    scores. `lines` says in words what was read, resolved and checked."""

    folder: Path
    steps: int
    done: int
    before: Mapping[str, float]
    main_score: MainScore
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """What the run is busy with before and after training, in words."""

    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer update. `loss` is the mean over the batch's count; `seconds` is wall time of this step."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    examples: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Scores on the validation examples after `step` updates. `best` says whether it beats all earlier ones."""

    step: int
    scores: Mapping[str, float]
    best: bool
    seconds: float


Event = Begun | Stage | Step | Evaluated
"""What a run tells while it goes."""
