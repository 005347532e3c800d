"""Shared random matrices with learned scales: LoRA's form at a tenth of its size.

## Idea

All layers share two frozen random matrices `A` [r, inputs] and `B` [outputs, r] (each layer takes the part it
needs) and learn two vectors only: `y = W x + b * (B (d * (A x)))` with `d` [r] and `b` [outputs]. `b` starts at
zero, so the untouched model answers first. The head learns beside it.

## Fits

Text models, vision transformers, and the linear layers of conv nets that have some (ConvNeXt); not a ResNet, whose
blocks hold convolutions alone.

## Cost

`r + outputs` numbers a layer. Steps cost LoRA's of rank `r`, which is high here (256), so they are slower. The
random matrices are written with the adapter, since another machine might draw others. Merging leaves no cost at
prediction.

## When to choose it

When few values shall learn and IA3 is too weak. The file also holds the random matrices, so it may be larger than
LoRA's.

## Source

Kopiczko, Blankevoort and Asano 2024, VeRA: Vector-based Random Matrix Adaptation, arXiv 2310.11454.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tunesmith.methods import _peft
from tunesmith.methods._targets import Targets, choose_layers
from tunesmith.methods.base import Method
from tunesmith.types import Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn


class VeRA(Method):
    """Vector-based random matrix adaptation."""

    learning_rate: ClassVar[float] = 1e-2
    learning_rate_source: ClassVar[str] = "starting value; vectors take a high rate"
    beside_few_bits: ClassVar[bool] = True

    rank: int = Field(256, ge=1, le=4096, description="rank r of the shared random matrices")
    start: float = Field(0.1, gt=0, le=10, description="first value of the vector d")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of the addition's inputs set to 0 in training")
    targets: Targets = Field("all", description="all, attention, mlp, or a list of roles and regular expressions")

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Put the scaled random matrices in, drawn from torch's generator. ModelError if a target fits no layer."""
        import torch
        from peft import VeraConfig

        layers = choose_layers(pretrained.anatomy, self.targets)
        config = VeraConfig(
            r=self.rank,
            d_initial=self.start,
            vera_dropout=self.dropout,
            save_projection=True,
            projection_prng_key=int(torch.randint(2**31, ())),
        )
        model = _peft.wrap(pretrained, config, layers)
        _peft.keep_bfloat16(model)
        return model

    def passed_by(self, model: nn.Module) -> AbstractContextManager[None]:
        """The layers without their additions."""
        return _peft.passed_by(model)

    def takes_share(self, name: str, first: Tensor) -> bool:
        """The vector b, which starts at zero."""
        return ".vera_lambda_b." in name

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write peft's format, the random matrices included."""
        _peft.write(model, folder, pretrained)

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain copy with the additions inside its weights."""
        return _peft.merged(model)
