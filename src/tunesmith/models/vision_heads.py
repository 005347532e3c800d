"""The output layer of any picture classifier: one output a label; labels that are already known keep their rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.models.vision_cards import imagenet_names, synonyms

Names = Sequence[Sequence[str]]
"""For each output the names it goes by; empty where they are unknown."""

WORDNET = re.compile(r"n\d{8}")
"""The number that a class of ImageNet also goes by."""

_NO_NAME = re.compile(r"LABEL_\d+")


def output_layer(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The last linear layer or 1 x 1 convolution, in the order of definition: the one that gives the logits."""
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1))
    ]
    if not found:
        raise ModelError(
            f"{type(model).__name__} has no linear layer or 1 x 1 convolution that could give its answers."
        )
    return found[-1]


def outputs(layer: nn.Linear | nn.Conv2d) -> int:
    """How many values the layer gives."""
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def replace_output(model: nn.Module, name: str, count: int) -> nn.Module:
    """Put a layer of the same kind with `count` outputs in its place, freshly drawn; gives the new layer.

    Modules around it that keep their number of classes (timm) are told.
    """
    old: Any = model.get_submodule(name)
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, count, bias=old.bias is not None)
    else:
        new = nn.Conv2d(old.in_channels, count, 1, stride=old.stride, bias=old.bias is not None)
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, new)
    for above in (model, *(model.get_submodule(name[:at]) for at, letter in enumerate(name) if letter == ".")):
        if isinstance(getattr(above, "num_classes", None), int):
            above.__dict__["num_classes"] = count
    return new


def names_of(labels: Sequence[str] | None) -> Names:
    """Names of each output from a config's labels; ImageNet's thousand go by all their synonyms."""
    if not labels or all(_NO_NAME.fullmatch(label) for label in labels):
        return ()
    if len(labels) == 1000 and "tench" in labels[0]:
        return tuple((*known, label) for known, label in zip(imagenet_names(), labels, strict=True))
    return tuple(synonyms(label) for label in labels)


def fit_outputs(
    model: nn.Module, layers: Sequence[str], known: Names, labels: Sequence[str], resize: Callable[[int], None]
) -> set[str]:
    """Give the model one output a label, in the order of `labels`.

    layers: the output layers (distilled networks have two). known: the names that the rows read from a file go by.
    resize: redraws the layers for that many outputs, from torch's own generator. A label that a row goes by keeps that
    row. Gives the names of the parameters that hold newly drawn rows.
    """
    rows = kept_rows(known, labels)
    before = {name: _rows(model.get_submodule(name)) for name in layers}
    if list(rows) == list(range(len(labels))) and all(rows[i] == i for i in rows) and _same(before, len(labels)):
        return set()
    resize(len(labels))
    drawn: set[str] = set()
    for name in layers:
        for own, new in _rows(model.get_submodule(name)).items():
            with torch.no_grad():
                for to, origin in rows.items():
                    new[to] = before[name][own][origin]
        if len(rows) < len(labels):
            drawn |= {f"{name}.{own}" for own in before[name]}
    return drawn


def kept_rows(known: Names, labels: Sequence[str]) -> dict[int, int]:
    """Label's place -> the row it already has. A name that two rows go by (ImageNet's two cranes) means neither.

    A label that is a row's whole name (`tench, Tinca tinca`), capitals included, has that row for itself: another that
    is only a part of it, or has other capitals, is another class. Else synonyms and any capitals will do.
    """
    whole = [sorted((n for n in names if not WORDNET.fullmatch(n)), key=len)[-1:] for names in known]
    found = _matched(whole, labels, str)
    left = [() if row in found.values() else names for row, names in enumerate(known)]
    return _matched(left, labels, str.casefold) | found


def _matched(rows: Names, labels: Sequence[str], form: Callable[[str], str]) -> dict[int, int]:
    count = Counter(name for names in rows for name in {form(n) for n in names})
    row = {form(n): i for i, names in enumerate(rows) for n in names if count[form(n)] == 1}
    return {place: row[form(label)] for place, label in enumerate(labels) if form(label) in row}


def _rows(layer: nn.Module) -> Mapping[str, Tensor]:
    return {name: parameter.detach() for name, parameter in layer.named_parameters(recurse=False)}


def _same(before: Mapping[str, Mapping[str, Tensor]], count: int) -> bool:
    return all(tensor.shape[0] == count for rows in before.values() for tensor in rows.values())
