"""A bottleneck beside each feed-forward part: LoRA's size with a bend in it, and it merges into a plain, wider model.

## Idea

A small network with the block's own activation runs beside each feed-forward part and is added to its output: `y =
FFN(x) + s U act(D x + c)` with `D` [size, hidden] and `U` [hidden, size]. `U` starts at zero, so the untouched
model answers first. This is exactly a feed-forward part with `size` more units: `D` and `c` are more rows of its
first matrix, `s U` more columns of its second. In a gated part (Llama, ModernBERT) the bottleneck is gated alike.
The head learns beside it.

## Cost

`2 x size x hidden` numbers a block (3 where gated). What is written is a whole plain transformers model with
`intermediate_size` raised by `size`, so at prediction it costs as much as those units do, 2 to 4 %.

## When to choose it

When LoRA is not enough: the bend lets it learn what no change of the matrices can. In the source's comparison the
best single method for its size. Choose LoRA when the delivered adapter must be small.

## Source

He et al. 2022, Towards a Unified View of Parameter-Efficient Transfer Learning, arXiv 2110.04366 (scaled parallel
adapter, s = 4); Houlsby et al. 2019, arXiv 1902.00751. Departure: the activation is the block's own and `U` has no
bias, so that it merges exactly.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from tunesmith.errors import ModelError
from tunesmith.methods.base import Method, freeze_all_but
from tunesmith.types import Anatomy, Layer, Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

_WIDTHS = ("intermediate_size", "hidden_dim", "n_inner", "ffn_dim", "d_ff")
"""What configurations call the width of the feed-forward part; which one applies is tried, not looked up."""

_SHAPES = (["down", "up"], ["down", "gate", "up"], ["down", "gate_up"])


class Adapter(Method):
    """Parallel bottleneck adapter."""

    learning_rate: ClassVar[float] = 1e-3
    learning_rate_source: ClassVar[str] = "starting value, above the paper's since the models are smaller"

    size: int = Field(64, ge=1, le=65_536, description="units of the bottleneck")
    scale: float = Field(4.0, gt=0, le=100, description="factor s of its output")

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Widen each feed-forward part by learned units. ModelError if the model's cannot be told or widened."""
        from tunesmith.methods import _wider

        model, anatomy = pretrained.model, pretrained.anatomy
        layers = _feed_forward(anatomy, type(model).__name__)
        if wider_config(model, layers, self.size) is None:
            raise ModelError(
                f"{type(model).__name__} cannot be built with a wider feed-forward part, which adapter writes. "
                "Methods that work here: lora, ia3, oft, full."
            )
        _wider.widen(model, layers, self.size, self.scale)
        freeze_all_but(model, anatomy.head)
        for parameter in _wider.added_parameters(model):
            parameter.requires_grad_(True)
        return model

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write a plain transformers model with wider feed-forward parts."""
        super().save(self.merge(model), folder, pretrained)

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain, wider copy."""
        import torch

        from tunesmith.methods import _wider

        config = wider_config(model, _wider.widened_layers(model), self.size)
        assert config is not None, "prepare has tried it"
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are overwritten
            plain: nn.Module = type(model)(config)
        plain.load_state_dict(_wider.merged_state(model), strict=True)
        first = next(model.parameters())
        return plain.to(device=first.device, dtype=first.dtype).train(model.training)


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


def wider_config(model: nn.Module, layers: tuple[Layer, ...], size: int) -> Any | None:
    """The model's configuration with `size` more units a block, or None if no field of it changes just those layers."""
    import torch

    width = next(layer.inputs for layer in layers if layer.role == "down")
    old: Any = model.config
    for field in _WIDTHS:
        if getattr(old, field, 0) not in (width, None) or not hasattr(old, field):
            continue
        config = copy.deepcopy(old)
        setattr(config, field, width + size)
        with torch.device("meta"):
            tried: nn.Module = type(model)(config)
        modules = dict(tried.named_modules())
        down = [modules[layer.name].weight for layer in layers if layer.role == "down"]
        if all(width + size in weight.shape for weight in down):
            return config
    return None
