"""A bottleneck beside feed-forward parts or convolutions: LoRA's size, and it merges into a plain model.

## Idea

In a transformer a small network with the block's own activation runs beside each feed-forward part and is added to its
output: `y = FFN(x) + s U act(D x + c)` with `D` [size, hidden] and `U` [hidden, size]. `U` starts at zero, so the
untouched model answers first. This is exactly a feed-forward part with `size` more units: `D` and `c` are more rows of
its first matrix, `s U` more columns of its second. In a gated part (Llama, ModernBERT) the bottleneck is gated alike.

In a conv net a residual adapter runs beside each convolution of the blocks: `y = W * x + s U D x` with `D` and `U`
convolutions of 1 x 1 and the layer's own stride; beside a depthwise convolution `y = W * x + s g x` with one number
`g` a channel. `U` and `g` start at zero. There is no activation between, so the adapter is a part of the kernel, its
middle. The head learns beside it in both.

## Fits

Text models and vision transformers whose library can build them with wider feed-forward parts (transformers' ViT,
DeiT and BEiT, timm's ViT; DINOv2 of transformers where `size` is a multiple of its width), and conv nets: every
`spatial` and `pointwise` convolution with a middle, and depthwise ones, inside the blocks. Not Swin, whose stages
differ in width, nor torchvision's transformers, which are built with one width.

## Cost

`2 x size x hidden` numbers a block (3 where gated). What is written is a whole plain transformers or timm model with
its feed-forward width raised by `size`, so at prediction it costs as much as those units do, 2 to 4 %. On a conv net
`size x (inputs + outputs)` numbers a layer; what is written is a whole plain model of the old shape, at no cost.

## When to choose it

When LoRA is not enough: the bend lets it learn what no change of the matrices can. In the source's comparison the
best single method for its size. Choose LoRA when the delivered adapter must be small.

## Source

He et al. 2022, Towards a Unified View of Parameter-Efficient Transfer Learning, arXiv 2110.04366 (scaled parallel
adapter, s = 4); Houlsby et al. 2019, arXiv 1902.00751; for conv nets Rebuffi, Bilen and Vedaldi 2018, Efficient
Parametrization of Multi-Domain Deep Neural Networks, arXiv 1803.10082 (parallel residual adapters). Departures: the
activation is the block's own and `U` has no bias, so that it merges exactly; on conv nets the 1 x 1 is of low rank.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from tunesmith.errors import ModelError
from tunesmith.methods.base import Method, freeze_all_but, reads_pictures
from tunesmith.types import Anatomy, Layer, Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

_SHAPES = (["down", "up"], ["down", "gate", "up"], ["down", "gate_up"])


class Adapter(Method):
    """Parallel bottleneck adapter."""

    learning_rate: ClassVar[float] = 1e-3
    learning_rate_source: ClassVar[str] = "starting value, above the paper's since the models are smaller"
    vision_learning_rate: ClassVar[float | None] = 2e-4
    vision_learning_rate_source: ClassVar[str] = "0.688 on 280 clothing pictures in 4 passes (docs/experiments.md)"
    language_learning_rate: ClassVar[float | None] = 2e-3
    language_learning_rate_source: ClassVar[str] = "1e-3 still fell after 24 steps (docs/experiments.md)"

    size: int = Field(64, ge=1, le=65_536, description="units of the bottleneck; on a conv net at most the channels")
    scale: float = Field(4.0, gt=0, le=100, description="factor s of its output")

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Put the learned units in. ModelError if the feed-forward parts cannot be told or widened, or there is no
        convolution that an adapter can stand beside.
        """
        from tunesmith.methods import _wider

        model, anatomy = pretrained.model, pretrained.anatomy
        if reads_pictures(pretrained) and not anatomy.attention:
            return self._beside_convolutions(pretrained)
        layers = _feed_forward(anatomy, type(model).__name__)
        if _wider.builder(model, layers, self.size) is None:
            raise ModelError(
                f"{type(model).__name__} cannot be built with a feed-forward part wider by {self.size}, which adapter "
                "writes. Methods that work here: lora, ia3, oft, full."
            )
        _wider.widen(model, layers, self.size, self.scale)
        freeze_all_but(model, anatomy.head)
        for parameter in _wider.added_parameters(model):
            parameter.requires_grad_(True)
        return model

    def passed_by(self, model: nn.Module) -> AbstractContextManager[None]:
        """The layers without learned units beside them."""
        from tunesmith.methods import _parallel, _wider
        from tunesmith.models.stand_in import attribute

        return attribute([*_wider.wider_modules(model), *_parallel.parts(model)], "off", True)

    def takes_share(self, name: str, first: Tensor) -> bool:
        """U and g, which start at zero: what the learned units make is added by that share."""
        return name.endswith((".added", ".up")) and not bool(first.any())

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write a plain model: wider feed-forward parts, or kernels with the adapter inside."""
        super().save(self.merge(model), folder, pretrained)

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain copy, wider where it is a transformer."""
        from tunesmith.methods import _parallel, _wider

        layers = _wider.widened_layers(model)
        if not layers:
            return _parallel.merged(model)
        return _wider.plain(model, layers, self.size)

    def _beside_convolutions(self, pretrained: Pretrained) -> nn.Module:
        from tunesmith.methods import _parallel

        model, anatomy = pretrained.model, pretrained.anatomy
        layers = [x for x in anatomy.layers if x.block >= 0 and _parallel.can_stand_beside(model, x)]
        if not layers:
            raise ModelError(
                f"{type(model).__name__} has no plain convolution with a middle inside its blocks, which adapter "
                "needs. Methods that work here: full, head."
            )
        freeze_all_but(model, anatomy.head)
        _parallel.stand_beside(model, layers, self.size, self.scale)
        for parameter in _parallel.learned_parts(model):
            parameter.requires_grad_(True)
        return model


def _feed_forward(anatomy: Anatomy, kind: str) -> tuple[Layer, ...]:
    """Every layer of the feed-forward parts. ModelError unless each block has the same ones, up and down again."""
    layers = anatomy.of("up", "gate", "gate_up", "down")
    roles = [sorted(layer.role for layer in layers if layer.block == block) for block in range(len(anatomy.blocks))]
    if roles[0] not in _SHAPES or any(found != roles[0] for found in roles):
        raise ModelError(
            f"{kind} has no feed-forward part of one matrix up and one down in every block, which adapter widens. "
            "Methods that work here: lora, ia3, bitfit, full."
        )
    return layers
