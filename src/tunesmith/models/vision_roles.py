"""Layers of a picture model with their roles: convolutions by shape, attention by name, feed-forward parts by shape.

One trial pass over an empty picture tells which layers the model calls as modules. Where a model hands a layer's weight
to a function instead (torchvision's attention, BEiT in timm) or bends it on the way (weight standardisation, padding
worked out while running), an adapter beside the layer would be passed over, or would not merge: such a layer gets the
role `other` (a convolution) or is left out (a linear layer).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tunesmith.types import Layer, PictureForm

MATRICES = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)
"""Layers with a matrix of weights."""

_NAMED_ROLES = (
    ("query_key_value", re.compile(r"(^|_)(qkv|in_proj|query_key_value)$")),
    ("query", re.compile(r"^(q|query|to_q|wq)(_|$)|_q$")),
    ("key", re.compile(r"^(k|key|to_k|wk)(_|$)|_k$")),
    ("value", re.compile(r"^(v|value|to_v|wv)(_|$)|_v$")),
)
_SMALL = 64  # pixels
_WORSE = ("", "plain", "padded", "bent")
_BY_CHANNEL = ("depthwise", "grouped")
_GATE = re.compile(r"gate|_g$|^w1$")


def find_layers(
    model: nn.Module, blocks: Sequence[str], head: Sequence[str], *, form: PictureForm | None
) -> tuple[tuple[Layer, ...], tuple[str, ...], int]:
    """Every layer in order with its role, the names of the attention modules, and the number of attention heads."""
    calls = _called(model, form)
    layers: list[Layer] = []
    for name, module in model.named_modules():
        layer = _layer(name, module, blocks)
        if layer is None:
            continue
        does = calls.get(name, "") if calls is not None else "plain"
        if layer.kind == "linear" and does != "plain":
            continue  # the model never calls it, or bends its weight: nothing beside it would be right
        if layer.kind == "conv" and does != "plain" and not (does == "padded" and layer.role in _BY_CHANNEL):
            layer = layer if layer.role == "stem" else replace(layer, role="other")
        layers.append(layer)
    order = list(calls) if calls is not None else [layer.name for layer in layers]
    roles, attention = _attention_roles(layers, model)
    place = {name: i for i, name in enumerate(order)}
    roles |= _feed_forward_roles(sorted(layers, key=lambda x: place.get(x.name, len(place))), roles)
    found = tuple(replace(x, role=roles[x.name]) if x.name in roles else x for x in layers)
    return found, attention, _heads(model, attention)


def conv_layers(model: nn.Module) -> tuple[Layer, ...]:
    """The convolutions alone, with roles by shape."""
    found = (_layer(name, module, ()) for name, module in model.named_modules())
    return tuple(layer for layer in found if layer is not None and layer.kind == "conv")


def _layer(name: str, module: nn.Module, blocks: Sequence[str]) -> Layer | None:
    block = next((i for i, b in enumerate(blocks) if name == b or name.startswith(b + ".")), -1)
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Linear):
        return Layer(name, "linear", "other", block, module.in_features, module.out_features)
    if isinstance(module, nn.Embedding):
        return Layer(name, "embedding", "other", block, module.num_embeddings, module.embedding_dim)
    if isinstance(module, nn.Conv2d):
        kernel = tuple(module.kernel_size)
        inputs, outputs = module.in_channels, module.out_channels
        return Layer(name, "conv", _conv_role(module), block, inputs, outputs, module.groups, kernel)
    normalises = "norm" in type(module).__name__.lower() or getattr(module, "running_mean", None) is not None
    if isinstance(weight, nn.Parameter) and weight.dim() == 1 and normalises:
        return Layer(name, "norm", "other", block, weight.shape[0], weight.shape[0])
    return None


def _conv_role(conv: nn.Conv2d) -> str:
    if conv.in_channels <= 3 and conv.groups == 1:
        return "stem"
    if conv.groups > 1:
        return "depthwise" if conv.groups == conv.in_channels else "grouped"
    return "pointwise" if all(k == 1 for k in conv.kernel_size) else "spatial"


def _called(model: nn.Module, form: PictureForm | None) -> dict[str, str] | None:
    """How each layer that the model calls computes, in the order of calls (see `_computes`); None without a form.
    Modes and random state are left as they were."""
    if form is None:
        return None
    found: dict[str, str] = {}

    def hook(name: str) -> Any:
        def keep(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            found[name] = max(found.get(name, ""), _computes(module, given, output), key=_WORSE.index)

        return keep

    handles = [m.register_forward_hook(hook(n)) for n, m in model.named_modules() if isinstance(m, MATRICES)]
    modes = [(m, m.training) for m in model.modules()]
    try:
        model.eval()
        try:  # nets that take any size are quickest with a small one
            _show(model, min(_SMALL, form.height), min(_SMALL, form.width))
        except Exception:
            found.clear()
            _show(model, form.height, form.width)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return found


def _show(model: nn.Module, height: int, width: int) -> None:
    first = next(model.parameters())
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        model(torch.linspace(-1, 1, 3 * height * width).reshape(1, 3, height, width).to(first))


def _computes(module: nn.Module, given: tuple[Any, ...], output: Any) -> str:
    """`plain`: what its weight and settings alone say; `padded`: that, but with edges of its own; else `bent`."""
    if type(module) is nn.Linear or (type(module) is nn.Conv2d and module.dilation == (1, 1)):
        return "plain"
    if not given or not isinstance(output, Tensor):
        return "bent"
    if isinstance(module, nn.Linear):
        plain = functional.linear(given[0], module.weight, module.bias)
        return "plain" if torch.allclose(plain, output, rtol=1e-4, atol=1e-5) else "bent"
    if isinstance(module, nn.Conv2d) and "Std" not in type(module).__name__:  # standardised weights
        if type(module).__name__.endswith("Same") or isinstance(module.padding, str) or module.dilation != (1, 1):
            return "padded"
        plain = nn.Conv2d.forward(module, given[0])
        return (
            "plain" if plain.shape == output.shape and torch.allclose(plain, output, rtol=1e-4, atol=1e-5) else "bent"
        )
    return "bent"


def _attention_roles(layers: Sequence[Layer], model: nn.Module) -> tuple[dict[str, str], tuple[str, ...]]:
    """query, key, value and output by the last part of names; and the modules that hold them."""
    roles: dict[str, str] = {}
    parents: list[str] = []
    inside = [layer for layer in layers if layer.kind == "linear" and layer.block >= 0]
    for layer in inside:
        parent, _, own = layer.name.rpartition(".")
        for role, pattern in _NAMED_ROLES:
            if pattern.search(own.lower()):
                roles[layer.name] = role
                parents += [parent] if parent not in parents else []
                break
    for parent in parents:
        # transformers' older form: `attention.attention.query` and `attention.output.dense`
        outer = parent.rpartition(".")[0]
        rest = [x for x in inside if x.name not in roles and x.name.startswith(parent + ".")]
        rest += [x for x in inside if x.name not in roles and x.name.startswith(f"{outer}.output.")]
        width = max(x.outputs if x.name in roles else 0 for x in inside if x.name.startswith(parent + "."))
        outputs = [x for x in rest if x.inputs in (width, width // 3)]
        if outputs and not outer.endswith("output"):
            roles[outputs[0].name] = "attention_output"
    parents += [n for n, m in model.named_modules() if isinstance(m, nn.MultiheadAttention)]
    return roles, tuple(parents)


def _feed_forward_roles(layers: Sequence[Layer], known: dict[str, str]) -> dict[str, str]:
    """up, gate, gate_up and down among the linear layers of a block that attention does not use."""
    roles: dict[str, str] = {}
    by_block: dict[int, list[Layer]] = {}
    for layer in layers:
        if layer.kind == "linear" and layer.block >= 0 and layer.name not in known:
            by_block.setdefault(layer.block, []).append(layer)
    for rest in by_block.values():
        for i, down in enumerate(rest):
            ups = [u for u in rest[:i] if u.outputs in (down.inputs, 2 * down.inputs) and u.inputs == down.outputs]
            ups = [u for u in ups if u.name not in roles]
            if not ups or down.name in roles:
                continue
            roles[down.name] = "down"
            roles |= {u.name: "up" if u.outputs == down.inputs else "gate_up" for u in ups}
            if len(ups) == 2:
                gate = next((u for u in ups if _GATE.search(u.name.rpartition(".")[2])), ups[0])
                roles[gate.name] = "gate"
    return roles


def _heads(model: nn.Module, attention: Sequence[str]) -> int:
    for name in attention:
        module: Any = model.get_submodule(name)
        for field in ("num_heads", "num_attention_heads", "n_heads"):
            if isinstance(getattr(module, field, None), int):
                return int(getattr(module, field))
    return 0
