"""Task: what is learned. One file in this folder is one task; its fields are its YAML options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from tunesmith.plugin import Plugin, Registry
from tunesmith.types import Batch, Example, Examples, Loss, MainScore, ModelSource, Prediction, Pretrained

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

Encoded = Mapping[str, "Sequence[int] | np.ndarray"]
"""One example as the processor sees it: `input_ids`, perhaps `token_type_ids`, each over its tokens."""


class Task(Plugin):
    """Base of all tasks."""

    text_columns: ClassVar[tuple[str, ...]] = ()
    """Inputs that the data must (first) and may (others) bring, by the names used in `Example.inputs`."""

    def main_score(self, *, multi_label: bool) -> MainScore:
        """Name and direction of the score that picks the best checkpoint."""
        raise NotImplementedError

    def load(self, source: ModelSource, labels: Sequence[str], *, multi_label: bool, seed: int) -> Pretrained:
        """The pretrained model with a head for `labels`; new weights are drawn from `seed`. ModelError if it can't."""
        raise NotImplementedError

    def start(self, pretrained: Pretrained, part: Any) -> dict[str, tuple[Any, str]]:
        """Settle what only the data can, and give new weights a better start than chance, in place. `part`: the encoded
        training examples and their targets. Returns the options that were `auto`, with value and origin. Must do the
        same again when those options are given. Default: nothing."""
        return {}

    def encode(self, examples: Sequence[Example], processor: Any) -> list[Encoded]:
        """Token ids of each example, cut to `max_length`, without padding."""
        raise NotImplementedError

    def collate(
        self, encoded: Sequence[Encoded], labels: Any, processor: Any, *, positions: Sequence[int] | None = None
    ) -> Batch:
        """Pad and stack. `labels`: int array [examples], 0/1 array [examples, classes], or None."""
        raise NotImplementedError

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Sum of the examples' losses and their count (or sum of class weights)."""
        raise NotImplementedError

    def predict(self, model: nn.Module, batch: Batch) -> np.ndarray:
        """Raw scores [examples, classes], float32; no gradient."""
        raise NotImplementedError

    def predictions(self, logits: np.ndarray, labels: Sequence[str], thresholds: Any = None) -> list[Prediction]:
        """Raw scores as answers."""
        raise NotImplementedError

    def targets(self, examples: Examples, labels: Sequence[str]) -> np.ndarray:
        """Class indices [examples] int64, or 0/1 [examples, classes] for multi-label."""
        raise NotImplementedError

    def score(
        self, logits: np.ndarray, targets: np.ndarray, labels: Sequence[str], thresholds: Any = None
    ) -> dict[str, float]:
        """All scores of the task, the main one among them."""
        raise NotImplementedError


registry: Registry[Task] = Registry("tunesmith.tasks", Task)
