"""Reading a picture classifier of torchvision: an architecture and a weight file, or a folder that tunesmith wrote.

The folder holds model.safetensors and config.json:
{"library": "torchvision", "architecture": ..., "arguments": {...}, "num_classes": ..., "labels": [...], "form": {...}}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torchvision
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.models.vet import read_config
from tunesmith.models.vision_form import form_from_json, torchvision_form
from tunesmith.models.vision_heads import Names, names_of, output_layer, outputs, replace_output
from tunesmith.models.vision_read import Read, drawing, read_tensors
from tunesmith.models.vision_source import card_of_source, check_architecture
from tunesmith.models.vision_weights import put
from tunesmith.types import ModelSource

ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "inception_v3": {"aux_logits": False, "transform_input": True, "init_weights": True},
    "googlenet": {"aux_logits": False, "transform_input": True, "init_weights": True},
}
"""As torchvision itself builds these for its ImageNet weights, but without the second classifier in the middle."""

_SECOND = ("AuxLogits.", "aux1.", "aux2.")


def read_torchvision(source: ModelSource, labels: Sequence[str], seed: int) -> Read:
    """The network with as many outputs as its file has, or one a label where no classifier is in it."""
    folder = Path(source.path)
    config = read_config(folder) if folder.is_dir() else {}
    arguments = dict(config.get("arguments") or ARGUMENTS.get(source.architecture, {}))
    card, tensors = card_of_source(source), read_tensors(source)
    with drawing(seed):
        model = build(source.architecture, len(labels), arguments)
        name, layer = output_layer(model)
        if tensors is not None:
            if source.architecture in ARGUMENTS:
                tensors = {n: t for n, t in tensors.items() if not n.startswith(_SECOND)}
            weight = tensors.get(f"{name}.weight")
            if weight is not None and len(weight) != outputs(layer):
                replace_output(model, name, len(weight))
    drawn = set() if tensors is None else put(model, tensors, (name,), source.weights or source.path)
    if "form" in config:
        form = form_from_json(config["form"], folder / "config.json")
    else:
        form = torchvision_form(source.architecture, card.weights if card else "")
    known: Names = ()
    if tensors is not None and not drawn:
        if card and card.weights:
            entry = torchvision.models.get_model_weights(source.architecture)[card.weights]
            known = names_of(entry.meta["categories"])
        elif not source.weights:
            known = names_of([str(label) for label in config.get("labels", ())])
    return Read(model, form, (name,), known, frozenset(drawn), tensors is None, arguments)


def build(architecture: str, classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    """`torchvision.models.get_model` of a classifier, without weights; ModelError where there is none of that name (a
    detector would fetch weights of its backbone by itself), and where the arguments do not fit."""
    check_architecture("torchvision", architecture)
    asking = [name for name in arguments if name.startswith(("weights", "pretrained"))]
    if asking:
        raise ModelError(f"torchvision's {architecture} is built without weights: leave {asking[0]} out of arguments.")
    try:
        model: nn.Module = torchvision.models.get_model(
            architecture, weights=None, num_classes=classes, **dict(arguments)
        )
    except MemoryError:
        raise
    except Exception as error:  # arguments are from a file, and lead to whatever they lead to
        told = " ".join(str(error).split())[:300]
        raise ModelError(
            f"torchvision cannot build {architecture} with {str(dict(arguments))[:200]}: {told}"
        ) from error
    return model
