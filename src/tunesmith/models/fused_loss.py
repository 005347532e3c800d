"""Linear layer and cross-entropy in one, some places at a time, so that only their logits ever stand in memory.

    z = h W' + b;   loss = log sum exp z - z[label];   dz = softmax z - onehot(label)
    dh = dz W;   dW = sum over places of dz' h;   db = sum of dz

The gradient is worked out beside the loss, while a chunk's logits are there, and only multiplied by what comes from
above in backward: no logits are kept, and none are computed twice. For losses place by place (`summed` False) that
holds as long as the layer itself does not learn; where it does, each chunk's logits are computed again in backward.
As in Wijmans et al. 2024, Cut Your Losses in Large-Vocabulary Language Models, arXiv 2411.09009, and Hsu et al. 2024,
Liger Kernel, arXiv 2410.10989, in plain torch. The weight's gradient is summed over chunks in float32 also where the
products are bfloat16; plain autocast would round it once to bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def linear_cross_entropy(
    hidden: Tensor, layer: nn.Linear, labels: Tensor, *, chunk: int, products: torch.dtype, summed: bool
) -> Tensor:
    """Cross-entropy (nats, at least float32) of `layer(hidden)`: the sum, or with summed False each place's [places].

    hidden: [places, size]. labels: [places], all at least 0. products: the type of the matrix products; the softmax is
    float32 (float64 for float64). Differentiable once, in hidden, weight and bias.
    """
    grad = torch.is_grad_enabled()
    learns = tuple(grad and t is not None and t.requires_grad for t in (hidden, layer.weight, layer.bias))
    with torch.autocast(hidden.device.type, enabled=False):
        function: Any = _Summed.apply if summed else _Placewise.apply
        loss: Tensor = function(hidden, layer.weight, layer.bias, labels, chunk, products, learns)
    return loss


def chunk_logits(
    hidden: Tensor, layer: nn.Linear, *, chunk: int, products: torch.dtype
) -> Iterator[tuple[int, Tensor]]:
    """The first place of each chunk and its logits [places in chunk, classes], at least float32; no gradient."""
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
        weight, bias = _cast(layer.weight, layer.bias, products)
        for first in range(0, len(hidden), chunk):
            yield first, _logits(hidden[first : first + chunk].to(products), weight, bias)


def _cast(weight: Tensor, bias: Tensor | None, products: torch.dtype) -> tuple[Tensor, Tensor | None]:
    return weight.to(products), None if bias is None else bias.to(products)


def _logits(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    logits = nn.functional.linear(rows, weight, bias)
    return logits if logits.dtype == torch.float64 else logits.float()


def _losses(logits: Tensor, labels: Tensor, normaliser: Tensor) -> Tensor:
    return normaliser - logits.gather(1, labels[:, None])[:, 0]


def _to_slope(logits: Tensor, labels: Tensor, normaliser: Tensor) -> Tensor:
    """The derivative, softmax - onehot, in the place of the logits."""
    slope = logits.sub_(normaliser[:, None]).exp_()
    slope[torch.arange(len(labels), device=labels.device), labels] -= 1
    return slope


class _Gradients:
    """What the chunks' slopes add up to, as far as it is wanted."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, learns: tuple[bool, bool, bool]) -> None:
        wide = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        self.hidden = torch.empty_like(hidden) if learns[0] else None
        self.weight = torch.zeros_like(weight, dtype=wide) if learns[1] else None
        self.bias = torch.zeros_like(bias, dtype=wide) if learns[2] and bias is not None else None

    def add(self, first: int, slope: Tensor, rows: Tensor, weight: Tensor) -> None:
        """Take in the slope [places, classes] of places from `first` on; rows and weight as the products had them."""
        if self.bias is not None:
            self.bias += slope.sum(0)
        slope = slope.to(weight.dtype)
        if self.hidden is not None:
            self.hidden[first : first + len(rows)] = slope @ weight
        if self.weight is not None and self.weight.dtype == weight.dtype:
            self.weight.addmm_(slope.t(), rows)
        elif self.weight is not None:
            self.weight += slope.t() @ rows

    def all(self) -> tuple[Tensor | None, ...]:
        return self.hidden, self.weight, self.bias


class _Summed(torch.autograd.Function):
    """The sum over all places; what comes from above is one number."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        chunk: int,
        products: torch.dtype,
        learns: tuple[bool, bool, bool],
    ) -> Tensor:
        gradients = _Gradients(hidden, weight, bias, learns)
        cast, cast_bias = _cast(weight, bias, products)
        total = hidden.new_zeros((), dtype=torch.float64)
        for first in range(0, len(hidden), chunk):
            rows, wanted = hidden[first : first + chunk].to(products), labels[first : first + chunk]
            logits = _logits(rows, cast, cast_bias)
            normaliser = logits.logsumexp(1)
            total += _losses(logits, wanted, normaliser).sum(dtype=torch.float64)
            if any(learns):
                gradients.add(first, _to_slope(logits, wanted, normaliser), rows, cast)
        ctx.save_for_backward(*gradients.all())
        ctx.dtypes = hidden.dtype, weight.dtype
        return total if hidden.dtype == torch.float64 else total.float()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        kinds = ctx.dtypes[0], ctx.dtypes[1], ctx.dtypes[1]
        found = (hidden, weight, bias)
        scaled = (None if t is None else (t * above).to(kind) for t, kind in zip(found, kinds, strict=True))
        return *scaled, None, None, None, None


class _Placewise(torch.autograd.Function):
    """Each place's loss; what comes from above is a number a place."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        chunk: int,
        products: torch.dtype,
        learns: tuple[bool, bool, bool],
    ) -> Tensor:
        ahead = learns[0] and not any(learns[1:])
        gradients = _Gradients(hidden, weight, bias, (ahead, False, False))
        cast, cast_bias = _cast(weight, bias, products)
        losses = hidden.new_empty(len(hidden), dtype=torch.float64 if hidden.dtype == torch.float64 else torch.float32)
        for first in range(0, len(hidden), chunk):
            rows, wanted = hidden[first : first + chunk].to(products), labels[first : first + chunk]
            logits = _logits(rows, cast, cast_bias)
            normaliser = logits.logsumexp(1)
            losses[first : first + chunk] = _losses(logits, wanted, normaliser)
            if ahead:
                gradients.add(first, _to_slope(logits, wanted, normaliser), rows, cast)
        ctx.ahead, ctx.learns, ctx.chunk, ctx.products = ahead, learns, chunk, products
        ctx.save_for_backward(*((gradients.hidden,) if ahead else (hidden, weight, bias, labels)))
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.ahead:
            (slope,) = ctx.saved_tensors
            return slope * above[:, None].to(slope.dtype), None, None, None, None, None, None
        hidden, weight, bias, labels = ctx.saved_tensors
        gradients = _Gradients(hidden, weight, bias, ctx.learns)
        cast, cast_bias = _cast(weight, bias, ctx.products)
        for first in range(0, len(hidden), ctx.chunk):
            rows, wanted = hidden[first : first + ctx.chunk].to(ctx.products), labels[first : first + ctx.chunk]
            logits = _logits(rows, cast, cast_bias)
            slope = _to_slope(logits, wanted, logits.logsumexp(1)).mul_(above[first : first + ctx.chunk, None])
            gradients.add(first, slope, rows, cast)
        d_hidden, d_weight, d_bias = gradients.all()
        d_weight = None if d_weight is None else d_weight.to(weight.dtype)
        return d_hidden, d_weight, None if d_bias is None else d_bias.to(weight.dtype), None, None, None, None
