"""Learned prompts in the upper layers behind a gate that starts shut: a language model learns from where it is.

## Idea

Each of the upper `layers` attention layers also attends to `length` learned embeddings, by a softmax of their own, and
a gate `g` that starts at zero lets the result in: `y = attention(x) + W_o g softmax(Q (W_k P)' / sqrt(d)) W_v P`. So
the untouched model answers first, and no random prompt disturbs it while the gate opens.

## Fits

Language models of the Llama and Mistral families whose heads together are as wide as the model (SmolLM2, TinyLlama,
Llama 2 and 3, Mistral 7B), for tasks that go on with texts. Not classifiers.

## Cost

`length x hidden` numbers a layer, and its queries computed a second time. It cannot be merged, since its values depend
on the queries; unlike prefix and prompt tuning it takes no place of the model's longest input.

## When to choose it

When the network must stay untouched, as with prefix tuning, and a start that cannot disturb it is wanted; one number,
the gate, fades it in and out. LoRA learns more for its cost.

## Source

Zhang et al. 2023, LLaMA-Adapter: Efficient Fine-tuning of Language Models with Zero-init Attention, arXiv 2303.16199
(the upper 30 of 32 layers, length 10, rate 9e-3). Departure, peft's: one gate a layer, not one a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunesmith.errors import ModelError
from tunesmith.methods import _peft
from tunesmith.methods.base import Method, is_language_model
from tunesmith.types import Pretrained

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

_FAMILIES = ("llama", "mistral")
_OTHERS = "Methods near to it that work here: prefix_tuning, prompt_tuning, lora, ia3."


class LlamaAdapter(Method):
    """Zero-init attention to learned prompts."""

    learning_rate: ClassVar[float] = 1e-2
    learning_rate_source: ClassVar[str] = "near the paper's 9e-3"
    beside_few_bits: ClassVar[bool] = True

    length: int = Field(10, ge=1, le=1000, description="learned prompts a layer")
    layers: Annotated[int, Field(ge=1, le=1000)] | Literal["auto"] = Field(
        "auto", description="how many of the upper layers get them; auto: all but the lowest two"
    )

    def prepare(self, pretrained: Pretrained) -> nn.Module:
        """Put prompts and gates in. ModelError unless it is a language model of a family that peft knows how to read,
        or if it has fewer layers."""
        from peft import AdaptionPromptConfig

        self._check(pretrained)
        depth = len(pretrained.anatomy.blocks)
        layers = self.layers if self.layers != "auto" else max(1, depth - 2)
        if layers > depth:
            raise ModelError(f"method.layers is {layers}, but this model has {depth}. Write a number up to {depth}.")
        model = _peft.wrap(pretrained, AdaptionPromptConfig(adapter_len=self.length, adapter_layers=layers))
        _try_out(model, pretrained)
        return model

    @contextmanager
    def passed_by(self, model: nn.Module) -> Iterator[None]:
        """The attention layers without prompts."""
        from tunesmith.models.stand_in import attribute

        with ExitStack() as stack:
            for layer in _adapted(model):
                stack.enter_context(attribute([layer], "forward", layer.model))
            yield

    def takes_share(self, name: str, first: Tensor) -> bool:
        """The gate, which starts at zero."""
        return name.endswith("adaption_gate")

    def save(self, model: nn.Module, folder: Path, pretrained: Pretrained) -> None:
        """Write peft's format."""
        _peft.write(model, folder, pretrained)

    def merge(self, model: nn.Module) -> nn.Module:
        """There is no plain model that does the same."""
        raise ModelError(
            "llama_adapter cannot be merged: what it adds depends on the queries, and no plain model has prompts "
            "behind a gate. Deploy the adapter on its base, or train with lora, ia3, oft or adapter, which merge."
        )

    def _check(self, pretrained: Pretrained) -> None:
        name = type(pretrained.model).__name__
        if not is_language_model(pretrained):
            raise ModelError(
                f"llama_adapter is for language models, and {name} is none. Use it with a task that goes on with "
                "texts; for pictures visual_prompt is its like, and lora, ia3, adapter and full work with every model."
            )
        config: Any = pretrained.model.config
        if config.model_type not in _FAMILIES:
            raise ModelError(
                f"llama_adapter is for models of the Llama and Mistral families, and {name} is of {config.model_type}. "
                f"{_OTHERS}"
            )


def _adapted(model: nn.Module) -> list[Any]:
    from peft.tuners.adaption_prompt.layer import AdaptedAttention

    return [module for module in model.modules() if isinstance(module, AdaptedAttention)]


def _try_out(model: nn.Module, pretrained: Pretrained) -> None:
    """Six tokens with the gates open: every learned number must matter. peft takes the width of a head from the
    model's, which some models of these families do not follow.
    """
    import torch

    from tunesmith.models.stand_in import evaluating

    layers = _adapted(model)
    learned = [parameter for layer in layers for parameter in layer.parameters(recurse=False)]
    config: Any = pretrained.model.config
    ids = torch.arange(3, 9, device=learned[0].device).remainder(config.vocab_size).unsqueeze(0)
    name = type(pretrained.model).__name__
    try:
        with evaluating(model), torch.enable_grad():
            for layer in layers:
                layer.adaption_gate.data.fill_(0.5)
            logits: Tensor = model(input_ids=ids).logits
            gradients = torch.autograd.grad(logits.sum(), learned, allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as fault:
        words = " ".join(str(fault).split())[:200]
        raise ModelError(f"{name} cannot use llama_adapter: {words}. {_OTHERS}") from fault
    finally:
        for layer in layers:
            layer.adaption_gate.data.zero_()
    if any(gradient is None or not bool(gradient.any()) for gradient in gradients):
        raise ModelError(f"{name} ignores what llama_adapter puts beside its attention. {_OTHERS}")
