"""What an open old task is, whatever its kind, and what it is opened with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tunesmith.evaluate.evaluate import Part
from tunesmith.retention.base import OldWork
from tunesmith.tasks.base import Task
from tunesmith.train.device import Device
from tunesmith.types import Dataset, Interval, MainScore, Pretrained

if TYPE_CHECKING:
    from torch import nn


class OpenTask(OldWork, Protocol):
    """Something the model could do before, ready to be scored on the model that learns, again and again.

    parts: names of the examples it is scored on, `test` first; `validation`, where it has some of its own, never
    overlaps it. has_examples: whether it also has training examples, so that a retention may learn from it.
    """

    kind: str
    main: MainScore
    parts: tuple[str, ...]
    has_examples: bool

    @property
    def definition(self) -> str:
        """What its main score is, in a sentence."""
        ...

    def rows(self, part: str) -> int:
        """Examples of a part that are scored."""
        ...

    def answers(self, model: nn.Module, part: str) -> np.ndarray:
        """Raw answers of the model as it stands, float32 [examples, ...], in float32 arithmetic. Leaves the model in
        evaluation mode."""
        ...

    def untouched(self, part: str) -> np.ndarray:
        """`answers` of the untouched model; to be asked while it still is as it was read."""
        ...

    def score(self, answers: np.ndarray, part: str) -> dict[str, float]:
        """All scores of such answers, the main one among them."""
        ...

    def forgetting(self, first: np.ndarray, last: np.ndarray, part: str) -> Interval:
        """Main score of `first` minus that of `last` (the reverse where lower is better), so that above 0 is lost; a
        paired bootstrap interval over the examples."""
        ...


@dataclass(frozen=True, slots=True)
class Opening:
    """What an old task is opened with: the new run's task, data and untouched model, and a folder for its files.

    rows: examples of a part that are scored, at most. batch_size: of the new task, behind which positions go on.
    known: the untouched model's answers by `NAME/part`, where they were taken before. choosing: whether this run
    chooses by what is forgotten, so that validation examples are scored beside the test.
    """

    name: str
    task: Task
    dataset: Dataset
    parts: Mapping[str, Part]
    pretrained: Pretrained
    device: Device
    folder: Path
    seed: int
    batch_size: int
    rows: int
    known: Mapping[str, np.ndarray] = field(default_factory=dict)
    choosing: bool = True

    def scored(self, names: Sequence[str]) -> tuple[str, ...]:
        """Of the parts there are, those that this run scores."""
        return tuple(names) if self.choosing else tuple(names[:1])


class NothingToScore(Exception):
    """Why there is no such old task here; told to the person as a remark, since `auto` is the default."""
