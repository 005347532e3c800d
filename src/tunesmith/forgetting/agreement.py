"""`auto`, without labels: whether the tuned model still answers as the untouched one did.

Where the pretrained model brings a head of its own (an ImageNet classifier, a sentiment model), the same inputs go
through it before and after, and the share of equal answers and the Kullback-Leibler divergence are taken. Else the
features are compared (`similarity.py`). Both are 1.0 for the untouched model, and the same reference holds all along.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from tunesmith.data.options import DataOptions
from tunesmith.evaluate.evaluate import logits_of
from tunesmith.forgetting import distance
from tunesmith.forgetting.base import NothingToScore, Opening, OpenTask
from tunesmith.forgetting.features import in_float32, logits
from tunesmith.forgetting.headed import OldHead, as_old
from tunesmith.forgetting.inputs import Inputs
from tunesmith.forgetting.measures import agrees, divergence
from tunesmith.forgetting.own_head import own_head
from tunesmith.forgetting.similarity import Similar
from tunesmith.forgetting.unlabelled import Unlabelled
from tunesmith.metrics import interval
from tunesmith.models.first_token import all_tokens
from tunesmith.models.vision_source import DRAWN
from tunesmith.types import Batch, Interval, MainScore


def open_auto_task(data: DataOptions | None, opening: Opening) -> OpenTask:
    """Agreement where the pretrained model has a head of its own, else similarity of features.

    NothingToScore, with the reason, where nothing was learned before or no inputs are held out.
    """
    whose = f"the old task {opening.name} (auto)"
    if opening.pretrained.source.weights == DRAWN:
        raise NothingToScore(f"{whose} is left out: every weight is newly drawn, so there is nothing to forget.")
    inputs = Inputs(opening, data, whose)
    head = own_head(opening.pretrained) if opening.task.kind != "boxes" else None
    return Similar(opening, inputs) if head is None else Agreement(opening, inputs, head)


class Agreement(Unlabelled):
    """Answers of the model's own head, against those of the untouched model (see `base.OpenTask`)."""

    kind = "auto"
    main = MainScore("agreement", "higher")

    def __init__(self, opening: Opening, inputs: Inputs, head: OldHead) -> None:
        super().__init__(opening, inputs)
        self.parts, self.head = opening.scored(inputs.names), head
        for module in head.modules.values():
            opening.device.place(module)
        known = {part: opening.known.get(f"{self.name}/{part}") for part in self.parts}
        self.reference: Mapping[str, np.ndarray] = {
            part: self.answers(opening.pretrained.model, part) if answers is None else answers
            for part, answers in known.items()
        }
        count = self.reference[self.parts[0]].shape[1]
        self.definition = (
            f"share of {self.rows(self.parts[0]):,} {self.parts[0]} inputs {inputs.told} to which the pretrained "
            f"model's own head of {count:,} classes gives the same answer as before this run; kl is the mean "
            "divergence of its probabilities, KL(before || now), in nats."
        )

    def rows(self, part: str) -> int:
        """Inputs that are looked at."""
        return len(self._inputs(part).encoded)

    def answers(self, model: nn.Module, part: str) -> np.ndarray:
        """Logits of the own head, float32 [inputs, classes]."""
        task, processor, device = self._opening.task, self._opening.pretrained.processor, self._opening.device
        with as_old(model, self.head), in_float32(device), all_tokens(model):
            return logits_of(model, self._inputs(part).encoded, task=task, processor=processor, device=device)

    def untouched(self, part: str) -> np.ndarray:
        """The answers that all later ones are held against."""
        return self.reference[part]

    def score(self, answers: np.ndarray, part: str) -> dict[str, float]:
        """`agreement` and `kl` with the untouched model."""
        before = self.reference[part]
        return {"agreement": float(agrees(answers, before).mean()), "kl": float(divergence(before, answers).mean())}

    def forgetting(self, first: np.ndarray, last: np.ndarray, part: str) -> Interval:
        """Agreement of `first` minus that of `last`."""
        early, late = (agrees(answers, self.reference[part]) for answers in (first, last))
        return interval.paired_mean_difference(late, early, seed=self._opening.seed)

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits [inputs, classes] of the own head."""
        with as_old(model, self.head):
            return logits(model, batch)

    def distance(self, now: Tensor, before: Tensor, temperature: float) -> Tensor:
        """Divergence of softened answers."""
        return distance.between_logits(now, before, temperature)
