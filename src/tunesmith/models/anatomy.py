"""Names of a model's parts, found by type, shape and role instead of a list of architectures.

Roles inside a block come from one forward pass over six made-up tokens: what the attention function is handed tells
the query, key and value layers (by gradient: a layer is the query layer if the query depends on it), the order of
calls tells the output layer, shapes tell what widens and narrows. A model that does not call transformers' attention
interface (DeBERTa) is read by shape and by the common parts of names.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.models import attention
from tunesmith.models.quantised import packed
from tunesmith.types import Anatomy, Layer

_NAMED_ROLES = (
    ("query_key_value", re.compile(r"(^|_)(qkv|in_proj|query_key_value|c_attn)")),
    ("query", re.compile(r"^(q|query)(_|$)|_q$")),
    ("key", re.compile(r"^(k|key)(_|$)|_k$")),
    ("value", re.compile(r"^(v|value)(_|$)|_v$")),
)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One attention call: who called, with what, and how many watched layers had run by then."""

    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    layers_before: int


def find_anatomy(model: nn.Module, newly_drawn: Collection[str] = ()) -> Anatomy:
    """Read a transformers text model's parts.

    newly_drawn: names of parameters that no pretrained file brought. A language model has no head: its output layer is
    pretrained. ModelError when no stack of blocks is found.
    """
    blocks = _find_blocks(model)
    layers = tuple(layer for name, module in model.named_modules() if (layer := _layer(name, module, blocks)))
    layers, attention_modules = _with_roles(model, layers, blocks)
    head = () if _writes(model) else _find_head(model, blocks)
    config: Any = getattr(model, "config", None)
    return Anatomy(
        head=head,
        classifier=tuple(h for h in head if any(n.startswith(h + ".") for n in newly_drawn)) or head[-1:],
        blocks=blocks,
        attention=attention_modules,
        layers=layers,
        embeddings=tuple(n for n, m in model.named_modules() if isinstance(m, nn.Embedding)),
        hidden_size=int(getattr(config, "hidden_size", 0) or getattr(config, "dim", 0)),
        heads=int(getattr(config, "num_attention_heads", 0) or getattr(config, "n_head", 0)),
    )


def _find_blocks(model: nn.Module) -> tuple[str, ...]:
    """The module list with the most parameters whose members are of one class; the deepest such list if nested."""
    best: tuple[int, str, nn.ModuleList] | None = None
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or not len(module) or len({type(m) for m in module}) != 1:
            continue
        size = sum(p.numel() for p in module.parameters())
        nested = best is not None and name.startswith(best[1] + ".") and len(module) >= len(best[2])
        if size and (best is None or size > best[0] or (nested and size >= 0.9 * best[0])):
            best = (size, name, module)
    if best is None:
        raise ModelError(f"{type(model).__name__} has no stack of blocks; tunesmith cannot tell its parts apart.")
    return tuple(f"{best[1]}.{i}" for i in range(len(best[2])))


def _layer(name: str, module: nn.Module, blocks: tuple[str, ...]) -> Layer | None:
    block = next((i for i, b in enumerate(blocks) if name.startswith(b + ".")), -1)
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Linear):
        return Layer(name, "linear", "other", block, module.in_features, module.out_features)
    if isinstance(module, nn.Embedding):
        return Layer(name, "embedding", "other", block, module.num_embeddings, module.embedding_dim)
    if type(module).__name__ == "Conv1D" and weight is not None:
        return Layer(name, "conv1d", "other", block, weight.shape[0], weight.shape[1])
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        return Layer(name, "conv", "other", block, module.in_channels, module.out_channels)
    if weight is not None and weight.dim() == 1 and "norm" in type(module).__name__.lower():
        return Layer(name, "norm", "other", block, weight.shape[0], weight.shape[0])
    return None


def _find_head(model: nn.Module, blocks: tuple[str, ...]) -> tuple[str, ...]:
    """Modules with parameters that come after the blocks: outside the backbone, or in it behind the blocks' stack
    (BERT's pooler). Norms behind the last block belong to the backbone."""
    prefix = getattr(model, "base_model_prefix", "")
    backbone = getattr(model, prefix, None) if prefix else None
    found: list[str] = []
    if isinstance(backbone, nn.Module):
        seen_blocks = False
        for name, child in backbone.named_children():
            full = f"{prefix}.{name}"
            if blocks[0].startswith(full + "."):
                seen_blocks = True
            elif seen_blocks and _has_parameters(child) and "norm" not in type(child).__name__.lower():
                found += [full] if not isinstance(child, nn.Embedding) and "embed" not in name else []
    found += [n for n, child in model.named_children() if n != prefix and _has_parameters(child)]
    return tuple(found)


