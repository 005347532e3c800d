"""Names of a picture model's parts: conv nets and vision transformers of timm, torchvision and transformers.

Blocks are found in the tree of modules. A list (`Sequential`, `ModuleList`, `ModuleDict`) is taken apart, and so is a
stage, which is a module that mostly holds a list of equal parts; what is left is a block. Single convolutions in front
of the first block are the stem. Layers and their roles come from `vision_roles.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models.vision_roles import MATRICES, conv_layers, find_layers
from tunesmith.types import Anatomy, PictureForm

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_STAGE_SHARE = 0.9
"""Share of a module's weights that equal parts must hold for it to be a stage and not a block."""

_LONGEST_STEM = 4
"""Convolutions in a row that may be a stem; a longer row is the net itself (VGG)."""


def find_vision_anatomy(
    model: nn.Module,
    *,
    library: str,
    newly_drawn: Collection[str] = (),
    form: PictureForm | None = None,
) -> Anatomy:
    """Read a picture model's parts; ModelError if it has no head or no layer that could learn.

    library: transformers, timm or torchvision. newly_drawn: names of parameters that no pretrained file brought.
    form: the size of the picture that one trial pass shows the model; None: no trial pass, every layer is taken as it
    looks.
    """
    head = find_head(model, library)
    blocks = tuple(_blocks(model, skipped=head))
    layers, attention, heads = find_layers(model, blocks, head, form=form)
    classifier = tuple(h for h in head if any(_inside(n, h) for n in newly_drawn)) or head[-1:]
    return Anatomy(
        head=head,
        classifier=classifier,
        blocks=blocks,
        attention=attention,
        layers=tuple(replace(x, block=-1) if any(_inside(x.name, h) for h in head) else x for x in layers),
        embeddings=_embeddings(model, blocks, head),
        hidden_size=_feature_width(model, head),
        heads=heads,
    )


