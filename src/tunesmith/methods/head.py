"""Only the head learns: the pretrained network is a fixed reader of features.

## Idea

The network `f` stays as it is and the head `h` on top of it learns: `logits = h(f(text))`. The head is everything
with weights between the last block and the logits, so for BERT the pooler as well as the classifier. BatchNorm below
it stays in evaluation mode, so that its statistics do not drift.

A new head over pictures starts from the discriminant of its features where it can (`task.head_start`), and training
goes on from there. Where it starts from random values it takes 1e-2 by default, not the rate below.

## Fits

Every classifier and detector. Not language models, which have no head of their own beside the network.

## Cost

The cheapest of all: no gradient flows into the network, so a step costs little more than a forward pass, and only
the head is learned (a few thousand numbers, plus the pooler's hidden x hidden where there is one).

## When to choose it

As the first baseline, with very few examples, or where the pretrained answers must not move at all. It is far behind
the other methods where the task differs from what the features were made for.

## Source

Yosinski et al. 2014, How transferable are features in deep neural networks?, arXiv 1411.1792; Kumar et al. 2022,
Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, arXiv 2202.10054 (linear probing).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tunesmith.errors import ModelError
from tunesmith.methods.base import Method, freeze_all_but, is_language_model
from tunesmith.types import Pretrained

if TYPE_CHECKING:
    from torch import nn


class Head(Method):
    """Training of the head alone."""

    learning_rate: ClassVar[float] = 2e-3
    learning_rate_source: ClassVar[str] = "0.953 on BBC news in 2 passes (docs/experiments.md)"
    vision_learning_rate: ClassVar[float | None] = 2e-3
    vision_learning_rate_source: ClassVar[str] = "from a discriminant, best of 3e-4 to 5e-3 (docs/experiments.md)"
    drawn_learning_rate: ClassVar[float] = 1e-2
    only_head: ClassVar[bool] = True
    has_line: ClassVar[bool] = False

    def vision_rate(self, *, drawn: bool) -> tuple[float, str]:
        """Higher for a head that starts at random values."""
        if drawn:
            return self.drawn_learning_rate, "drawn, best of 2e-3 to 5e-2 on three sets (docs/experiments.md)"
        return super().vision_rate(drawn=drawn)

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Freeze everything but the head. ModelError for a language model, which has none."""
        if is_language_model(pretrained):
            raise ModelError(
                f"{type(pretrained.model).__name__} goes on with texts by its own words, so there is no new head that "
                "could learn alone. Methods that change little of it: lora, ia3, norm_tuning, last_blocks, "
                "prompt_tuning."
            )
        freeze_all_but(pretrained.model, pretrained.anatomy.head)
        return pretrained.model
