"""Learned keys and values before every layer's own: the network stays, what it attends to changes.

## Idea

Each attention layer sees `length` more keys and values, learned numbers instead of tokens:
`attention(Q, [P_k; K], [P_v; V])`. With `projection`, they come from a small network while training,
`[P_k; P_v] = W2 tanh(W1 e)`, which steadies it; what is written is its result. A classifier's head learns beside it.

With `initialisation: words` the first values are the keys and values that the model itself computes for `length` words,
of `text` or drawn from its vocabulary, behind the token that begins its texts. Random ones disturb a language model so
much that it must first learn to speak again, so `auto` is words there, and random for classifiers.

## Fits

Classifiers of texts and language models that accept past keys and values: BERT, RoBERTa, ELECTRA, GPT-2, Llama do,
DistilBERT, ALBERT, DeBERTa and ModernBERT do not; nor do language models whose layers keep unequal keys or none
(DeepSeek V3, Gemma 4, LFM2, Qwen3.5). Vision transformers that classify pictures: ViT, DeiT and DINOv2 of
transformers and of timm (those with timm's plain `Attention`). Not Swin and BEiT (positions between tokens), EVA
(rotated keys), torchvision's transformers, which compute attention in one piece, conv nets, or detectors.

On pictures the first values are small random numbers, or zero; `projection` and `text` are for texts. No library has a
form for a vision transformer's prefixes: what is written is `prefixes.safetensors` and `prefixes.json` beside
`base_model.json`, which names the model they belong to. `tunesmith predict` and `tunesmith evaluate` read that; a plain
timm or transformers program does not. Choose lora where it must.

## Cost

`2 x length x hidden` numbers a block (with projection many more while training). Attention over `length` more
places in every layer, in training and at prediction; it cannot be merged. The text's positions start behind the
prefix, so the longest text is shorter by `length`.

## When to choose it

When the network must stay untouched and one model serves many tasks side by side. Slower to learn than LoRA: more
passes and a high rate.

## Source

Li and Liang 2021, Prefix-Tuning: Optimizing Continuous Prompts for Generation, arXiv 2101.00190; Liu et al. 2022,
P-Tuning v2 (the same, for classification), arXiv 2110.07602.
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tunesmith.errors import ModelError
from tunesmith.methods import _peft, _prompts
from tunesmith.methods.base import Method, freeze_all_but, is_language_model, reads_pictures
from tunesmith.types import Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

SPREAD = 0.02
"""Deviation of a picture model's first keys and values, that of transformers' new weights."""
_OTHERS = "Methods that work here: lora, ia3, norm_tuning, full, head."


class PrefixTuning(Method):
    """Learned keys and values in every layer."""

    learning_rate: ClassVar[float] = 1e-2
    learning_rate_source: ClassVar[str] = "0.971 on BBC news in 2 passes (docs/experiments.md)"
    beside_few_bits: ClassVar[bool] = True
    language_learning_rate: ClassVar[float | None] = 2e-2
    language_learning_rate_source: ClassVar[str] = "between 1e-2 and 3e-2 on identity answers (docs/experiments.md)"
    vision_learning_rate: ClassVar[float | None] = 1e-2
    vision_learning_rate_source: ClassVar[str] = "starting value; soft prompts take a high rate"
    has_line: ClassVar[bool] = False

    length: int = Field(20, ge=1, le=1000, description="learned keys and values a layer")
    projection: bool = Field(False, description="make them by a small network while training")
    projection_size: Annotated[int, Field(ge=1, le=65_536)] | Literal["auto"] = Field(
        "auto", description="width of that network; auto: the hidden size"
    )
    initialisation: Literal["auto", "random", "zero", "words"] = Field(
        "auto", description="first values; auto: words for a language model without projection, else random"
    )
    text: str | None = Field(None, min_length=1, description="with initialisation: words, those to start from")

    @model_validator(mode="after")
    def _options_are_used(self) -> PrefixTuning:
        if self.projection_size != "auto" and not self.projection:
            raise ValueError("projection_size is only used with projection: true")
        if self.text is not None and self.initialisation != "words":
            raise ValueError("text is only used with initialisation: words")
        if self.initialisation == "words" and self.projection:
            raise ValueError("initialisation: words sets keys and values, which projection: true computes; choose one")
        return self

    def added_tokens(self) -> int:
        """The prefix takes places of the model's longest input."""
        return self.length

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Put the prefix in. ModelError if the model takes no past keys and values, or of a vision transformer's
        attention none before its own."""
        from peft import PrefixTuningConfig

        if reads_pictures(pretrained):
            return self._on_pictures(pretrained)
        model = pretrained.model
        backbone = getattr(model, getattr(model, "base_model_prefix", ""), model)
        if not any("past_key_values" in inspect.signature(m.forward).parameters for m in (model, backbone)):
            raise ModelError(
                f"{type(model).__name__} takes no past keys and values, which prefix_tuning needs. "
                "Methods near to it that work here: prompt_tuning, p_tuning, lora, ia3."
            )
        _prompts.check_room(pretrained, self.length)
        hidden = pretrained.anatomy.hidden_size
        start = self._words(pretrained)
        config = PrefixTuningConfig(
            num_virtual_tokens=self.length,
            prefix_projection=self.projection,
            encoder_hidden_size=hidden if self.projection_size == "auto" else self.projection_size,
            init_weights="zero" if self.initialisation == "zero" else None,
        )
        wrapped = _prompts.wrap_prompt(pretrained, config, method="prefix_tuning")
        if start is not None:
            wrapped.get_parameter(f"prompt_encoder.{_peft.ADAPTER}.embedding.weight").data.copy_(start)
        return wrapped

    def passed_by(self, model: nn.Module) -> AbstractContextManager[None]:
        """The model without what stands before its texts, or its attention without what stands before its keys."""
        from tunesmith.models import visual_prefixes

        return visual_prefixes.passed_by(model) if visual_prefixes.holders(model) else _prompts.passed_by(model)

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write peft's format, the projection worked out; of a picture model the prefixes and the head."""
        if reads_pictures(pretrained):
            from tunesmith.models import visual_prefixes
            from tunesmith.models.vision_files import write_companions

            visual_prefixes.write(folder, model, self.learned(model))
            write_companions(pretrained, folder)
            return
        _peft.write(model, folder, pretrained, changes={"prefix_projection": False, "init_weights": None})

    def merge(self, model: nn.Module) -> nn.Module:
        """A copy with the prefix; ModelError for a picture model, which no library could build with it."""
        from tunesmith.models import visual_prefixes

        if visual_prefixes.holders(model):
            raise ModelError(
                "prefix_tuning cannot be merged: its keys and values are inputs of attention, not weights, and no "
                "plain picture model has them. Deploy the run as it is, or train with lora, ia3 or adapter."
            )
        return super().merge(model)

    def _on_pictures(self, pretrained: Pretrained) -> nn.Module:
        """Keys and values of every attention layer of a vision transformer, and its head."""
        import torch

        from tunesmith.models import visual_prefixes

        model, attention, library = pretrained.model, pretrained.anatomy.attention, pretrained.library
        name = type(model).__name__
        if not attention:
            raise ModelError(
                f"prefix_tuning puts keys and values before those of a vision transformer that classifies, and {name} "
                f"is none. {_OTHERS}"
            )
        if self.projection or self.initialisation == "words":
            given = "projection: true" if self.projection else "initialisation: words"
            raise ModelError(f"method.{given} is for texts, and {name} reads pictures. Leave it out, or use lora.")
        try:
            heads, size = visual_prefixes.shape_of(model, attention, library)
            device = next(model.parameters()).device
            spread = 0.0 if self.initialisation == "zero" else SPREAD
            prefixes = [torch.randn(2, heads, self.length, size, device=device) * spread for _ in attention]
            freeze_all_but(model, pretrained.anatomy.head)
            visual_prefixes.put_in(model, attention, library, prefixes)
            _prompts.try_on_picture(pretrained, "prefix", "learned keys and values")
        except torch.OutOfMemoryError:
            raise
        except (TypeError, ValueError, RuntimeError, AssertionError, IndexError) as fault:
            raise ModelError(
                f"{name} cannot use prefix_tuning: {' '.join(str(fault).split())[:200]}. {_OTHERS}"
            ) from fault
        return model

    def _words(self, pretrained: Pretrained) -> Tensor | None:
        """First values from words, [length, keys and values of all blocks]; None where they are drawn or zero."""
        language = is_language_model(pretrained)
        if self.initialisation == "words" and not language:
            raise ModelError(
                f"initialisation: words needs the keys and values that a language model keeps of its words, and "
                f"{type(pretrained.model).__name__} is none. Use initialisation: random; lora and ia3 need no start."
            )
        if self.initialisation != "words" and (self.initialisation != "auto" or self.projection or not language):
            return None
        return _prompts.kept_of_words(pretrained, self.length, self.text)
