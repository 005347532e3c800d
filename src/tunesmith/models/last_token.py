"""Decoders that classify behind learned tokens: the answer is the last real token's, whatever padding stands behind it.

transformers finds a text's last token by the ids, and a decoder that is given embeddings, as learned tokens make it,
takes the last place even where that is padding. A plain peft program is right for one text at a time; several side by
side need what this module adds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

OFF = "prompts_are_off"
"""Attribute of a backbone whose learned tokens are passed by."""


def pads_safely(model: Any, *, language: bool) -> bool:
    """Whether a peft model's answers stay the same with padding beside them; made so where it is a classifier."""
    ids = torch.arange(3, 9, device=next(model.parameters()).device).remainder(model.config.vocab_size).unsqueeze(0)
    with torch.no_grad():
        safe = _tried(model, ids, language=language)
        if not safe and not language:
            base = model.get_base_model()
            getattr(base, base.base_model_prefix).register_forward_hook(_last_real_token, with_kwargs=True)
            safe = _tried(model, ids, language=language)
    return safe


def answers(model: Any, ids: Tensor, mask: Tensor, *, language: bool) -> Tensor:
    """Logits [texts, classes], or [texts, tokens, vocabulary] of a language model at the texts' own places."""
    logits: Tensor = model(input_ids=ids, attention_mask=mask).logits
    return logits[:, -ids.shape[1] :] if language else logits


def _tried(model: Any, ids: Tensor, *, language: bool) -> bool:
    alone = answers(model, ids, torch.ones_like(ids), language=language)
    pad = model.config.pad_token_id or 0
    padded = torch.nn.functional.pad(ids, (0, 3), value=pad)
    mask = torch.nn.functional.pad(torch.ones_like(ids), (0, 3))
    longer = torch.cat([ids, ids[:, :3]], dim=1)
    masks = torch.cat([mask, torch.ones_like(longer)])
    both = answers(model, torch.cat([padded, longer]), masks, language=language)[:1]
    return torch.allclose(both[:, : ids.shape[1]] if language else both, alone, atol=1e-4, rtol=1e-3)


def _last_real_token(module: nn.Module, _given: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
    mask: Tensor | None = named.get("attention_mask")
    if mask is None or vars(module).get(OFF):
        return output
    hidden = output.last_hidden_state
    last = (mask != 0).long().mul(torch.arange(mask.shape[1], device=mask.device)).argmax(dim=1)
    answer = hidden[torch.arange(len(hidden), device=hidden.device), last]
    output.last_hidden_state = torch.cat([hidden[:, :-1], answer.unsqueeze(1)], dim=1)
    return output