def _writes(model: nn.Module) -> bool:
    """Whether it is a language model: its output layer over the vocabulary is pretrained like the rest of it."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
    return isinstance(output, nn.Module)


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _with_roles(
    model: nn.Module, layers: tuple[Layer, ...], blocks: tuple[str, ...]
) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    """Roles for the linear layers inside blocks, and the names of the attention modules in order."""
    wanted = {layer.name: layer for layer in layers if layer.block >= 0 and layer.kind in ("linear", "conv1d")}
    calls, attentions = _probe(model, set(wanted))
    roles: dict[str, str] = {}
    known: set[int] = set()
    for seen in attentions:
        if id(seen.module) not in known:  # a block that is shared over depths (ALBERT) is read at its first call
            roles.update(_attention_roles(seen, calls, wanted))
        known.add(id(seen.module))
    if not attentions:
        roles.update(_roles_from_names(wanted))
    roles.update(_feed_forward_roles(calls, wanted, roles, bool(attentions)))
    names = {id(module): name for name, module in model.named_modules()}
    attention_names = tuple(dict.fromkeys(names[id(seen.module)] for seen in attentions if id(seen.module) in names))
    return tuple(replace(x, role=roles[x.name]) if x.name in roles else x for x in layers), attention_names


def _probe(model: nn.Module, wanted: set[str]) -> tuple[dict[str, tuple[int, Tensor, Tensor]], list[_Seen]]:
    """One forward pass over six tokens: per layer its place in the order of calls, input and output; and what each
    attention call was handed. Leaves modes, gradients and random state as they were."""
    calls: dict[str, tuple[int, Tensor, Tensor]] = {}
    attentions: list[_Seen] = []

    def watch(module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> None:
        attentions.append(_Seen(module, query, key, value, len(calls)))

    def hook(name: str) -> Any:
        def keep(_module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            calls.setdefault(name, (len(calls), given[0], output))

        return keep

    handles = [m.register_forward_hook(hook(n)) for n, m in model.named_modules() if n in wanted]
    training, required = model.training, {n: p.requires_grad for n, p in model.named_parameters()}
    device = next(model.parameters()).device
    try:
        model.eval()
        for parameter in model.parameters():  # those in few bits can have no gradient
            parameter.requires_grad_(not packed(parameter))
        with torch.enable_grad(), torch.random.fork_rng(devices=[]), attention.watching(watch):
            ids = torch.arange(3, 9, device=device).remainder(_vocabulary(model)).unsqueeze(0)
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(required[name])
    return calls, attentions


def _vocabulary(model: nn.Module) -> int:
    return next(m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding))


def _attention_roles(
    seen: _Seen, calls: dict[str, tuple[int, Tensor, Tensor]], wanted: dict[str, Layer]
) -> dict[str, str]:
    before = [n for n, (order, _, _) in calls.items() if order < seen.layers_before]
    block = wanted[before[-1]].block if before else -1
    inside = [n for n in before if wanted[n].block == block]
    outputs = [calls[n][2] for n in inside]
    depends: dict[str, set[str]] = {n: set() for n in inside}
    for role, tensor in (("query", seen.query), ("key", seen.key), ("value", seen.value)):
        gradients = torch.autograd.grad(tensor.sum(), outputs, retain_graph=True, allow_unused=True)
        for name, gradient in zip(inside, gradients, strict=True):
            if gradient is not None:
                depends[name].add(role)
    roles = {n: next(iter(d)) if len(d) == 1 else "query_key_value" for n, d in depends.items() if d}
    behind = next((n for n, (order, _, _) in calls.items() if order == seen.layers_before), None)
    if behind is not None and wanted[behind].block == block:
        roles[behind] = "attention_output"
    return roles


def _roles_from_names(wanted: dict[str, Layer]) -> dict[str, str]:
    roles: dict[str, str] = {}
    for name in wanted:
        last = name.rpartition(".")[2].lower()
        for role, pattern in _NAMED_ROLES:
            if pattern.search(last):
                roles[name] = role
                break
    return roles


def _feed_forward_roles(
    calls: dict[str, tuple[int, Tensor, Tensor]], wanted: dict[str, Layer], known: dict[str, str], probed: bool
) -> dict[str, str]:
    """up, gate and down among what attention does not use; without a probe, the first left over is its output."""
    roles: dict[str, str] = {}
    by_block: dict[int, list[Layer]] = {}
    for name in sorted(calls, key=lambda n: calls[n][0]):
        if name not in known:
            by_block.setdefault(wanted[name].block, []).append(wanted[name])
    for rest in by_block.values():
        if not probed and len(rest) > 1 and rest[0].inputs == rest[0].outputs:
            roles[rest.pop(0).name] = "attention_output"
        for i, down in enumerate(rest):
            ups = [u for u in rest[:i] if u.outputs in (down.inputs, 2 * down.inputs) and u.inputs == down.outputs]
            if not ups or down.name in roles:
                continue
            roles[down.name] = "down"
            roles.update({u.name: "up" if u.outputs == down.inputs else "gate_up" for u in ups})
            if [u.outputs for u in ups] == [down.inputs] * 2:
                _, given, _ = calls[down.name]
                first = calls[ups[0].name][2]
                slope = torch.autograd.grad(given.sum(), first, retain_graph=True, allow_unused=True)[0]
                linear = slope is not None and torch.allclose(slope * first, given, rtol=1e-3, atol=1e-5)
                roles[ups[1 if linear else 0].name] = "gate"
    return roles
