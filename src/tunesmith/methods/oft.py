"""Rotations of a layer's inputs: angles between neurons stay, which guards what the model knows.

## Idea

Each frozen layer reads its input through a block-diagonal orthogonal matrix: `y = W R x`. Each block of `R` follows
from a skew-symmetric matrix `Q` by the Cayley transform, `R = (I + Q)(I - Q)^-1`, computed as its Neumann series of
five terms; `Q` starts at zero, so `R` starts as the identity. The head learns beside it.

## Fits

Text models and vision transformers, and conv nets by their convolutions of 1 x 1 (`pointwise`): in EfficientNet,
MobileNet nearly all, in a ResNet-50 two of three, in a ResNet-18 only those that widen the stream. Larger
convolutions stay, since peft sums overlapping patches there and a fresh rotation would not leave the answers as they
were. A layer with an odd number of inputs is left out of `targets: all`. Not where linear layers read whole maps
(transformers' ConvNeXt, timm's Swin).

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
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith.errors import ModelError
from tunesmith.methods import _peft
from tunesmith.methods._targets import Targets, choose_layers, convs_of
from tunesmith.methods.base import Method, reads_pictures
from tunesmith.types import Anatomy, Layer, PictureForm, Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

_LARGEST_AUTO = 32


class OFT(Method):
    """Orthogonal fine-tuning."""

    learning_rate: ClassVar[float] = 2e-3
    learning_rate_source: ClassVar[str] = "starting value"
    beside_few_bits: ClassVar[bool] = True

    block_size: Annotated[int, Field(ge=2, le=4096)] | Literal["auto"] = Field(
        "auto", description="size of a rotation; auto: the largest up to 32 that divides every layer"
    )
    targets: Targets = Field("all", description="all, attention, mlp, or a list of roles and regular expressions")

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Put the rotations in. ModelError if `block_size` does not divide the inputs of every target layer."""
        from peft import OFTConfig

        from tunesmith.models.quantised import turned
        from tunesmith.models.whole import is_detector

        layers = self._layers(pretrained.anatomy)
        if any(layer.kind == "conv1d" for layer in layers) or turned(pretrained.model):
            raise ModelError(
                f"{type(pretrained.model).__name__} stores its layers' weights turned (Conv1D), which peft's OFT "
                "cannot rotate. Methods that work here: lora, adalora, ia3, vera, adapter."
            )
        config = OFTConfig(r=0, oft_block_size=self._block_size(layers))
        model = _peft.wrap(pretrained, config, layers)
        if reads_pictures(pretrained) and not is_detector(pretrained.model):
            _try_out(model, pretrained.processor)
        return model

    def passed_by(self, model: nn.Module) -> AbstractContextManager[None]:
        """The layers without their rotations."""
        return _peft.passed_by(model)

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write peft's format."""
        _peft.write(model, folder, pretrained)

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain copy with the rotations inside its weights."""
        return _peft.merged(model)

    def _layers(self, anatomy: Anatomy) -> tuple[Layer, ...]:
        """The target layers; of `all`, those whose inputs some block size divides."""
        if convs_of(anatomy, "spatial") and not anatomy.of() and not convs_of(anatomy, "pointwise"):
            raise ModelError(
                "oft rotates linear layers and convolutions of 1 x 1, and this model has only larger ones inside its "
                "blocks. Methods that work here: lora, lokr, loha, ia3, adapter, norm_tuning, full."
            )
        layers = choose_layers(anatomy, self.targets, convs=("pointwise",))
        even = tuple(layer for layer in layers if layer.inputs % 2 == 0)
        return even if self.targets == "all" and even else layers

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


def _try_out(model: nn.Module, form: PictureForm) -> None:
    """One picture. peft takes a linear layer that reads maps [examples, height, width, channels] for a convolution."""
    import torch

    device = next(model.parameters()).device
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(torch.zeros(1, 3, form.height, form.width, device=device))
    except RuntimeError as fault:
        raise ModelError(
            "This model gives its linear layers whole maps [height, width, channels], which peft's OFT takes for "
            "convolutions and fails. Methods that work here: lora, lokr, loha, ia3, adapter, norm_tuning, full."
        ) from fault
