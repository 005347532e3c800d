"""The last block for the first token alone: what a BERT-like classifier does not read need not be computed.

Such a classifier reads the first token's state. In the last block every token still gives its key and value, but
query, attention output and feed-forward part are needed for the first token only: of the block's 12 h^2 products a
token 10 h^2 fall away, in a network of six blocks 14 % of all. Numbers stay what they were but for rounding, and
dropout draws what it drew (windows are laid out by token). What is delivered is not touched: only `forward` of the
one live block is another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from tunesmith.models.attention import NAME, attention_forward

READS_FIRST = ("BertForSequenceClassification", "RobertaForSequenceClassification",
               "XLMRobertaForSequenceClassification", "ElectraForSequenceClassification",
               "CamembertForSequenceClassification", "XLMRobertaXLForSequenceClassification")  # fmt: skip
"""Classifiers whose head takes `[:, 0]` of the last block and nothing else."""

_PARTS = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output")


def use_first_token(model: nn.Module, last_block: str) -> bool:
    """Let the block of that name compute the first token alone. False, and nothing done, where the model is another."""
    config: Any = getattr(model, "config", None)
    block: Any = model.get_submodule(last_block)
    fits = (
        type(model).__name__ in READS_FIRST
        and getattr(config, "_attn_implementation", "") == NAME
        and not getattr(config, "is_decoder", False)
        and all(_has(block, part) for part in _PARTS)
        and hasattr(block, "feed_forward_chunk")
    )
    if fits and "forward" not in vars(block):
        block.forward = _Forward(block, block.forward)
    return fits


@contextmanager
def all_tokens(model: nn.Module) -> Iterator[None]:
    """While the block runs, every block computes every token again, in whatever wrapper: for who reads more than the
    first one, or needs the very bits of the plain model."""
    short = [
        (block, vars(block)["forward"]) for block in model.modules() if isinstance(vars(block).get("forward"), _Forward)
    ]
    for block, _ in short:
        del block.forward
    try:
        yield
    finally:
        for block, forward in short:
            block.forward = forward


class _Forward:
    """The block's `forward`; handed a prefix or another sequence to look at, it answers as it always did."""

    def __init__(self, block: Any, plain: Any) -> None:
        self.block, self.plain = block, plain

    def __call__(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *rest: Any, **more: Any) -> Any:
        if rest or any(more.get(key) is not None for key in ("past_key_values", "encoder_hidden_states")):
            return self.plain(hidden_states, attention_mask, *rest, **more)
        inner = self.block.attention.self
        first = hidden_states[:, :1]
        query, key, value = (
            layer(states).unflatten(-1, (-1, inner.attention_head_size)).transpose(1, 2)
            for layer, states in ((inner.query, first), (inner.key, hidden_states), (inner.value, hidden_states))
        )
        mask = attention_mask if attention_mask is None else attention_mask[..., :1, :]
        dropout = inner.dropout.p if inner.training else 0.0
        read, _ = attention_forward(inner, query, key, value, mask, dropout=dropout, scaling=inner.scaling)
        return self.block.feed_forward_chunk(self.block.attention.output(read.flatten(2), first))


def _has(module: nn.Module, name: str) -> bool:
    try:
        module.get_submodule(name)
    except AttributeError:
        return False
    return True
