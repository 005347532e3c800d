"""Reading a picture classifier of timm: from its own folder form, or from an architecture and a weight file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.models.vet import read_config
from tunesmith.models.vision_cards import Card, imagenet_names
from tunesmith.models.vision_form import timm_form
from tunesmith.models.vision_heads import Names, names_of, output_layer
from tunesmith.models.vision_read import Read, drawing, read_tensors
from tunesmith.models.vision_source import card_of_source
from tunesmith.models.vision_weights import faults, put, renamed_in_order
from tunesmith.types import ModelSource


def read_timm(source: ModelSource, labels: Sequence[str], seed: int) -> Read:
    """The network with as many outputs as its file has, or one a label where no classifier is in it."""
    folder = Path(source.path).is_dir()
    config = read_config(Path(source.path)) if folder else {}
    name = f"local-dir:{source.path}" if folder else source.architecture
    card, tensors = card_of_source(source), read_tensors(source)
    classifier = _classifier(source.architecture, config)
    count = _rows(tensors, classifier, card) or len(labels)
    try:
        with drawing(seed):
            model: nn.Module = timm.create_model(name, num_classes=count)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ModelError(f"timm cannot build {source.architecture} as {source.path} says: {error}") from error
    drawn: set[str] = set()
    if tensors is not None:
        if card and card.in_order:
            tensors = renamed_in_order(tensors, model, source.weights)
        model, drawn = _filled(model, name, tensors, classifier, source)
    form = timm_form(model)
    if card and card.form:
        form = replace(form, **card.form)
    known = () if tensors is None or drawn else _known(config, card, count, own=not source.weights)
    return Read(model, form, output_names(model), known, frozenset(drawn), tensors is None)


def output_names(model: Any) -> tuple[str, ...]:
    """Names of the layers that give logits; distilled networks have two."""
    found = model.get_classifier()
    layers = [m for part in (found if isinstance(found, tuple | list) else (found,)) for m in part.modules()]
    names = tuple(n for n, m in model.named_modules() if any(m is x for x in layers) and isinstance(m, nn.Linear))
    return names or (output_layer(model)[0],)


def _classifier(architecture: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the classifier's modules, by the folder's config or timm's own."""
    told = (config.get("pretrained_cfg") or config).get("classifier")
    if told is None:
        own = timm.get_pretrained_cfg(architecture.partition(".")[0])
        told = own.classifier if own else None
    return (told,) if isinstance(told, str) else tuple(told or ())


def _rows(tensors: Mapping[str, Tensor] | None, classifier: Sequence[str], card: Card | None) -> int | None:
    """How many classes the file's classifier has; None where it has none."""
    if card and card.in_order:
        return 1000  # its names are not yet the network's; every such card is of ImageNet
    weight = (tensors or {}).get(f"{classifier[0]}.weight") if classifier else None
    return int(weight.shape[0]) if weight is not None else None


def _filled(
    model: nn.Module, name: str, tensors: Mapping[str, Tensor], classifier: Sequence[str], source: ModelSource
) -> tuple[nn.Module, set[str]]:
    """The network with the weights in it, and the parameters that they did not bring."""
    where = source.weights or source.path
    if faults(model, tensors, classifier):
        renamed = _through_timm(model, name, tensors)
        if renamed is not None:
            return renamed, set()
    return model, put(model, tensors, classifier, where)


def _through_timm(model: Any, name: str, tensors: Mapping[str, Tensor]) -> nn.Module | None:
    """The same network with weights in another project's names, which timm's own filters rename, strictly; or None."""
    overlay = {"state_dict": dict(tensors), "source": "", "file": None, "custom_load": False}
    overlay["num_classes"] = model.num_classes
    try:
        found: Any = timm.create_model(
            name, pretrained=True, num_classes=model.num_classes, pretrained_cfg_overlay=overlay
        )
    except Exception:  # each filter fails in its own way on weights that are not meant for it
        return None
    found.pretrained_cfg = dict(model.pretrained_cfg)  # without the tensors
    return found  # type: ignore[no-any-return]


def _known(config: Mapping[str, Any], card: Card | None, count: int, *, own: bool) -> Names:
    """Names of the outputs: of a known file, or of a folder that brings its own weights."""
    if card is not None:
        return imagenet_names() if card.imagenet and count == 1000 else ()
    if not own:
        return ()
    told = config.get("pretrained_cfg") or config
    labels = config.get("label_names") or told.get("label_names")
    if isinstance(labels, dict):
        labels = [label for _, label in sorted(labels.items(), key=lambda item: int(item[0]))]
    if labels and len(labels) == count:
        return names_of([str(label) for label in labels])
    return imagenet_names() if count == 1000 and "in1k" in str(told.get("tag", "")) else ()
