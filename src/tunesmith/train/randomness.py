"""Counter-based randomness: a random choice follows from (seed, step, place in the batch, layer), never from history.

So a run that is killed and resumed draws what the uninterrupted run drew, and cutting a batch into micro-batches or
over processes changes no mask. Dropout masks are windows of one pool of Bernoulli numbers made once: each example and
layer takes its window at an offset hashed from the counter. That costs a copy instead of a draw, which on a CPU
makes dropout almost free. Two masks overlap only where two hashed offsets fall close together; the pool has 4 million
entries, so an overlap is rare and its shift random.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

POOL = 1 << 22
_ROOM = POOL // 2  # offsets lie in the first half, whatever the window's size, so that padding moves no window
_ROW = 1031  # distance in the pool of two attention rows: prime, above most lengths, so that rows share no window
_HEAD = 50_021  # the same for two heads

_clock: dict[str, tuple[int, int, tuple[int, ...]]] = {}
_pools: dict[tuple[float, torch.dtype, torch.device], Tensor] = {}


def counter_seed(*counter: int | str) -> int:
    """A 63-bit seed that follows from the counter alone (blake2b; not Python's salted hash)."""
    digest = hashlib.blake2b("/".join(map(str, counter)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*counter: int | str) -> torch.Generator:
    """A CPU generator seeded by the counter."""
    return torch.Generator().manual_seed(counter_seed(*counter))


def begin(seed: int, step: int, positions: Sequence[int]) -> None:
    """Set the counter for the forward pass over the examples at `positions` of the batch of `step`."""
    _clock["now"] = (seed, step, tuple(positions))
    # Whatever still draws from torch's own generator follows from the counter as well.
    drawn = counter_seed(seed, "torch", step, positions[0] if positions else 0)
    if _accelerated():
        torch.manual_seed(drawn)
    else:  # the call above writes down where it was called from for each kind of device that is not there
        torch.default_generator.manual_seed(drawn)


@cache
def _accelerated() -> bool:
    return torch.accelerator.is_available()


def now() -> tuple[int, int, tuple[int, ...]] | None:
    """The counter as it stands, for `set_back`; None before the first `begin`."""
    return _clock.get("now")


def set_back(counter: tuple[int, int, tuple[int, ...]] | None) -> None:
    """Set the counter back to what `now` gave; torch's own generator is left alone."""
    if counter is None:
        _clock.pop("now", None)
    else:
        _clock["now"] = counter


def draws_for(place: int, *what: int | str) -> torch.Generator:
    """A generator for whatever else is drawn for the example at index `place` of the current forward pass.

    It follows from (seed, step, place of the example in the whole batch, `what`) alone, so that the example draws the
    same in any micro-batch.
    """
    seed, step, positions = _clock.get("now", (0, 0, ()))
    return generator(seed, step, positions[place] if place < len(positions) else place, *what)


class Dropout(nn.Module):
    """nn.Dropout whose mask follows from the counter. `p`: share of values set to 0; `number`: the layer's own."""

    def __init__(self, p: float, number: int) -> None:
        super().__init__()
        self.p = p
        self.number = number

    def forward(self, values: Tensor) -> Tensor:
        """Drop values [examples, ...] in training mode."""
        if not self.training or self.p == 0.0:
            return values
        dropped: Tensor = _Drop.apply(values, dropout_windows(self, tuple(values.shape), self.p, values))
        return dropped

    def extra_repr(self) -> str:
        """P and number, as nn.Module prints them."""
        return f"p={self.p}, number={self.number}"


def use_counter_dropout(model: nn.Module) -> None:
    """Replace each nn.Dropout in place; their numbers follow the order of modules."""
    number = 0
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) in (nn.Dropout, Dropout):
                number += 1
                setattr(module, name, Dropout(float(cast(nn.Dropout, child).p), number))
        # Attention draws its own mask inside the attention function; give it a number too.
        number += 1
        module.__dict__["dropout_number"] = number


class _Drop(torch.autograd.Function):
    """Values [examples, ...] times each example's window; nothing but views of the pool is kept for the backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, windows: list[Tensor]) -> Tensor:
        ctx.windows = windows
        return multiplied(values, windows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return multiplied(gradients[0], ctx.windows), None


def multiplied(values: Tensor, windows: Sequence[Tensor]) -> Tensor:
    """A new tensor: each example of `values` [examples, ...] times its window."""
    out = torch.empty_like(values, memory_format=torch.contiguous_format)
    for number, window in enumerate(windows):
        torch.mul(values[number], window, out=out[number])
    return out


def dropout_windows(module: nn.Module, shape: tuple[int, ...], p: float, like: Tensor) -> list[Tensor]:
    """For each example of a tensor of `shape` = [examples, ...] the numbers 0 or 1 / (1 - p) it is multiplied by, as a
    view of the pool, in the dtype and on the device of `like`.

    Values of one example lie at fixed places of its window whatever the padding, so a mask does not depend on the
    length of the other examples: [tokens, hidden] by token, [heads, queries, keys] by head, row and key.
    """
    seed, step, positions = _clock.get("now", (0, 0, ()))
    number = int(getattr(module, "number", module.__dict__.get("dropout_number", 0)))
    strides: tuple[int, ...]
    if len(shape) == 4:
        strides, window = (_HEAD, _ROW, 1), shape[1] * _HEAD + shape[2] * _ROW + shape[3]
    else:
        sizes = shape[1:]
        strides = tuple(torch.Size(sizes[i + 1 :]).numel() for i in range(len(sizes)))
        window = torch.Size(sizes).numel()
    places = positions if len(positions) == shape[0] else range(shape[0])
    if window > POOL - _ROOM:
        drawn = [torch.rand(shape[1:], generator=generator(seed, step, number, place)) >= p for place in places]
        return [each.to(device=like.device, dtype=like.dtype).div_(1 - p) for each in drawn]
    pool = _pool(p, like.dtype, like.device)
    offsets = [_mix(seed, step, number, place) % _ROOM for place in places]
    return [pool.as_strided(shape[1:], strides, offset) for offset in offsets]


def _mix(seed: int, step: int, number: int, place: int) -> int:
    """splitmix64 over the counter: fast, and every bit of the counter moves every bit of the result."""
    state = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + number * 0x94D049BB133111EB + place) & _MASK
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = ((state ^ (state >> shift)) * factor) & _MASK
    return state ^ (state >> 31)


_MASK = (1 << 64) - 1


def _pool(p: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    key = (p, dtype, device)
    if key not in _pools:
        kept = torch.rand(POOL, generator=generator("dropout pool")) >= p
        _pools[key] = kept.to(device=device, dtype=dtype).div_(1 - p)
    return _pools[key]
