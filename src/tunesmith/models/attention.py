"""Attention for training: batched matrix products with a backward written by hand.

Registered with transformers' attention interface as `tunesmith`, under the mask of scaled dot-product attention, so
any model that calls the interface can use it. Why: with attention dropout above 0 torch's own function takes a slower
path on a CPU, and its bfloat16 backward is slow at short lengths (docs/experiments.md).
With dropout off, torch's own kernels win on CUDA, and in float32 from 256 tokens on, and are called.

    P = softmax(scale Q K' + mask);   O = (P * D) V;   D = dropout mask (0 or 1 / (1 - p))
    dV = (P * D)' dO;   dP = (dO V') * D;   dS = P * (dP - sum(dP * P));   dQ = scale dS K;   dK = scale dS' Q
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from tunesmith.models.stand_in import evaluating
from tunesmith.train.randomness import dropout_windows, multiplied

FLASH_TOKENS = 256
"""Float32 without dropout: from this length on torch's own kernel is faster (measured, two Zen 4 cores)."""

NAME = "tunesmith"


Watcher = Callable[[nn.Module, Tensor, Tensor, Tensor], None]
_watchers: list[Watcher] = []


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Hand every attention call's module, query, key and value to `watcher` while the block runs."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


class _Attention(torch.autograd.Function):
    """The products above. Query heads that share a key stand below each other: query [examples * key heads, sharing *
    queries, size], key and value [examples * key heads, keys, size]. The mask adds to scores; `windows`, one of
    [heads, queries, keys] an example, multiply P and are views that cost no memory."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        windows: list[Tensor] | None,
        scale: float,
        queries: int,
    ) -> Tensor:
        scaled = query * scale
        scores = torch.bmm(scaled, key.transpose(1, 2))
        if mask is not None:
            scores.view(mask.shape[0], -1, queries, scores.shape[2]).add_(mask)
        weights = torch.softmax(scores, dim=-1)
        ctx.save_for_backward(scaled, key, value, weights)
        ctx.scale, ctx.windows = scale, windows
        return torch.bmm(_dropped(weights, windows), value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scaled, key, value, weights = ctx.saved_tensors
        gradient = gradients[0]
        d_value = torch.bmm(_dropped(weights, ctx.windows).transpose(1, 2), gradient)
        d_weights = _dropped(torch.bmm(gradient, value.transpose(1, 2)), ctx.windows)
        d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
        d_query = torch.bmm(d_scores, key).mul_(ctx.scale)
        d_key = torch.bmm(d_scores.transpose(1, 2), scaled)
        return d_query, d_key, d_value, None, None, None, None


def _dropped(weights: Tensor, windows: list[Tensor] | None) -> Tensor:
    """Weights, in memory [examples, heads, queries, keys], times each example's window; themselves without windows."""
    if windows is None:
        return weights
    return multiplied(weights.view(len(windows), *windows[0].shape), windows).view_as(weights)


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: [examples, heads, tokens, size] in, [examples, tokens, heads, size] out.

    attention_mask: boolean, True where a key may be seen, or additive, [examples, 1, queries, keys]; None: all
    (or causal where the module says so).
    """
    for watcher in _watchers:
        watcher(module, query, key, value)
    # Under autocast what was rotated comes in float32 beside a value in bfloat16, and behind a prefix the value too.
    kind = value.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value.dtype
    query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    repeat = query.shape[1] // key.shape[1]
    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    causal = causal and attention_mask is None and query.shape[2] > 1
    plain = query.dtype == torch.float32 and not dropout and query.shape[2] >= FLASH_TOKENS
    if plain or (query.is_cuda and not dropout):  # CUDA's own kernels draw their dropout from no counter
        if repeat > 1:
            key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
        out = nn.functional.scaled_dot_product_attention(
            query, key, value, attention_mask, dropout_p=dropout, is_causal=causal, scale=scale
        )
        return out.transpose(1, 2).contiguous(), None
    examples, heads, queries, size = query.shape
    shape = (examples, heads, queries, key.shape[2])
    windows = dropout_windows(module, shape, dropout, query) if dropout else None
    with torch.autocast(kind, enabled=False):  # CUDA's would take the softmax, and what is kept of it, to float32
        out = _Attention.apply(
            query.reshape(-1, repeat * queries, size),
            key.reshape(-1, key.shape[2], size),
            value.reshape(-1, value.shape[2], value.shape[3]),
            _additive(attention_mask, query, key.shape[2], causal=causal),
            windows,
            scale,
            queries,
        )
    return out.view(examples, heads, queries, -1).transpose(1, 2).contiguous(), None


def _additive(mask: Tensor | None, query: Tensor, keys: int, *, causal: bool) -> Tensor | None:
    """The mask as numbers to add, [examples or 1, 1, queries, keys]; a row without any key stays finite."""
    if causal:
        rows = query.shape[2]
        mask = torch.ones(rows, keys, dtype=torch.bool, device=query.device).tril(keys - rows)[None, None]
    if mask is None or mask.dtype != torch.bool:
        return mask if mask is None else mask.to(query.dtype)
    lowest = torch.finfo(query.dtype).min
    return torch.zeros(mask.shape, dtype=query.dtype, device=mask.device).masked_fill_(~mask, lowest)


def use_attention(model: nn.Module) -> bool:
    """Switch a transformers model to this attention; False where it does not call the interface, or where its scores go
    through more than a softmax: such a model is put to its library's own plain attention, the only one that heeds it.
    """
    if _more_than_softmax(model):
        model.set_attn_implementation("eager")  # type: ignore[operator]
        return False
    AttentionInterface.register(NAME, attention_forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    try:
        model.set_attn_implementation(NAME)  # type: ignore[operator]
    except (ValueError, AttributeError, NotImplementedError):
        return False
    return str(getattr(model.config, "_attn_implementation", "")) == NAME


def _more_than_softmax(model: nn.Module) -> bool:
    """Whether attention scores are capped (Gemma 2), or shared with learned sinks (gpt-oss)."""
    capped = getattr(getattr(model, "config", None), "attn_logit_softcapping", None) is not None
    return capped or any(name.rpartition(".")[2] == "sinks" for name, _ in model.named_parameters())


def cannot_pack(model: nn.Module, longest: int) -> str:
    """Why texts that share a row would see each other, draw other dropout or see more than by themselves, in this
    model; empty where none of it. longest: tokens of the longest text."""
    config: Any = getattr(model, "config", None)
    if str(getattr(config, "_attn_implementation", "")) != NAME:
        return f"{type(model).__name__} does not call transformers' attention interface"
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds or any(isinstance(module, nn.Conv1d) for module in model.modules()):
        what = ", ".join(sorted(kinds)) or "convolutions"
        return f"some of the model's layers ({what}) carry what they saw from one text over to the next"
    window = getattr(config, "sliding_window", None)  # None or 0 (Qwen's): no layer has one
    if window and longest > int(window):
        return f"texts are longer than the {int(window):,} tokens that some of the model's layers see"
    drops = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
    if drops or float(getattr(config, "attention_dropout", 0) or 0) > 0:
        return "the model's dropout is drawn an example at a time"
    blocks = int(getattr(config, "num_hidden_layers", None) or 1)
    if _attention_calls(model) < blocks:  # xLSTM: a state, and nothing else tells of it
        return f"not each of the model's {blocks} layers sees other tokens by attention alone"
    return ""


def _attention_calls(model: nn.Module) -> int:
    """How often a forward pass over six tokens comes to attention."""
    calls: list[nn.Module] = []
    device = next(model.parameters()).device
    ids = torch.zeros((1, 6), dtype=torch.long, device=device)
    plainly = {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    with watching(lambda module, *_: calls.append(module)), torch.no_grad(), evaluating(model):
        model(input_ids=ids, attention_mask=torch.ones_like(ids), **plainly)
    return len(calls)
