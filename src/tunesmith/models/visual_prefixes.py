"""Learned keys and values before those of a vision transformer's attention: put in, written, and read back.

In transformers' models the attention module gets a `prefix` that its attention function reads; timm's attention is
stood in for by a module with one (`prefixed_attention.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tunesmith.models.learned_inputs import fill, read_learned, write_learned
from tunesmith.models.prefixed_attention import PrefixedAttention, use_prefixes
from tunesmith.models.stand_in import attribute

STEM = "prefixes"
FILE = f"{STEM}.json"


def shape_of(model: nn.Module, attention: Sequence[str], library: str) -> tuple[int, int]:
    """Heads and numbers a head of the attention modules. ValueError unless all are alike and can take a prefix."""
    modules: list[Any] = [model.get_submodule(name) for name in attention]
    if library == "timm":
        from timm.layers.attention import Attention

        modules = [module for module in modules if type(module) is Attention]
    elif library != "transformers":
        modules = []
    heads = ("num_attention_heads", "num_heads")
    sizes = ("head_dim", "attention_head_size")
    found = {(_number(module, heads), _number(module, sizes)) for module in modules}
    if len(modules) < len(attention) or len(found) != 1 or 0 in next(iter(found)):
        kind = type(model.get_submodule(attention[0])).__name__
        raise ValueError(f"its attention ({kind}) takes no learned keys and values")
    return found.pop()


def _number(module: Any, names: Sequence[str]) -> int:
    return next((int(getattr(module, name)) for name in names if hasattr(module, name)), 0)


def put_in(model: nn.Module, attention: Sequence[str], library: str, prefixes: Sequence[Tensor]) -> None:
    """Give each attention module its prefix [2, heads, length, size], in place. ValueError where it cannot be read."""
    if library == "transformers" and not use_prefixes(model):
        raise ValueError("it does not call transformers' attention interface")
    for name, prefix in zip(attention, prefixes, strict=True):
        module = model.get_submodule(name)
        if library == "transformers":
            module.register_parameter("prefix", nn.Parameter(prefix))
            continue
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, PrefixedAttention(module, prefix))


def holders(model: nn.Module) -> list[nn.Module]:
    """The modules with a prefix; where `off` is set, it takes no part."""
    return [module for module in model.modules() if isinstance(module._parameters.get("prefix"), nn.Parameter)]


def passed_by(model: nn.Module) -> AbstractContextManager[None]:
    """A context in which attention sees the picture alone."""
    return attribute(holders(model), "off", True)


def write(folder: Path, model: nn.Module, learned: dict[str, Tensor]) -> None:
    """Write the learned tensors (prefixes and head, by name), and which are prefixes."""
    held = {id(module._parameters["prefix"]) for module in holders(model)}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in held]
    write_learned(folder, STEM, learned, {"prefixes": names})


def read_into(model: nn.Module, library: str, folder: Path) -> None:
    """Put what `folder` holds into the untouched model it was trained on, in place."""
    told, tensors = read_learned(folder, STEM)
    names = list(told["prefixes"])
    put_in(model, [name.removesuffix(".prefix") for name in names], library, [tensors[name].clone() for name in names])
    fill(model, tensors, folder)
