"""The last few blocks and the head learn: full tuning of the top of the network only.

## Idea

The lower blocks hold general knowledge of language and stay; the top `blocks` blocks, the norm behind them where
the model has one, and the head learn as in full tuning. In a model whose blocks share their weights (ALBERT) the
one shared block is the last block, so all of it learns. In a conv net a block is a residual block (`layer4.1`), and
a last convolution behind them (EfficientNet's `conv_head`) is one more. `statistics` of BatchNorm is as in `full`.

## Fits

Every model that is built of blocks (of torchvision's detectors all but `ssd300_vgg16`). A language model's output layer
stays.

## Cost

Gradients stop at the lowest learning block, so with 2 of 12 blocks a step costs a little more than a forward pass
and memory falls alike. What is kept is a whole model, as with full tuning.

## When to choose it

When full tuning is too slow or overfits and the task is near to the pretraining; it trains several times faster than
full tuning and often comes close to it.

## Source

Yosinski et al. 2014, arXiv 1411.1792; Lee, Tang and Lin 2019, What Would Elsa Do? Freezing Layers During Transformer
Fine-Tuning, arXiv 1911.03090 (a quarter of the blocks reaches 90 % of the gain).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tunesmith.errors import ModelError
from tunesmith.methods.base import Method, Statistics, freeze_all_but, settle_statistics
from tunesmith.types import Anatomy, Pretrained

if TYPE_CHECKING:
    from torch import nn


class LastBlocks(Method):
    """Full tuning of the last blocks and the head."""

    learning_rate: ClassVar[float] = 3e-4
    learning_rate_source: ClassVar[str] = "starting value; above full tuning's, since less can be distorted"
    head_learning_rate: ClassVar[float] = 3e-4
    language_learning_rate: ClassVar[float | None] = 1e-4
    language_learning_rate_source: ClassVar[str] = "starting value; twice full tuning's"
    vision_head_learning_rate: ClassVar[float | None] = 2e-3
    adapter: ClassVar[bool] = False

    blocks: int = Field(2, ge=1, le=1000, description="how many of the last blocks learn")
    statistics: Statistics = Field("auto", description="of BatchNorm: frozen, moving, or auto, see above")

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Freeze everything below the last blocks. ModelError if the model has fewer blocks, or none."""
        anatomy = pretrained.anatomy
        if not anatomy.blocks:
            raise ModelError(
                f"{type(pretrained.model).__name__} is one row of layers without blocks, so last_blocks would train "
                "its head alone. Methods that work here: full, bitfit, head."
            )
        if self.blocks > len(anatomy.blocks) > 1:
            raise ModelError(
                f"method.blocks is {self.blocks}, but this model has {len(anatomy.blocks)} blocks. "
                f"Write a number from 1 to {len(anatomy.blocks)}, or use method: full."
            )
        settle_statistics(pretrained, self.statistics)
        last = anatomy.blocks[-self.blocks :]  # a single block's weights are shared by all depths
        freeze_all_but(pretrained.model, (*last, *_final_norms(anatomy), *anatomy.head))
        return pretrained.model


def _final_norms(anatomy: Anatomy) -> tuple[str, ...]:
    """Norms that follow the last block. One behind an embedding that itself stands behind the blocks normalises that
    embedding (DeBERTa's relative positions, which every block reads) and is none of them.
    """
    final: list[str] = []
    for layer in reversed(anatomy.layers):
        inside_head = any(layer.name.startswith(h + ".") for h in anatomy.head)
        if layer.block >= 0:
            break
        if layer.kind == "embedding":
            final.clear()
        elif layer.kind == "norm" and not inside_head:
            final.append(layer.name)
    return tuple(final)
