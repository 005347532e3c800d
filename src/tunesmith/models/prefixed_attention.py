"""Attention with learned keys and values before the picture's own, in models of transformers and of timm.

    y = softmax(Q [P_k; K]' / sqrt(size)) [P_v; V]

For transformers it is a function of its attention interface, so that every model that calls it can use it. A module
with a `prefix` [2, heads, length, size] attends to `length` more places; one without, or whose `off` is set, does
just what torch's own attention does, bit for bit. It stands beside `attention.py`, whose dropout and kernels are made
for texts: picture models keep the attention that they come with. For timm it is a module in place of timm's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NAME = "tunesmith_prefix"
_PLAIN = ("sdpa", NAME)


def joined(prefix: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values [examples, heads, tokens, size] behind the prefix's: [examples, heads, length + tokens, size].

    prefix [2, heads, length, size]: the same for every example.
    """
    keys, values = prefix.unsqueeze(1).expand(-1, key.shape[0], -1, -1, -1).unbind(0)
    return torch.cat([keys.to(key.dtype), key], dim=2), torch.cat([values.to(value.dtype), value], dim=2)


class PrefixedAttention(nn.Module):
    """timm's plain `Attention` with a prefix [2, heads, length, size]: [examples, tokens, hidden] in and out."""

    def __init__(self, attention: nn.Module, prefix: Tensor) -> None:
        super().__init__()
        self.attention: Any = attention
        self.prefix = nn.Parameter(prefix)
        self.off = False

    def forward(self, hidden: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """With `off` the frozen layer's own answer. ValueError for a mask, which does not know the learned places."""
        base = self.attention
        if self.off:
            masked = {} if attn_mask is None and not is_causal else {"attn_mask": attn_mask, "is_causal": is_causal}
            return base(hidden, **masked)  # type: ignore[no-any-return]
        if attn_mask is not None or is_causal:
            raise ValueError("its attention takes a mask")
        examples, tokens, _ = hidden.shape
        packed = base.qkv(hidden).reshape(examples, tokens, 3, base.num_heads, base.head_dim).permute(2, 0, 3, 1, 4)
        query, key, value = packed.unbind(0)
        key, value = joined(self.prefix, base.k_norm(key), value)
        dropout = base.attn_drop.p if self.training else 0.0
        seen = nn.functional.scaled_dot_product_attention(base.q_norm(query), key, value, dropout_p=dropout)
        answer = base.norm(seen.transpose(1, 2).flatten(2))
        gate = getattr(base, "gate", None)  # earlier releases of timm have none
        if gate is not None:
            answer = answer * gate(hidden).sigmoid()
        return base.proj_drop(base.proj(answer))  # type: ignore[no-any-return]


def prefixed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **named: Any
) -> tuple[Tensor, None]:
    """As transformers calls it: [examples, heads, tokens, size] in, [examples, tokens, heads, size] out.

    ValueError for a mask in a module with a prefix, whose places no mask knows.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    prefix = getattr(module, "prefix", None)
    if prefix is not None and not vars(module).get("off", False):
        if attention_mask is not None:
            raise ValueError("its attention takes a mask or positions between tokens")
        key, value = joined(prefix, key, value)
    out: Tensor = sdpa_attention_forward(module, query, key, value, attention_mask, **named)[0]
    return out, None


def use_prefixes(model: Any) -> bool:
    """Switch a model of transformers to this attention; False where its own is not torch's scaled dot product."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if str(getattr(model.config, "_attn_implementation", "")) not in _PLAIN:
        return False
    AttentionInterface.register(NAME, prefixed_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    try:
        model.set_attn_implementation(NAME)
    except (ValueError, AttributeError, NotImplementedError):
        return False
    return str(getattr(model.config, "_attn_implementation", "")) == NAME
