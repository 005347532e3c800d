"""Learned words made by a small network: prompt tuning that learns sooner.

## Idea

As prompt tuning, but the learned embeddings pass through a small network before they stand in front of the text:
`model([g(e_1 ... e_n); embed(text)])`, with `g` three linear layers (`mlp`) or a two-layer bidirectional LSTM and
two linear layers (`lstm`). The network is needed while training only; what is written is its result. The head
learns beside it.

## Fits

Classifiers of texts and language models; for vision transformers `visual_prompt` is its like.

## Cost

Some hundred thousand numbers while training, as few as prompt tuning afterwards. Each text is `length` tokens
longer; it cannot be merged.

## When to choose it

When prompt tuning is wanted but learns too slowly. In a plain peft program, classifiers made of decoders and language
models that generate are asked one text at a time, for the reasons that prompt_tuning names.

## Source

Liu et al. 2021, GPT Understands, Too, arXiv 2103.10385.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith.methods import _peft, _prompts
from tunesmith.methods.base import Method
from tunesmith.types import Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


class PTuning(Method):
    """Learned embeddings through a prompt encoder."""

    learning_rate: ClassVar[float] = 1e-2
    learning_rate_source: ClassVar[str] = "0.973 on BBC news in 2 passes (docs/experiments.md)"
    beside_few_bits: ClassVar[bool] = True
    language_learning_rate: ClassVar[float | None] = 3e-3
    language_learning_rate_source: ClassVar[str] = (
        "held-out loss on identity rows from 2.92 to 2.52 (docs/experiments.md)"
    )
    has_line: ClassVar[bool] = False

    length: int = Field(20, ge=1, le=1000, description="learned tokens before each text")
    encoder: Literal["mlp", "lstm"] = Field("mlp", description="the network that makes them")
    encoder_size: Annotated[int, Field(ge=1, le=65_536)] | Literal["auto"] = Field(
        "auto", description="width of that network; auto: the size of a word embedding"
    )

    def added_tokens(self) -> int:
        """Each text is this much longer."""
        return self.length

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Put the prompt encoder in. ModelError if the model cannot be given embeddings."""
        from peft import PromptEncoderConfig

        _prompts.refuse_pictures(pretrained, "p_tuning")
        _prompts.check_room(pretrained, self.length)
        size = _prompts.word_size(pretrained)
        config = PromptEncoderConfig(
            num_virtual_tokens=self.length,
            token_dim=size,
            encoder_reparameterization_type=self.encoder.upper(),
            encoder_hidden_size=size if self.encoder_size == "auto" else self.encoder_size,
            encoder_dropout=0.0,
        )
        return _prompts.wrap_prompt(pretrained, config, method="p_tuning")

    def passed_by(self, model: nn.Module) -> AbstractContextManager[None]:
        """The model without what stands before its texts."""
        return _prompts.passed_by(model)

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write peft's format, the prompt encoder worked out."""
        _peft.write(model, folder, pretrained)
