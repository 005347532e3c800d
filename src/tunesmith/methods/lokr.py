"""Kronecker products beside frozen layers: LoRA's idea with a much smaller file.

## Idea

A frozen weight `W` [outputs, inputs] gets the Kronecker product of a small matrix and a low-rank one:
`y = W x + s (C (x) (B A)) x` with `C` [p, q], `B A` [outputs / p, inputs / q] of rank `r`, scale `s = alpha / r`.
`C` starts at zero, so the untouched model answers first. A convolution's kernel belongs to the second factor. Where
`r` is not below half the second factor's size, that factor is learned whole. The head learns beside it.

## Fits

Text models (not GPT-2, which stores its weights turned), vision transformers and conv nets; `targets` may also name
`depthwise` and `grouped` convolutions, which LoRA cannot change.

## Cost

About `p q + r (outputs / p + inputs / q)` numbers a layer, a fraction of LoRA's at the same rank. Each step builds the
whole product, so it is slower than LoRA. Merging leaves no cost at prediction.

## When to choose it

When the file must be small and the rank high: a Kronecker product has full rank for few numbers. For depthwise
convolutions.

## Source

Yeh et al. 2024, Navigating Text-To-Image Customization: From LyCORIS Fine-Tuning to Model Evaluation, arXiv
2309.14859; Edalati et al. 2022, KronA, arXiv 2212.10650.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith.methods import _peft
from tunesmith.methods._targets import SPARSE_CONVS, WHOLE_CONVS, Targets, choose_layers, refuse_turned
from tunesmith.methods.base import Method
from tunesmith.types import Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn


class LoKr(Method):
    """Low-rank Kronecker product adaptation."""

    learning_rate: ClassVar[float] = 4e-3
    learning_rate_source: ClassVar[str] = "starting value, above LoRA's since the first factor is tiny and starts at 0"

    rank: int = Field(8, ge=1, le=1024, description="rank r of the second factor")
    alpha: Annotated[float, Field(gt=0, le=4096)] | Literal["auto"] = Field(
        "auto", description="scale times rank; auto: rank, so that the scale is 1"
    )
    factor: int = Field(8, ge=2, le=1024, description="most rows and columns of the first factor")
    targets: Targets = Field("all", description="all, attention, mlp, or a list of roles and regular expressions")

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Put the products in. ModelError if a target fits no layer."""
        from peft import LoKrConfig

        layers = choose_layers(pretrained.anatomy, self.targets, convs=(*WHOLE_CONVS, *SPARSE_CONVS))
        refuse_turned(layers, "lokr")
        alpha = self.rank if self.alpha == "auto" else self.alpha
        config = LoKrConfig(r=self.rank, alpha=alpha, decompose_factor=self.factor)  # type: ignore[arg-type]
        return _peft.wrap(pretrained, config, layers)

    def passed_by(self, model: nn.Module) -> AbstractContextManager[None]:
        """The layers without their products."""
        return _peft.passed_by(model)

    def takes_share(self, name: str, first: Tensor) -> bool:
        """The first factor, or its own first one, which starts at zero."""
        return ".lokr_w1." in name or ".lokr_w1_a." in name

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write peft's format."""
        _peft.write(model, folder, pretrained)

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain copy with the products inside its weights."""
        return _peft.merged(model)
