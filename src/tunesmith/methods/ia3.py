"""Learned scales on keys, values and feed-forward activations: the smallest adapter, some thousand numbers.

## Idea

Three vectors a block, starting at one, stretch or mute what flows: `softmax(Q (l_k * K)') (l_v * V)` and `W_down
(l_ff * act(W_up x))`. Where a model computes query, key and value in one layer (GPT-2, ModernBERT), its whole
output is scaled. On a conv net each convolution's output channels are: `y_c = l_c (W * x)_c`. The head learns beside
them.

## Fits

Every text model and vision transformer, and every conv net, depthwise and grouped convolutions included.

## Cost

A few numbers for each unit: about 0.05 % of the weights, and a file of some ten kilobytes besides the head. Merging
leaves no cost at prediction.

## When to choose it

With few examples, or when very many adapters are kept. It wants a high rate, and falls behind LoRA when data are
many.

## Source

Liu et al. 2022, Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning,
arXiv 2205.05638 (rate 3e-3 there).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

from tunesmith.errors import ModelError
from tunesmith.methods import _peft
from tunesmith.methods._targets import SPARSE_CONVS, WHOLE_CONVS, convs_of, layers_of
from tunesmith.methods.base import Method, reads_pictures
from tunesmith.types import Layer, Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


class IA3(Method):
    """Infused adapter by inhibiting and amplifying inner activations."""

    learning_rate: ClassVar[float] = 1e-2
    learning_rate_source: ClassVar[str] = "0.975 on BBC news in 2 passes (docs/experiments.md)"
    beside_few_bits: ClassVar[bool] = True
    language_learning_rate: ClassVar[float | None] = 1e-2
    language_learning_rate_source: ClassVar[str] = (
        "held-out loss on identity rows from 2.92 to 2.04 (docs/experiments.md)"
    )

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Put the scales in. ModelError if keys and values or the feed-forward output cannot be told, and on a model
        of pictures if neither they nor convolutions are there."""
        from peft import IA3Config

        scaled, down = _layers(pretrained)
        config = IA3Config(
            target_modules=[layer.name for layer in (*scaled, *down)],
            feedforward_modules=[layer.name for layer in down],
        )
        return _peft.wrap(pretrained, config, (*scaled, *down))

    def passed_by(self, model: nn.Module) -> AbstractContextManager[None]:
        """The layers without their scales."""
        return _peft.passed_by(model)

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write peft's format."""
        _peft.write(model, folder, pretrained)

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain copy with the scales inside its weights."""
        return _peft.merged(model)


def _layers(pretrained: Pretrained) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """Layers whose outputs are scaled, and those whose inputs are."""
    anatomy, roles = pretrained.anatomy, ("key", "value", "query_key_value")
    if not reads_pictures(pretrained):
        keys_values = layers_of(anatomy, *roles, wanted="keys and values")
        return keys_values, layers_of(anatomy, "down", wanted="feed-forward output")
    scaled, down = anatomy.of(*roles), anatomy.of("down")
    scaled = scaled or convs_of(anatomy, *WHOLE_CONVS, *SPARSE_CONVS)
    if not scaled and not down:
        raise ModelError(
            f"{type(pretrained.model).__name__} has neither keys and values nor plain convolutions inside its blocks, "
            "which ia3 scales. Methods that work here: full, head."
        )
    return scaled, down
