"""Rotations of a layer's inputs: angles between neurons stay, which guards what the model knows.

## Idea

Each frozen layer reads its input through a block-diagonal orthogonal matrix: `y = W R x`. Each block of `R` follows
from a skew-symmetric matrix `Q` by the Cayley transform, `R = (I + Q)(I - Q)^-1`, computed as its Neumann series of
five terms; `Q` starts at zero, so `R` starts as the identity. The head learns beside it.

## Cost

`inputs (block_size - 1) / 2` numbers a layer, and a rotation of every input: slower than LoRA at the same size.
Merging leaves no cost at prediction.

## When to choose it

When the pretrained ability must be kept and LoRA forgets too much. Not for GPT-2, whose layers peft cannot rotate.

## Source

Qiu et al. 2023, Controlling Text-to-Image Diffusion by Orthogonal Finetuning, arXiv 2306.07280; the form that
rotates inputs is Qiu et al. 2025, Orthogonal Finetuning Made Scalable, arXiv 2506.19847.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith.errors import ModelError
from tunesmith.methods import _peft
from tunesmith.methods._targets import Targets, choose_layers
from tunesmith.methods.base import Method
from tunesmith.types import Layer, Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

_LARGEST_AUTO = 32


class OFT(Method):
    """Orthogonal fine-tuning."""

    learning_rate: ClassVar[float] = 2e-3
    learning_rate_source: ClassVar[str] = "starting value"

    block_size: Annotated[int, Field(ge=2, le=4096)] | Literal["auto"] = Field(
        "auto", description="size of a rotation; auto: the largest up to 32 that divides every layer"
    )
    targets: Targets = Field("all", description="all, attention, mlp, or a list of roles and regular expressions")

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Put the rotations in. ModelError if `block_size` does not divide the inputs of every target layer."""
        from peft import OFTConfig

        layers = choose_layers(pretrained.anatomy, self.targets)
        if any(layer.kind != "linear" for layer in layers):
            raise ModelError(
                f"{type(pretrained.model).__name__} stores its layers' weights turned (Conv1D), which peft's OFT "
                "cannot rotate. Methods that work here: lora, adalora, ia3, vera, adapter."
            )
        config = OFTConfig(r=0, oft_block_size=self._block_size(layers))
        return _peft.wrap(pretrained, config, layers)

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write peft's format."""
        _peft.write(model, folder, pretrained)

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain copy with the rotations inside its weights."""
        return _peft.merged(model)

    def _block_size(self, layers: tuple[Layer, ...]) -> int:
        common = math.gcd(*(layer.inputs for layer in layers))
        sizes = [size for size in range(2, common + 1) if common % size == 0]
        if self.block_size == "auto" and sizes:
            return max([size for size in sizes if size <= _LARGEST_AUTO] or sizes[:1])
        if self.block_size not in sizes:
            raise ModelError(
                f"method.block_size is {self.block_size}, which does not divide the inputs of every target layer. "
                f"Sizes that do: {', '.join(map(str, sizes)) or 'none; choose other method.targets'}."
            )
        return int(self.block_size)
