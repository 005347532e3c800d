"""Learned tokens among a picture's patches: a vision transformer stays as it is, what it attends to changes.

## Idea

A vision transformer reads a picture as a row of tokens, one a patch. `length` learned tokens join them: `[x_1 ... x_n;
p_1 ... p_length]`. With `depth: deep` every block gets tokens of its own and forgets those of the block below; with
`shallow` one set goes in before the first block. All are taken off before the head reads. The head learns beside them.

## Fits

Vision transformers whose blocks attend to all tokens at once: ViT, DeiT, DINOv2 of timm, torchvision and transformers.
Not Swin (windows), BEiT and EVA (positions between tokens), nor conv nets and detectors. `prefix_tuning` is near to it.

## Cost

`length x hidden` numbers a block: a file of some hundred kilobytes. Attention over `length` more tokens, in training
and at prediction. It cannot be merged, and no library has a form for it: what is written is
`visual_prompts.safetensors` and `visual_prompts.json` beside `base_model.json`, which names the model they belong to.
`tunesmith predict` and `tunesmith evaluate` read that; a plain timm or transformers program does not. Choose lora where
it must.

## When to choose it

When one frozen model serves many tasks side by side. In the source better than full tuning on 20 of 24 tasks with few
examples; it wants a high rate and more passes than LoRA.

## Source

Jia et al. 2022, Visual Prompt Tuning, arXiv 2203.12119. Departure: the tokens stand behind the patches, not before
them, which changes nothing where attention has no order.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from tunesmith.errors import ModelError
from tunesmith.methods._prompts import try_on_picture
from tunesmith.methods.base import Method, freeze_all_but, reads_pictures
from tunesmith.types import Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

_OTHERS = "Methods that work here: lora, ia3, norm_tuning, full, head."


class VisualPrompt(Method):
    """Visual prompt tuning."""

    learning_rate: ClassVar[float] = 1e-2
    learning_rate_source: ClassVar[str] = "starting value; soft prompts take a high rate"
    has_line: ClassVar[bool] = False

    length: int = Field(10, ge=1, le=1000, description="learned tokens a block")
    depth: Literal["deep", "shallow"] = Field("deep", description="tokens in every block, or before the first only")

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Put the tokens in. ModelError unless the model reads pictures as one row of tokens."""
        import torch

        from tunesmith.models.visual_prompts import put_in

        model, anatomy = pretrained.model, pretrained.anatomy
        self._check(pretrained)
        freeze_all_but(model, anatomy.head)
        count = len(anatomy.blocks) if self.depth == "deep" else 1
        put_in(model, anatomy.blocks, [self._drawn(pretrained) for _ in range(count)])
        try:
            try_on_picture(pretrained, "prompt", "learned tokens")
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, RuntimeError, AssertionError, IndexError) as fault:
            words = " ".join(str(fault).split())[:200]
            raise ModelError(f"{type(model).__name__} cannot take more tokens ({words}). {_OTHERS}") from fault
        return model

    def passed_by(self, model: nn.Module) -> AbstractContextManager[None]:
        """The blocks without learned tokens."""
        from tunesmith.models.visual_prompts import passed_by

        return passed_by(model)

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write the learned tokens and the head, and what model they belong to."""
        from tunesmith.models import visual_prompts
        from tunesmith.models.vision_files import write_companions

        visual_prompts.write(folder, self.learned(model), length=self.length, deep=self.depth == "deep")
        write_companions(pretrained, folder)

    def merge(self, model: nn.Module) -> nn.Module:
        """There is no plain model that does the same."""
        raise ModelError(
            "visual_prompt cannot be merged: its tokens are inputs, not weights, and no plain model has them. Deploy "
            "the run as it is, or train with lora, ia3 or adapter, which merge."
        )

    def _check(self, pretrained: Pretrained) -> None:
        name = type(pretrained.model).__name__
        if not reads_pictures(pretrained):
            raise ModelError(f"visual_prompt is for pictures, and {name} reads texts: use prompt_tuning, or lora.")
        if not pretrained.anatomy.attention:
            raise ModelError(f"visual_prompt joins a vision transformer's tokens, and {name} has none. {_OTHERS}")

    def _drawn(self, pretrained: Pretrained) -> Tensor:
        """First values [length, hidden], uniform within sqrt(6 / (3 patch^2 + hidden)) as in the source."""
        import torch

        hidden = _width(pretrained)
        stem = next((x for x in pretrained.anatomy.layers if x.role == "stem"), None)
        patch = math.prod(stem.kernel) if stem is not None else 256
        bound = math.sqrt(6 / (3 * patch + hidden))
        device = next(pretrained.model.parameters()).device
        return torch.empty(self.length, hidden, device=device).uniform_(-bound, bound)


def _width(pretrained: Pretrained) -> int:
    """Numbers a token, by the first block's first norm or linear layer."""
    for layer in pretrained.anatomy.layers:
        if layer.block == 0 and layer.kind in ("norm", "linear"):
            return layer.inputs
    raise ModelError(f"{type(pretrained.model).__name__} does not tell how wide its tokens are. {_OTHERS}")
