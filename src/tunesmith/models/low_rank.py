"""A frozen linear layer and the low-rank matrices beside it as one step, for bfloat16 autocast on a CPU.

    y = x W' + b + (x A') (s B)';   dx = dy W + (dy s B) A;   dA = (dy s B)' x;   dB = s dy' (x A')

Layer by layer, as peft computes it, the addition is written out, scaled and added in three passes over the output, and
the gradient of the input in two: on a CPU these cost more than the products of rank 8 themselves (docs/experiments.md).
Here both additions go into the product that is there already.

It also learns better: peft adds to outputs that are rounded to 8 bits already, where an addition of less than half a
step is lost, always. Here the sum is rounded once, so that small additions count as often as they should.
"""

from __future__ import annotations

import weakref
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tunesmith.models.shared_cast import bfloat16, casts_to_bfloat16
from tunesmith.train import randomness

_copies: dict[int, tuple[weakref.ref[Tensor], tuple[int, int, int], Tensor]] = {}
"""By a frozen weight's number: the weight, seed, step and version at which it was copied, the copy."""


class _LowRank(torch.autograd.Function):
    """x [..., inputs], W [outputs, inputs], b [outputs] or None, A [rank, inputs], s B [outputs, rank], all of one
    type; W and b do not learn."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        inner = rows @ a.t()
        # The small part first: the large product takes it in before it is rounded.
        out = (inner @ b.t()).addmm_(rows, weight.t())
        if bias is not None:
            out += bias
        ctx.save_for_backward(x, weight, a, b, inner)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b, inner = ctx.saved_tensors
        above = gradients[0].reshape(-1, weight.shape[0])
        through = above @ b
        d_x = None
        if ctx.needs_input_grad[0]:
            d_x = (through @ a).addmm_(above, weight).view(x.shape)
        # With the few rows first: a product of few columns takes longer on a CPU.
        return d_x, None, None, through.t() @ x.reshape(-1, x.shape[-1]), (inner.t() @ above).t()


def fuse_low_rank(layer: Any, adapter: str) -> bool:
    """Let peft's `layer` compute in one step, in place, wherever it is plain LoRA; False, and nothing done, where its
    shape is another. What it does not cover (dropout, several adapters, adapters off) goes on as peft does it."""
    factors = [held[adapter] for held in (layer.lora_A, layer.lora_B)]
    fits = (
        type(layer.base_layer) is nn.Linear
        and list(layer.lora_A) == [adapter]
        and all(type(factor) is nn.Linear and factor.bias is None for factor in factors)
        and adapter not in layer.lora_variant
    )
    if fits and "forward" not in vars(layer):
        # A bound method moves with the layer when a model is copied; a closure would go on with the old weights.
        layer.forward = MethodType(_forward, layer)
    return fits


def _forward(layer: Any, x: Tensor, *more: Any, **named: Any) -> Tensor:
    (adapter,) = layer.lora_A
    base, a, b = layer.base_layer, layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    dropout = layer.lora_dropout[adapter]
    plain = (
        not more
        and not named
        and casts_to_bfloat16(x)
        and layer.active_adapters == [adapter]
        and not (layer.disable_adapters or layer.merged)
        and not (layer.training and float(getattr(dropout, "p", 0.0)) > 0)
        and not any(t is not None and t.requires_grad for t in (base.weight, base.bias))
    )
    if not plain:
        given: Tensor = type(layer).forward(layer, x, *more, **named)
        return given
    states = bfloat16(x)
    weight, bias = _frozen_copy(base.weight), None if base.bias is None else base.bias.to(states.dtype)
    factors = a.to(states.dtype), (b * layer.scaling[adapter]).to(states.dtype)
    with torch.autocast("cpu", enabled=False):
        out: Tensor = _LowRank.apply(states, weight, bias, *factors)
    return out


def _frozen_copy(weight: Tensor) -> Tensor:
    """A frozen weight in bfloat16: copied once a step, however many micro-batches the step has. Between two steps it
    may have been changed in ways that torch does not count (`weight.data`).

    The next step's copy lies where the last one lay: a new one would stand between the activations of its time and
    leave holes that no later batch fits.
    """
    now = randomness.now()
    if weight.dtype == torch.bfloat16:
        return weight
    if now is None or weight.is_inference() or torch.is_inference_mode_enabled():  # such a copy cannot be learned with
        return weight.to(torch.bfloat16)
    state, number = (*now[:2], weight._version), id(weight)
    known = _copies.get(number)
    if known is None or known[0]() is not weight:
        copy = weight.detach().to(torch.bfloat16)
        _copies[number] = (weakref.ref(weight, lambda _: _copies.pop(number, None)), state, copy)
        return copy
    if known[1] != state:
        with torch.no_grad():
            known[2].copy_(weight)
        _copies[number] = (known[0], state, known[2])
    return known[2]
