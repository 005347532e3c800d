"""One bfloat16 copy of what several layers read, instead of one a layer.

Under autocast on a CPU every linear layer copies its float32 input to bfloat16 for itself: query, key and value three
times the same states, with a low-rank layer beside each six times, and in backward as many copies back and sums in
float32. Here the copy that a layer makes stays at hand for the next one that is given the very same tensor. Answers
are the same bit for bit; the layers' gradients are summed in bfloat16, as each of them is already rounded.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_last: list[tuple[weakref.ref[Tensor], tuple[Any, ...], Tensor]] = []
"""The newest copy: whose it is, how that one was then, the copy. Gone as soon as its tensor is."""


def share_casts(model: nn.Module, blocks: Iterable[str]) -> int:
    """Let the linear layers inside these modules of `model` share the copies of their inputs, in place; how many do.

    Weights, names and what is saved stay as they are; without autocast to bfloat16 on a CPU nothing changes.
    """
    layers = {id(m): m for name in blocks for m in model.get_submodule(name).modules() if type(m) is nn.Linear}
    for layer in layers.values():
        if _cast_input not in layer._forward_pre_hooks.values():
            layer.register_forward_pre_hook(_cast_input)
    return len(layers)


def casts_to_bfloat16(values: Tensor) -> bool:
    """Whether a linear layer would now copy these values, or has been given such a copy: autocast on a CPU."""
    return (
        values.device.type == "cpu"
        and values.dtype in (torch.float32, torch.bfloat16)
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
    )


def bfloat16(values: Tensor) -> Tensor:
    """The values in bfloat16: the copy made before, if the newest is of this very tensor and nothing changed since."""
    if values.dtype == torch.bfloat16 or values.is_inference():
        return values.to(torch.bfloat16)
    # A block that is computed again in backward makes its own copies: those of the first pass have another history.
    state = (values._version, values.requires_grad, torch.is_grad_enabled(), torch._C._current_graph_task_id())
    if _last and _last[0][0]() is values and _last[0][1] == state:
        return _last[0][2]
    copy = values.to(torch.bfloat16)
    _last[:] = [(weakref.ref(values, _forget), state, copy)]
    return copy


def _forget(whose: weakref.ref[Tensor]) -> None:
    if _last and _last[0][0] is whose:
        _last.clear()


def _cast_input(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
    if given and isinstance(given[0], Tensor) and given[0].dtype == torch.float32 and casts_to_bfloat16(given[0]):
        return (bfloat16(given[0]), *given[1:])
    return None
