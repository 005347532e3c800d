"""Old tasks of a language model with words to learn from: held-out text, or what an earlier run taught.

The model that learns answers them itself; there is no head to put in its place. Scores are those of task `causal_lm`:
loss in nats a learned token (of a plain text every token after the first, of a conversation the assistant's answers),
perplexity, and the share of tokens guessed right.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from tunesmith.evaluate.evaluate import logits_of
from tunesmith.forgetting import distance
from tunesmith.forgetting.asked import next_token_logits
from tunesmith.forgetting.base import Opening
from tunesmith.forgetting.features import in_float32
from tunesmith.forgetting.measures import turned
from tunesmith.forgetting.work import LEARNED, Draws, OldParts
from tunesmith.tasks.causal_lm import CausalLm
from tunesmith.types import Batch, Interval, Loss


class Spoken:
    """An open old task of a language model (see `base.OpenTask`); its texts are their own labels."""

    labelled = has_examples = True

    def __init__(self, kind: str, opening: Opening, task: CausalLm, parts: OldParts) -> None:
        self.kind, self.name, self.task = kind, opening.name, task
        self.main = task.main_score(multi_label=False)
        self.definition, self.parts = "", opening.scored(parts.names)
        self._opening, self._part = opening, parts
        self._draws = Draws(
            opening.name,
            task,
            parts.processor,
            lambda: parts(LEARNED),
            opening.device,
            opening.seed,
            opening.batch_size,
            with_targets=True,
        )

    def rows(self, part: str) -> int:
        """Texts or conversations that are scored."""
        return len(self._part(part).targets)

    def answers(self, model: nn.Module, part: str) -> np.ndarray:
        """Summed loss in nats, learned tokens, and those guessed right, float32 [examples, 3]."""
        device, held = self._opening.device, self._part(part).encoded
        with in_float32(device):
            return logits_of(model, held, task=self.task, processor=self._part.processor, device=device)

    def untouched(self, part: str) -> np.ndarray:
        """Answers of the untouched model; to be asked while it still is as it was read."""
        return self.answers(self._opening.pretrained.model, part)

    def score(self, answers: np.ndarray, part: str) -> dict[str, float]:
        """`loss`, `perplexity` and `token_accuracy`."""
        return self.task.score(answers, self._part(part).targets, ())

    def forgetting(self, first: np.ndarray, last: np.ndarray, part: str) -> Interval:
        """Loss of `last` minus that of `first`: above 0 is lost."""
        targets, seed = self._part(part).targets, self._opening.seed
        change = self.task.intervals(first, last, targets, (), None, seed=seed)[2]
        assert change is not None
        return turned(change, self.main)

    def batch(self, step: int, count: int) -> Batch:
        """Training texts with their labels, drawn by `step` alone."""
        return self._draws.batch(step, count)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Cross-entropy summed over learned tokens, and their number."""
        return self.task.loss(model, batch)

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Logits [places, vocabulary] of the next token at some places of the batch, evenly spaced."""
        return next_token_logits(model, batch)

    def distance(self, now: Tensor, before: Tensor, temperature: float) -> Tensor:
        """Divergence of the softened next-token distributions, a mean over places."""
        return distance.between_logits(now, before, temperature)
