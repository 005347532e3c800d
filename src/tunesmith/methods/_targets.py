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
WHOLE_CONVS = ("spatial", "pointwise")
"""Convolutions that mix all channels."""
SPARSE_CONVS = ("depthwise", "grouped")
"""Convolutions that do not; `all` leaves them out."""


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
"""`all` linear layers inside the blocks and, on a conv net, the convolutions there that mix all channels; those of
`attention`, those of the feed-forward part (`mlp`), or a list of these words, roles (`query`, `key`, `value`,
`query_key_value`, `attention_output`, `up`, `gate`, `gate_up`, `down`, `spatial`, `pointwise`, `depthwise`, `grouped`)
and, for what is no role, regular expressions that are searched in layers' names."""


def choose_layers(anatomy: Anatomy, targets: Targets, *, convs: tuple[str, ...] = ()) -> tuple[Layer, ...]:
    """The layers inside blocks that `targets` names, in order of depth. ModelError if a word fits none.

    convs: roles of the convolutions that the method can change; linear layers it always can.
    """
    layers = _usable(anatomy, convs)
    if targets == "all":
        layers = tuple(layer for layer in layers if layer.role not in SPARSE_CONVS)
    if not layers:
        raise ModelError(_nothing(anatomy, convs))
    if targets == "all":
        return layers
    chosen: set[str] = set()
    for word in (targets,) if isinstance(targets, str) else targets:
        roles = GROUPS.get(word, (word,))
        found = {layer.name for layer in layers if layer.role in roles}
        found = found or {layer.name for layer in layers if re.search(word, layer.name)}
        if not found:
            raise ModelError(f'method.targets: "{word}" {_why(anatomy, word, convs)}. {_known(layers)}')
        chosen |= found
    return tuple(layer for layer in layers if layer.name in chosen)


def layers_of(anatomy: Anatomy, *roles: str, wanted: str) -> tuple[Layer, ...]:
    """The layers inside blocks with one of these roles; ModelError that says what `wanted` lacked if there are none."""
    layers = anatomy.of(*roles)
    if not layers:
        raise ModelError(f"This model has no layers for {wanted} ({', '.join(roles)}). {_known(anatomy.of())}")
    return layers


def convs_of(anatomy: Anatomy, *roles: str) -> tuple[Layer, ...]:
    """The convolutions inside blocks with one of these roles."""
    return tuple(x for x in anatomy.layers if x.block >= 0 and x.kind == "conv" and x.role in roles)


def _usable(anatomy: Anatomy, convs: tuple[str, ...]) -> tuple[Layer, ...]:
    inside = (layer for layer in anatomy.layers if layer.block >= 0)
    return tuple(x for x in inside if x.kind in ("linear", "conv1d") or (x.kind == "conv" and x.role in convs))


def _nothing(anatomy: Anatomy, convs: tuple[str, ...]) -> str:
    if not convs and not convs_of(anatomy, *WHOLE_CONVS):
        return "This model has no linear layers inside blocks. Methods that need none: full, head."
    if not convs:
        return (
            "This method changes linear layers, and this model has none inside its blocks, only convolutions. "
            "Methods that work here: lora, lokr, loha, ia3, adapter, norm_tuning, full."
        )
    return (
        "This model has neither linear layers nor plain convolutions inside its blocks that an adapter could stand "
        "beside. Methods that work here: full, head."
    )


def _why(anatomy: Anatomy, word: str, convs: tuple[str, ...]) -> str:
    if word in (*WHOLE_CONVS, *SPARSE_CONVS) and word not in convs and convs_of(anatomy, word):
        return f"layers are there, but this method cannot change {word} convolutions"
    return "is no role and in no layer's name"


def _known(layers: tuple[Layer, ...]) -> str:
    roles = ", ".join(sorted({layer.role for layer in layers})) or "none"
    kinds = "Layers" if any(layer.kind == "conv" for layer in layers) else "Linear layers"
    first = ", ".join(x.name for x in layers if x.block == layers[0].block) if layers else "none"
    return f"Roles found here: {roles}. {kinds} of the first block: {first}."


def refuse_turned(layers: tuple[Layer, ...], method: str) -> None:
    """ModelError where layers store their weights turned (GPT-2's Conv1D), for which peft lacks some methods."""
    if any(layer.kind == "conv1d" for layer in layers):
        raise ModelError(
            f"This model stores its layers' weights turned (Conv1D), which peft's {method} cannot change. "
            "Methods that work here: lora, adalora, ia3, vera, adapter."
        )
