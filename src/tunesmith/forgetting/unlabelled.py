"""What old tasks without labels share: batches of inputs drawn by step, features, and no loss."""

from __future__ import annotations

from torch import Tensor, nn

from tunesmith.forgetting import distance
from tunesmith.forgetting.base import Opening
from tunesmith.forgetting.features import features
from tunesmith.forgetting.inputs import Inputs
from tunesmith.forgetting.work import LEARNED, Draws
from tunesmith.types import Batch, Loss


class Unlabelled:
    """Half of `base.OpenTask`; the other half says what is scored. Outputs are features unless it says otherwise."""

    labelled = False
    has_examples = True

    def __init__(self, opening: Opening, inputs: Inputs) -> None:
        self.name = opening.name
        self._opening, self._inputs = opening, inputs
        self._draws = Draws(
            opening.name,
            opening.task,
            opening.pretrained.processor,
            lambda: inputs(LEARNED),
            opening.device,
            opening.seed,
            opening.batch_size,
            with_targets=opening.task.kind not in ("texts", "images"),  # others need them to run
        )

    def batch(self, step: int, count: int) -> Batch:
        """Training inputs, drawn by `step` alone."""
        return self._draws.batch(step, count)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """There is none without labels."""
        raise NotImplementedError(f"{self.name} has no labels, so it has no loss")

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Features [inputs, size]."""
        return features(model, batch, self._opening.task, self._opening.pretrained.anatomy)

    def distance(self, now: Tensor, before: Tensor, temperature: float) -> Tensor:
        """Their relative squared distance; a temperature means nothing to features."""
        return distance.between_features(now, before)
