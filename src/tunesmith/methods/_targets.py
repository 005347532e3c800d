"""Which layers a method works on: words of a recipe to layers of an anatomy, by role and never by architecture."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator

from tunesmith.errors import ModelError
from tunesmith.types import Anatomy, Layer

GROUPS = {
    "attention": ("query", "key", "value", "query_key_value", "attention_output"),
    "mlp": ("up", "gate", "gate_up", "down"),
}


def _patterns(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words:
        raise ValueError('name at least one role or pattern, or write "all", "attention" or "mlp"')
    for word in words:
        try:
            re.compile(word)
        except re.error as fault:
            raise ValueError(f'"{word}" is no regular expression: {fault}') from fault
    return words


Targets = Literal["all", "attention", "mlp"] | Annotated[tuple[str, ...], AfterValidator(_patterns)]
"""`all` linear layers inside the blocks, those of `attention`, those of the feed-forward part (`mlp`), or a list of
these words, roles (`query`, `key`, `value`, `query_key_value`, `attention_output`, `up`, `gate`, `gate_up`, `down`)
and, for what is no role, regular expressions that are searched in layers' names."""


def choose_layers(anatomy: Anatomy, targets: Targets) -> tuple[Layer, ...]:
    """The linear layers inside blocks that `targets` names, in order of depth. ModelError if a word fits none."""
    layers = anatomy.of()
    if not layers:
        raise ModelError("This model has no linear layers inside blocks. Methods that need none: full, head.")
    if targets == "all":
        return layers
    chosen: set[str] = set()
    for word in (targets,) if isinstance(targets, str) else targets:
        roles = GROUPS.get(word, (word,))
        found = {layer.name for layer in layers if layer.role in roles}
        found = found or {layer.name for layer in layers if re.search(word, layer.name)}
        if not found:
            raise ModelError(f'method.targets: "{word}" is no role and in no layer\'s name. {_known(layers)}')
        chosen |= found
    return tuple(layer for layer in layers if layer.name in chosen)


def layers_of(anatomy: Anatomy, *roles: str, wanted: str) -> tuple[Layer, ...]:
    """The layers inside blocks with one of these roles; ModelError that says what `wanted` lacked if there are none."""
    layers = anatomy.of(*roles)
    if not layers:
        raise ModelError(f"This model has no layers for {wanted} ({', '.join(roles)}). {_known(anatomy.of())}")
    return layers


def _known(layers: tuple[Layer, ...]) -> str:
    roles = ", ".join(sorted({layer.role for layer in layers})) or "none"
    first = ", ".join(layer.name for layer in layers if layer.block == 0) or "none"
    return f"Roles found here: {roles}. Linear layers of the first block: {first}."
