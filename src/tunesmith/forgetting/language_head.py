"""The language-model head that a pretrained text model brings, apart from its backbone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tunesmith.errors import ModelError
from tunesmith.forgetting.features import inner_model
from tunesmith.models.quiet import quiet
from tunesmith.models.vet import read_config
from tunesmith.types import Pretrained

AT_ONCE = 256
"""Tokens whose logits stand in memory together: 256 x 150,000 words are 150 MiB."""


class _Given(nn.Module):
    """In the backbone's place: hands on states that were made elsewhere."""

    states: Tensor

    def forward(self, *_: Any, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions as Output

        return Output(last_hidden_state=self.states)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class LanguageHead:
    """masked: asked for hidden tokens, else for the next. model: transformers' own, its backbone taken out.
    tied: its last layer where that shares its matrix with the word embeddings."""

    model: nn.Module
    masked: bool
    tied: nn.Module | None

    def losses(self, learning: nn.Module, states: Tensor, wanted: Tensor) -> Tensor:
        """Cross-entropy in nats of each of `wanted` [tokens] by the backbone's states [tokens, hidden]."""
        whole: Any = self.model
        given = getattr(whole, whole.base_model_prefix)
        found = []
        with _sharing(self.tied, learning) if self.tied is not None else nullcontext():
            for start in range(0, len(wanted), AT_ONCE):
                given.states = states[start : start + AT_ONCE].unsqueeze(0)
                logits = whole(input_ids=wanted[None, start : start + AT_ONCE]).logits[0].float()
                found.append(functional.cross_entropy(logits, wanted[start : start + AT_ONCE], reduction="none"))
        return torch.cat(found) if found else states.new_zeros(0)


@contextmanager
def _sharing(last: Any, learning: nn.Module) -> Iterator[None]:
    """While the block runs, the head's last matrix is the word embeddings of the model that learns."""
    inner: Any = inner_model(learning)
    before = last.weight
    last.weight = inner.get_input_embeddings().weight
    try:
        yield
    finally:
        last.weight = before


def read_language_head(pretrained: Pretrained, whose: str) -> LanguageHead:
    """The head out of the pretrained files. ModelError where the model's kind has none or the files do not hold it."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM
    from transformers.models.auto import modeling_auto

    folder = Path(pretrained.source.path)
    kind = str(read_config(folder).get("model_type"))
    hides = getattr(pretrained.processor, "mask_token_id", None) is not None
    masked = hides and kind in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if not masked and kind not in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"{whose}: transformers has no language-model head for a {kind}. Use auto instead.")
    reader: Any = AutoModelForMaskedLM if masked else AutoModelForCausalLM
    with quiet(), torch.random.fork_rng(devices=[]):
        model, info = reader.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    drawn = sorted(
        str(name) for name in info["missing_keys"] if not str(name).startswith(f"{model.base_model_prefix}.")
    )
    if drawn:
        raise ModelError(
            f"{whose}: the files of {pretrained.source.name} hold no language-model head ({drawn[0]} is not in them), "
            "so its loss on text would be that of random weights. Use auto instead, or a model that was saved with it."
        )
    last = model.get_output_embeddings()
    tied = last if last is not None and last.weight is model.get_input_embeddings().weight else None
    setattr(model, model.base_model_prefix, _Given())
    return LanguageHead(model.eval().requires_grad_(False), masked, tied)
