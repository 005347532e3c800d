"""Products of two low-rank matrices, element by element: rank squared for twice LoRA's numbers.

## Idea

A frozen weight `W` [outputs, inputs] gets `y = W x + s ((B1 A1) * (B2 A2)) x`, with `*` the product of elements and
each `B A` of rank `r`; the product has rank up to `r r`. Scale `s = alpha / r`. One of the four matrices starts at
zero, so the untouched model answers first. A convolution is treated as [outputs, inputs x kernel]. The head learns
beside it.

## Fits

Text models (not GPT-2, which stores its weights turned), vision transformers and conv nets; `targets` may also name
`depthwise` and `grouped` convolutions, which LoRA cannot change.

## Cost

`2 r (inputs + outputs)` numbers a layer, and each step builds the whole product: slower than LoRA. Merging leaves no
cost at prediction.

## When to choose it

When LoRA at a low rank is not expressive enough and the file must stay small.

## Source

Hyeon-Woo, Ye-Bin and Oh 2022, FedPara: Low-Rank Hadamard Product for Communication-Efficient Federated Learning, arXiv
2108.06098; Yeh et al. 2024, LyCORIS, arXiv 2309.14859.
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


class LoHa(Method):
    """Low-rank Hadamard product adaptation."""

    learning_rate: ClassVar[float] = 4e-3
    learning_rate_source: ClassVar[str] = "starting value, above LoRA's since each value is a product of four"

    rank: int = Field(8, ge=1, le=1024, description="rank r of each factor")
    alpha: Annotated[float, Field(gt=0, le=4096)] | Literal["auto"] = Field(
        "auto", description="scale times rank; auto: rank, so that the scale is 1"
    )
    targets: Targets = Field("all", description="all, attention, mlp, or a list of roles and regular expressions")

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Put the products in. ModelError if a target fits no layer."""
        from peft import LoHaConfig

        layers = choose_layers(pretrained.anatomy, self.targets, convs=(*WHOLE_CONVS, *SPARSE_CONVS))
        refuse_turned(layers, "loha")
        alpha = self.rank if self.alpha == "auto" else self.alpha
        config = LoHaConfig(r=self.rank, alpha=alpha)  # type: ignore[arg-type]
        return _peft.wrap(pretrained, config, layers)

    def passed_by(self, model: nn.Module) -> AbstractContextManager[None]:
        """The layers without their products."""
        return _peft.passed_by(model)

    def takes_share(self, name: str, first: Tensor) -> bool:
        """The one factor of four that starts at zero."""
        return ".hada_w2_b." in name

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write peft's format."""
        _peft.write(model, folder, pretrained)

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain copy with the products inside its weights."""
        return _peft.merged(model)
