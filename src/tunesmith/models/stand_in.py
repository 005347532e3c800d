"""Other tensors, attributes or modes in a model for a while; whatever happens inside, the model's own come back.

Nothing is copied into a tensor that learns: the module is handed another tensor object. So a graph that was recorded
before still finds the values it was recorded with, and backward may run inside, behind or around the while.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError

FOREIGN = "head_of_another_task"
"""Mark, in a module's dictionary, of a head that `head_swap.with_head` has put in: its tensors are nobody's here."""


@contextmanager
def stand_in(model: nn.Module, tensors: Mapping[str, Tensor], *, complete: Collection[str] = ()) -> Iterator[None]:
    """`tensors` in place of the model's own of these names, wherever the model holds them (tied weights too).

    complete: names that must all be among `tensors`. Parameters share memory with what is given; buffers are copies of
    it, since norms write into theirs. Names inside a head of another task are passed over. ModelError for a name that
    the model does not have, one of `complete` that is missing, or another shape.
    """
    own: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    own |= dict(model.named_buffers(remove_duplicate=False))
    elsewhere = tuple(f"{name}." for name, module in model.named_modules() if FOREIGN in vars(module))
    _check(own, {n: t for n, t in tensors.items() if not n.startswith(elsewhere)}, complete, elsewhere)
    others = {id(own[n]): _like(own[n], t) for n, t in tensors.items() if not n.startswith(elsewhere)}
    places = [
        (module, name, tensor, others[id(tensor)])
        for module in model.modules()
        for held in (module._parameters, module._buffers)
        for name, tensor in held.items()
        if tensor is not None and id(tensor) in others
    ]
    try:
        for module, name, _, other in places:
            setattr(module, name, other)
        yield
    finally:
        for module, name, tensor, _ in places:
            setattr(module, name, tensor)


@contextmanager
def attribute(modules: Iterable[nn.Module], name: str, value: Any) -> Iterator[None]:
    """The plain attribute `name` of every module is `value`."""
    before = [(vars(module), vars(module).get(name, _NONE)) for module in modules]
    try:
        for held, _ in before:
            held[name] = value
        yield
    finally:
        for held, old in before:
            if old is _NONE:
                held.pop(name, None)
            else:
                held[name] = old


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; behind it every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


_NONE = object()


def _like(own: Tensor, other: Tensor) -> Tensor:
    moved = other.detach().to(device=own.device, dtype=own.dtype)
    if isinstance(own, nn.Parameter):
        return nn.Parameter(moved, requires_grad=own.requires_grad)
    with torch.no_grad():
        return moved.clone()


def _check(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], complete: Collection[str], elsewhere: tuple[str, ...]
) -> None:
    unknown = [name for name in tensors if name not in own]
    missing = [name for name in complete if name not in tensors and not name.startswith(elsewhere)]
    if unknown or missing:
        odd = ", ".join((unknown or missing)[:3])
        raise ModelError(
            f"The tensors that shall stand in do not fit this model: {odd} "
            f"{'are not in it' if unknown else 'are missing'}. Give copies of what `Method.learned` names of this very "
            "model, taken before the first step."
        )
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise ModelError(
                f"{name} is {list(own[name].shape)} in this model, and the tensor that shall stand in is "
                f"{list(tensor.shape)}. Give copies taken of this very model."
            )
