"""A task of the lm-evaluation-harness as an old task of a language model (`evaluate/harness.py` asks it).

It is scored and nothing else: there are no training examples of it, so retentions that learn from old work pass it by.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from torch import Tensor, nn

from tunesmith.errors import DataError, ModelError
from tunesmith.evaluate.harness import HarnessTask, open_harness
from tunesmith.forgetting.base import Opening
from tunesmith.forgetting.features import in_float32
from tunesmith.forgetting.language import LANGUAGE
from tunesmith.forgetting.measures import turned
from tunesmith.forgetting.work import SCORED
from tunesmith.types import Batch, Interval, Loss


def open_harness_task(source: str, opening: Opening) -> Asked:
    """The old task that `harness:NAME` means. ModelError unless the run tunes a language model, DataError where a
    resumed run finds another task; else as `evaluate.harness.open_harness`."""
    if opening.task.kind not in LANGUAGE:
        raise ModelError(
            f"the old task {opening.name} ({source}): tasks of the evaluation harness are asked in words, of language "
            f"models (task causal_lm or preference); this run's task is {type(opening.task).name}. Leave it out."
        )
    opened = Asked(opening, open_harness(source, opening.folder, opening.rows))
    known = opening.known.get(f"{opening.name}/{SCORED}")
    if known is not None and known.shape != opened.shape:
        raise DataError(
            f"the old task {opening.name} ({source}): its documents or metrics are others than when this run began. "
            "Put its data, its task file and lm-eval back as they were, or fit again."
        )
    return opened


class Asked:
    """An open old task of the harness (see `base.OpenTask`); answers are each document's value of each metric."""

    kind = "harness"
    labelled = False
    has_examples = False

    def __init__(self, opening: Opening, task: HarnessTask) -> None:
        self.name, self.main = opening.name, task.main
        self.parts: tuple[str, ...] = (SCORED,)
        self._opening, self._task = opening, task

    @property
    def shape(self) -> tuple[int, int]:
        """Documents and metrics."""
        return self._task.rows, len(self._task.measures)

    @property
    def definition(self) -> str:
        """What is scored, in a sentence."""
        return self._task.definition

    def rows(self, part: str) -> int:
        """Documents that are scored."""
        return self._task.rows

    def answers(self, model: nn.Module, part: str) -> np.ndarray:
        """Each document's value of each metric, float32 [documents, metrics]."""
        with in_float32(self._opening.device):
            return self._task.answers(model, self._opening.pretrained.processor, self._opening.device)

    def untouched(self, part: str) -> np.ndarray:
        """Answers of the untouched model; to be asked while it still is as it was read."""
        return self.answers(self._opening.pretrained.model, part)

    def score(self, answers: np.ndarray, part: str) -> dict[str, float]:
        """Each metric's mean over the documents."""
        return self._task.score(answers)

    def forgetting(self, first: np.ndarray, last: np.ndarray, part: str) -> Interval:
        """Main score of `first` minus that of `last` (the reverse where lower is better)."""
        return turned(self._task.difference(first, last, seed=self._opening.seed), self.main)

    def batch(self, step: int, count: int) -> Batch:
        """There is none: it has no training examples."""
        self._is_only_scored()

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """There is none."""
        self._is_only_scored()

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """There are none."""
        self._is_only_scored()

    def distance(self, now: Tensor, before: Tensor, temperature: float) -> Tensor:
        """There is none."""
        self._is_only_scored()

    def _is_only_scored(self) -> NoReturn:
        raise NotImplementedError(f"{self.name} is a task of the evaluation harness, which is scored and not learned")
