"""Learned words before the text: the smallest change from outside, the network untouched.

## Idea

`length` learned embeddings stand before the embeddings of the text: `model([p_1 ... p_n; embed(text)])`. They start
as embeddings of random words (`vocabulary`), as random numbers, or as the embeddings of a text that describes the
task (`text`). A classifier's head learns beside them.

## Fits

Classifiers of texts and language models, but for those that look their inputs up by id (Gemma 4); for vision
transformers `visual_prompt` is its like.

## Cost

`length x embedding size` numbers: a file of some kilobytes besides the head. Each text is `length` tokens longer, in
training and at prediction; it cannot be merged.

## When to choose it

When the network must stay untouched and one model serves many tasks in one batch. It wants a very high rate and
more passes than other methods; small models reach less with it. A classifier made of a decoder (GPT-2, Llama) must be
asked one text at a time in a plain peft program, since transformers reads its answer from the last place, padding or
not; so must a language model in plain peft that generates, since texts padded in front lose their places there.

## Source

Lester, Al-Rfou and Constant 2021, The Power of Scale for Parameter-Efficient Prompt Tuning, arXiv 2104.08691
(rate 0.3 with Adafactor there).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from tunesmith.methods import _peft, _prompts
from tunesmith.methods.base import Method
from tunesmith.types import Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


class PromptTuning(Method):
    """Learned embeddings before the text."""

    learning_rate: ClassVar[float] = 5e-2
    learning_rate_source: ClassVar[str] = "0.962 on BBC news in 2 passes, mean of three seeds (docs/experiments.md)"
    beside_few_bits: ClassVar[bool] = True
    language_learning_rate: ClassVar[float | None] = 3e-2
    language_learning_rate_source: ClassVar[str] = (
        "held-out loss on identity rows from 2.92 to 2.17 (docs/experiments.md)"
    )
    has_line: ClassVar[bool] = False

    length: int = Field(20, ge=1, le=1000, description="learned tokens before each text")
    initialisation: Literal["random", "vocabulary", "text"] = Field("vocabulary", description="first values")
    text: str | None = Field(None, min_length=1, description="with initialisation: text, the words to start from")

    @model_validator(mode="after")
    def _text_goes_with_text(self) -> PromptTuning:
        if (self.initialisation == "text") != (self.text is not None):
            raise ValueError("initialisation: text and text: some words go together; give both or neither")
        return self

    def added_tokens(self) -> int:
        """Each text is this much longer."""
        return self.length

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Put the learned tokens in. ModelError if the model cannot be given embeddings."""
        from peft import PromptTuningConfig, PromptTuningInit

        _prompts.refuse_pictures(pretrained, "prompt_tuning")
        _prompts.check_room(pretrained, self.length)
        start = self._start(pretrained) if self.text is not None else None
        sampled = self.initialisation == "vocabulary"
        config = PromptTuningConfig(
            num_virtual_tokens=self.length,
            token_dim=_prompts.word_size(pretrained),
            prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB if sampled else PromptTuningInit.RANDOM,
        )
        model = _prompts.wrap_prompt(pretrained, config, method="prompt_tuning")
        if start is not None:
            model.get_parameter(f"prompt_encoder.{_peft.ADAPTER}.embedding.weight").data.copy_(start)
        return model

    def passed_by(self, model: nn.Module) -> AbstractContextManager[None]:
        """The model without what stands before its texts."""
        return _prompts.passed_by(model)

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write peft's format."""
        _peft.write(model, folder, pretrained)

    def _start(self, pretrained: Pretrained) -> Any:
        """Embeddings of the text's tokens, over again until `length` is full, [length, embedding size]."""
        import torch

        repeated = _prompts.ids_of(pretrained, str(self.text), self.length)
        model: Any = pretrained.model
        words = model.get_input_embeddings().weight
        return words[torch.tensor(repeated, device=words.device)].detach().float().clone()
