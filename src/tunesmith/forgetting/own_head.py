"""The head that a pretrained classifier brought itself, read again: loading it for new labels replaced it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.forgetting.headed import OldHead
from tunesmith.models.quiet import quiet
from tunesmith.models.vet import read_config
from tunesmith.models.vision import read_source
from tunesmith.types import PictureForm, Pretrained


def own_head(pretrained: Pretrained) -> OldHead | None:
    """Its head as its files hold it, with all their classes; None where they hold none."""
    if isinstance(pretrained.processor, PictureForm):
        return _of_pictures(pretrained)
    return _of_texts(pretrained)


def _of_pictures(pretrained: Pretrained) -> OldHead | None:
    read = read_source(pretrained.source, ("one", "other"), 0)
    head = pretrained.anatomy.head
    if read.all_drawn or any(_inside(name, head) for name in read.drawn):
        return None
    return _taken(read.model, pretrained, tuple(names[0] for names in read.known))


def _of_texts(pretrained: Pretrained) -> OldHead | None:
    """Only where config.json says that the files hold such a classifier, since reading them takes time."""
    from transformers import AutoModelForSequenceClassification

    folder = Path(pretrained.source.path)
    told = read_config(folder).get("architectures") if folder.is_dir() else None
    if type(pretrained.model).__name__ not in (told or ()):
        return None
    with quiet(), torch.random.fork_rng(devices=[]):
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    if any(_inside(str(name), pretrained.anatomy.head) for name in info["missing_keys"]):
        return None
    names: dict[int, str] = model.config.id2label
    return _taken(model, pretrained, tuple(names[i] for i in range(len(names))))


def _taken(model: nn.Module, pretrained: Pretrained, labels: tuple[str, ...]) -> OldHead | None:
    """The head's modules; None where the loaded model has its parts elsewhere."""
    modules: dict[str, nn.Module] = {}
    for name in pretrained.anatomy.head:
        try:
            module: Any = model.get_submodule(name)
        except AttributeError as error:
            raise ModelError(f"{pretrained.source.name} read again has no {name}, which is its head.") from error
        modules[name] = copy.deepcopy(module).float().requires_grad_(False).eval()
    return OldHead(modules, labels)


def _inside(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)
