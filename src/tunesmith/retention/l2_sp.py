"""A pull of every learned value towards where it began.

## Idea

`strength / 2 x sum (w - w0)^2` is added to the loss, over all weights that learn but the head; `w0` are the values
before the first step. It is weight decay towards the pretrained model instead of towards zero. Statistics of BatchNorm
are no weights and are left alone. For an adapter `w0` is its fresh state, in which most of them change nothing (LoRA's
product, IA3's ones); a prefix or prompt is only held near its random start, which holds little.

## Fits

Every method that lets more than the head learn.

## Cost

A copy of what learns and a few passes over it a step: next to nothing. No old data.

## When to choose it

When no old data may be kept. It holds all directions alike, so it gives up more of the new than `replay` for the same
gain, and wants its `strength` to be tried: ten times more or less matters. `train.weight_decay: 0` takes the other pull
away, as the paper does.

## Source

Li, Grandvalet and Davoine 2018, Explicit Inductive Bias for Transfer Learning with Convolutional Networks, arXiv
1802.01483, eq. 2 (the head, which has no start, is left to the usual weight decay here). They look for the strength by
cross-validation, with SGD; the default is a starting value, not measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from tunesmith.retention.base import Held, Penalty, Retention

if TYPE_CHECKING:
    from torch import Tensor, nn


class L2SP(Retention):
    """A pull towards the start."""

    strength: float = Field(0.1, gt=0, le=1e6, description="how strong the pull is")

    def penalty(self, held: Held) -> Penalty:
        """Half the strength times the squared distance from the start, a part a tensor."""
        from tunesmith.retention._anchored import anchored, weights

        learned = weights(held)

        def parts(model: nn.Module, step: int) -> Iterator[Tensor]:
            for name, tensor in learned.items():
                if tensor.requires_grad:  # a method may let the head learn alone at first
                    yield anchored(tensor, held.start[name], self.strength)

        return parts
