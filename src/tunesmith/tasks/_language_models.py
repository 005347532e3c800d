"""How tasks on language models find one, write what stands beside its weights, and know how much it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError
from tunesmith.types import ModelSource, Pretrained

if TYPE_CHECKING:
    from pathlib import Path


def find_model(name: str, *, revision: str | None, weights: str | None, pretrained: bool) -> ModelSource:
    """A transformers language model or a GGUF file; it brings its own weights."""
    from tunesmith.models.causal import find_causal

    if weights is not None or not pretrained:
        key = "model.weights" if weights is not None else "model.pretrained: false"
        raise ModelError(f"{key} is for models of pictures; a language model starts from the weights in its files.")
    return find_causal(name, revision)


def write_companions(pretrained: Pretrained, folder: Path) -> None:
    """Configuration (an adapter brings none), how to generate, and the tokenizer with its chat template.

    How to generate names every token that ends an answer: a template's own often is none of those that the pretrained
    model's files name, and a plain program would write on behind it.
    """
    import copy

    from transformers import GenerationConfig

    from tunesmith.models.chat_tokens import end_ids

    model: Any = pretrained.model
    if not (folder / "config.json").exists():
        model.config.save_pretrained(folder)
    own = getattr(model, "generation_config", None) or GenerationConfig.from_model_config(model.config)
    ways = copy.deepcopy(own)
    ways.eos_token_id = list(end_ids(pretrained.processor, model.config, own))
    try:
        ways.save_pretrained(folder)
    except ValueError:  # a temperature without do_sample, as old files have it: read with a warning, and not written
        ways.to_json_file(folder / "generation_config.json")
    pretrained.processor.save_pretrained(folder)


def longest_input(pretrained: Pretrained) -> int | None:
    """What tokenizer and positions allow, in tokens; None where nothing limits them."""
    from tunesmith.models.lengths import position_limit

    model: Any = pretrained.model
    limits = [position_limit(model), getattr(model.config, "max_position_embeddings", None)]
    return min((n for n in limits if n is not None), default=None)
