"""Every weight learns: the strongest and the most expensive way.

## Idea

All parameters of the pretrained network and its head follow the gradient of the task's loss:
`W <- W - learning_rate * step(dL/dW)`. Nothing is added, nothing is frozen.

BatchNorm also keeps moving statistics, which are no weights. With `statistics: frozen` it normalises with the
pretrained ones, in training as at prediction; with `moving` by each batch's own, and those kept follow the data and are
saved and delivered with the weights. `auto` is frozen for pretrained models and moving for drawn ones: on two small
sets of pictures frozen is 1 to 10 points better (docs/experiments.md).

## Fits

Every model. In a language model the output layer is one of its weights, and learns with the rest.

## Cost

Gradients and two AdamW moments for every weight: about 16 bytes a parameter in float32, and a whole model to keep
for every task. No method trains slower per step.

## When to choose it

When the data are many (thousands of examples or more), or the texts are far from what the model was pretrained on,
and one model per task is affordable. With few examples it overfits and forgets most; keep the rate low.

## Source

Howard and Ruder 2018, Universal Language Model Fine-tuning for Text Classification, arXiv 1801.06146; Devlin et al.
2019, BERT, arXiv 1810.04805 (rates of 2e-5 to 5e-5 for 110 million parameters, more for smaller models).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tunesmith.methods.base import Method, Statistics, let_all_learn, settle_statistics
from tunesmith.types import Pretrained

if TYPE_CHECKING:
    from torch import nn


class Full(Method):
    """Full fine-tuning."""

    learning_rate: ClassVar[float] = 1e-4
    learning_rate_source: ClassVar[str] = "0.971 on BBC news in 2 passes (docs/experiments.md)"
    head_learning_rate: ClassVar[float] = 1e-4
    vision_learning_rate: ClassVar[float | None] = 3e-4
    vision_learning_rate_source: ClassVar[str] = "0.738 on 280 clothing pictures in 12 passes (docs/experiments.md)"
    language_learning_rate: ClassVar[float | None] = 5e-5
    language_learning_rate_source: ClassVar[str] = "as good as 2e-4 on held-out identity answers (docs/experiments.md)"
    vision_head_learning_rate: ClassVar[float | None] = 2e-3
    adapter: ClassVar[bool] = False

    statistics: Statistics = Field("auto", description="of BatchNorm: frozen, moving, or auto, see above")

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Let everything learn."""
        settle_statistics(pretrained, self.statistics)
        return let_all_learn(pretrained)