def _inside(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


# The head


def find_head(model: nn.Module, library: str) -> tuple[str, ...]:
    """Names of the modules that turn features into logits. ModelError if there are none."""
    found = {"timm": _timm_head, "transformers": _transformers_head}.get(library, _last_top_module)(model)
    found = tuple(name for name in found if next(model.get_submodule(name).parameters(), None) is not None)
    if not found:
        raise ModelError(f"{type(model).__name__} has no classifier: give the model a head for the labels first.")
    return found


def _timm_head(model: Any) -> tuple[str, ...]:
    given = model.get_classifier()
    wanted = {id(m) for m in (given if isinstance(given, tuple | list) else (given,)) if isinstance(m, nn.Module)}
    found = tuple(name for name, module in model.named_modules() if id(module) in wanted and name)
    return tuple(name for name in found if not any(_inside(name, other) for other in found if other != name))


def _transformers_head(model: nn.Module) -> tuple[str, ...]:
    prefix = getattr(model, "base_model_prefix", "")
    if prefix not in dict(model.named_children()):
        return _last_top_module(model)
    children = [(n, m) for n, m in model.named_children() if n != prefix and next(m.parameters(), None) is not None]
    return tuple(n for n, m in children if "norm" not in type(m).__name__.lower())


def _last_top_module(model: nn.Module) -> tuple[str, ...]:
    """The module at the top that holds the last matrix: `fc`, or a container such as `classifier`."""
    last = [name for name, module in model.named_modules() if isinstance(module, MATRICES)]
    return (last[-1].split(".")[0],) if last else ()


def _feature_width(model: nn.Module, head: tuple[str, ...]) -> int:
    for name in head:
        for module in model.get_submodule(name).modules():
            if isinstance(module, nn.Linear):
                return module.in_features
            if isinstance(module, nn.Conv2d):
                return module.in_channels
    return 0


def _embeddings(model: nn.Module, blocks: tuple[str, ...], head: tuple[str, ...]) -> tuple[str, ...]:
    """What stands in front of the first block: modules and parameters (patches, positions, class token, stem)."""
    found: list[str] = []
    for name, _ in model.named_parameters():
        if any(_inside(name, b) for b in blocks[:1]):
            break
        owner = name.rpartition(".")[0] or name
        owner = name if any(_inside(b, owner) for b in blocks) else owner
        if not any(_inside(name, h) for h in (*head, *blocks)) and owner not in found:
            found.append(owner)
    return tuple(found)


# Blocks


def _blocks(model: nn.Module, skipped: tuple[str, ...]) -> Iterator[str]:
    """Names of the blocks in order; where a net is one flat row of layers (VGG), each convolution is one."""
    modules = dict(model.named_modules())
    stem = {layer.name for layer in conv_layers(model) if layer.role == "stem"}
    found = [n for n in _divided("", model, skipped, element=False) if not any(_inside(s, n) for s in stem)]
    first = next((i for i, name in enumerate(found) if _matrices(modules[name]) > 1), 0)
    if first <= _LONGEST_STEM:  # single convolutions in front, in a part of their own
        found = [n for i, n in enumerate(found) if i >= first or n.split(".")[0] == found[first].split(".")[0]]
    if not found:
        raise ModelError(f"{type(model).__name__} has no stack of blocks; tunesmith cannot tell its parts apart.")
    yield from found


def _divided(name: str, module: nn.Module, skipped: tuple[str, ...], *, element: bool) -> Iterator[str]:
    """The blocks inside a module, or its own name if it is one. element: whether it is a member of a list or stage."""
    if name and (any(_inside(name, s) for s in skipped) or name.startswith("aux")):  # heads for training only
        return
    element = element and not any(_inside(s, name) for s in skipped)
    children = [(f"{name}.{n}".lstrip("."), m) for n, m in module.named_children() if _matrices(m)]
    if isinstance(module, MATRICES):
        if element or "." not in name:  # a last convolution behind all blocks is one more of them
            yield name
    elif isinstance(module, _LISTS) and (_has_parts(module) or len(children) > _LONGEST_STEM):
        for child, part in children:
            yield from _divided(child, part, skipped, element=True)
    elif element and not _is_stage(module):
        yield name
    else:
        parts = bool(name) and (element or _is_stage(module))
        for child, part in children:
            alone = not name and _matrices(part) > 1 and not _holds_stage(part)
            yield from _divided(child, part, skipped, element=parts or alone)


def _is_stage(module: nn.Module) -> bool:
    """Whether a module holds a list of equal parts, or numbered equal parts of its own, with most of its weights."""
    size = _size([module])
    for group in (m for m in module.children() if isinstance(m, _LISTS)):
        members = [m for m in group.children() if _matrices(m)]
        if _equal(members) and _size(members) >= size / 2:
            return True
    named = [(name, m) for name, m in module.named_children() if _matrices(m)]
    numbered = len(named) > 1 and len({name.rstrip("0123456789") for name, _ in named}) == 1
    members = [m for _, m in named]
    return numbered and _equal(members) and _size(members) >= _STAGE_SHARE * size


def _equal(members: list[nn.Module]) -> bool:
    kinds = {type(m) for m in members}
    alike = len(kinds) == 1 and not kinds & set(_LISTS) and nn.MultiheadAttention not in kinds
    return alike and all(_matrices(m) > 1 for m in members)


def _has_parts(module: nn.Module) -> bool:
    """Whether some member of a list is itself made of layers, so that the list is a row of parts, not of layers."""
    return any(_matrices(m) and not isinstance(m, MATRICES) for m in module.children())


def _holds_stage(module: nn.Module) -> bool:
    members = (x for m in module.modules() if isinstance(m, _LISTS) for x in m.children())
    rows = any(_matrices(x) > 1 and not isinstance(x, MATRICES) for x in members)
    return isinstance(module, _LISTS) or rows or any(_is_stage(m) for m in module.modules())


def _size(modules: list[nn.Module]) -> int:
    return sum(p.numel() for m in modules for p in m.parameters())


def _matrices(module: nn.Module) -> int:
    return sum(isinstance(m, MATRICES) for m in module.modules())
