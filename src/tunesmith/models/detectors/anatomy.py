"""Names of a detector's parts: backbone, neck and head; its blocks and layers as methods see them.

The head is all that the person's labels brought: for a detector over a classifier's network its pyramid, proposals and
predictors; for one that was trained on boxes its class layers. Blocks are those of the backbone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from tunesmith.types import Anatomy, Layer

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_PREDICTOR = re.compile(
    r"(box_predictor|classification_head\.cls_logits|class_labels_classifier|class_embed|enc_score_head|denoising_class_embed"
    r"|classification_head\.module_list)$"
)
_ROLES = (
    ("query_key_value", re.compile(r"(^|_)(qkv|in_proj)")),
    ("query", re.compile(r"^(q|query)(_|$)")),
    ("key", re.compile(r"^(k|key)(_|$)")),
    ("value", re.compile(r"^(v|value)(_|$)")),
    ("attention_output", re.compile(r"^(o|out|output)_proj$")),
    ("up", re.compile(r"^(fc1|linear1)$")),
    ("down", re.compile(r"^(fc2|linear2)$")),
)


@dataclass(frozen=True, slots=True)
class Parts:
    """Names of the modules (or bare parameters) of each part; together they hold every parameter."""

    backbone: tuple[str, ...]
    neck: tuple[str, ...]
    head: tuple[str, ...]


def find_parts(model: nn.Module) -> Parts:
    """backbone: the network that reads the picture; neck: what mixes its maps (pyramid, or a transformer's encoder and
    decoder); head: what proposes and predicts boxes and classes."""
    backbone, neck, head = [], [], []
    inner = "model" if hasattr(model, "model") and hasattr(model, "config") else ""
    for name, module in _split(model, inner):
        last = name.rpartition(".")[2]
        if not any(True for _ in module.parameters()) and not any(True for _ in module.buffers()):
            continue
        if last in ("body", "backbone", "vit", "features", "conv_encoder", "freq_encoder") or name.startswith(
            ("backbone.features", "backbone.extra", "backbone.scale")
        ):
            backbone.append(name)
        elif last == "fpn" or (inner and name.startswith(inner + ".") and not _PREDICTOR.search(name)):
            neck.append(name)
        else:
            head.append(name)
    if inner:
        neck += [f"{inner}.{name}" for name, _ in model.get_submodule(inner).named_parameters(recurse=False)]
    return Parts(tuple(backbone), tuple(neck), tuple(head))


def _split(model: nn.Module, inner: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in model.named_children():
        opened = name == inner or (name == "backbone" and hasattr(child, "fpn"))
        if opened:
            yield from ((f"{name}.{own}", module) for own, module in child.named_children())
        else:
            yield name, child


def find_anatomy(model: nn.Module, drawn: Collection[str]) -> Anatomy:
    """drawn: modules with newly drawn weights, {""} where everything is new."""
    parts = find_parts(model)
    predictors = tuple(n for n, _ in model.named_modules() if _PREDICTOR.search(n))
    fresh = tuple(n for n, m in model.named_modules() if n and n in drawn and any(True for _ in m.parameters()))
    head = fresh or (parts.neck + parts.head if "" in drawn else predictors)
    blocks = tuple(name for part in parts.backbone for name in _blocks(part, model.get_submodule(part)))
    layers = tuple(x for name, module in model.named_modules() if (x := _layer(name, module, blocks)) is not None)
    config = getattr(model, "config", None)
    spec = getattr(model, "spec", None)
    return Anatomy(
        head=head,
        classifier=fresh or predictors,
        blocks=blocks,
        attention=(),
        layers=layers,
        embeddings=tuple(n for n, m in model.named_modules() if isinstance(m, nn.Embedding)),
        hidden_size=int(
            getattr(config, "hidden_size", 0) or getattr(config, "d_model", 0) or getattr(spec, "pyramid", 0)
        ),
        heads=int(getattr(config, "num_attention_heads", 0) or 0),
    )


def _blocks(name: str, module: nn.Module) -> Iterator[str]:
    """The members of stages with at least two layers of weights, in order; a block inside a block is part of it."""
    for own, child in module.named_children():
        full = f"{name}.{own}"
        inside = sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in child.modules())
        member = isinstance(module, _CONTAINERS) or own.isdigit()
        if member and not isinstance(child, _CONTAINERS) and inside >= 2 and not _is_stage(child):
            yield full
        elif inside >= 2:
            yield from _blocks(full, child)


def _is_stage(module: nn.Module) -> bool:
    """A module of its own class that merely holds a list of blocks (ConvNeXt's and ResNet's stages)."""
    lists = [m for m in module.children() if isinstance(m, (nn.Sequential, nn.ModuleList))]
    return any(len(m) and all(sum(isinstance(x, (nn.Conv2d, nn.Linear)) for x in b.modules()) >= 2 for b in m)
               for m in lists)  # fmt: skip


def _layer(name: str, module: nn.Module, blocks: tuple[str, ...]) -> Layer | None:
    block = next((i for i, own in enumerate(blocks) if name.startswith(own + ".")), -1)
    if isinstance(module, nn.Linear):
        last = name.rpartition(".")[2]
        role = next((role for role, pattern in _ROLES if pattern.search(last)), "other")
        return Layer(name, "linear", role, block, module.in_features, module.out_features)
    if isinstance(module, nn.Embedding):
        return Layer(name, "embedding", "other", block, module.num_embeddings, module.embedding_dim)
    if isinstance(module, nn.Conv2d):
        kernel = tuple(int(n) for n in module.kernel_size)
        role = _conv_role(module, kernel)
        return Layer(name, "conv", role, block, module.in_channels, module.out_channels, module.groups, kernel)
    weight = getattr(module, "weight", None)
    if weight is not None and weight.dim() == 1 and not isinstance(module, FrozenBatchNorm2d):
        return Layer(name, "norm", "other", block, weight.shape[0], weight.shape[0])
    return None


def _conv_role(module: nn.Conv2d, kernel: tuple[int, ...]) -> str:
    if module.in_channels == 3:
        return "stem"
    if module.groups > 1:
        return "depthwise" if module.groups == module.in_channels else "grouped"
    return "pointwise" if max(kernel) == 1 else "spatial"
