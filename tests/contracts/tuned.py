"""Models that every method has tuned for three steps, and what they were before."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tunesmith.methods.base import Method, registry
from tunesmith.train.randomness import begin
from tunesmith.types import Pretrained

from ..conftest import TINY_LANGUAGE_MODELS
from ..pictures_models import SIDE, tiny_vision
from . import test_language_methods as language
from . import test_methods as texts
from . import test_vision_methods as pictures

TEXT_KINDS = ("bert", "gpt2", "llama")
"""An encoder with a pooler, a decoder that stores its weights turned, and one without biases and with gated layers."""
PICTURE_KINDS = ("timm_resnet", "torchvision_mobilenet", "timm_vit", "hf_vit")
"""Conv nets with BatchNorm, one of them depthwise, and vision transformers of two libraries."""
ROOMS: dict[str, Any] = {
    **dict.fromkeys(TEXT_KINDS, texts),
    **dict.fromkeys(PICTURE_KINDS, pictures),
    **dict.fromkeys(TINY_LANGUAGE_MODELS, language),
}
"""The contract tests of each kind, which know how a method is made and prepared for it."""
ALL = [(name, kind) for kind in ROOMS for name in registry.names()]
ALL += [(case, kind) for case in texts.VARIANTS for kind in ("bert", "gpt2")]
ALL += [(case, kind) for case, kinds in pictures.VARIANT_KINDS.items() for kind in kinds]
ALL += [(case, kind) for case in language.VARIANTS for kind in TINY_LANGUAGE_MODELS]
CASES = [pair for pair in ALL if not any(pair in room.CANNOT for room in (texts, pictures, language))]
QUICK = ("bert", "timm_resnet", "timm_vit", "llama_lm")
"""Kinds that every run of the tests looks at; the others are among the slow tests."""
PARAMS = [
    pytest.param(pair, id=" on ".join(pair), marks=[] if pair[1] in QUICK else [pytest.mark.slow]) for pair in CASES
]
STEPS = 3
OLD_LABELS = 5


@dataclass(frozen=True)
class Tuned:
    """A model after three steps, what was known before the first, and a head of another task on the same network."""

    method: Method
    model: nn.Module
    head_names: tuple[str, ...]
    inputs: Mapping[str, Tensor]
    start: Mapping[str, Tensor]
    untouched: np.ndarray
    tuned: np.ndarray
    old_head: Mapping[str, nn.Module]
    old_logits: np.ndarray


def reads_texts(kind: str) -> bool:
    return kind in (*TEXT_KINDS, *TINY_LANGUAGE_MODELS)


def load(kind: str, tiny: Callable[..., Pretrained], labels: int, seed: int) -> Pretrained:
    return tiny(kind, labels, seed) if reads_texts(kind) else tiny_vision(kind, labels, seed)


def inputs_of(kind: str, pretrained: Pretrained) -> dict[str, Tensor]:
    if reads_texts(kind):
        return texts.batch_of(pretrained)
    drawn = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    return {"pixel_values" if kind.startswith("hf") else "x": drawn}


def logits_of(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    found = model(next(iter(inputs.values()))) if "input_ids" not in inputs else model(**inputs)
    logits: Tensor = getattr(found, "logits", found)
    return logits if logits.dim() == 2 else logits[:, -inputs["input_ids"].shape[1] :]  # each next token's


def loss_of(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    logits = logits_of(model, inputs)
    if logits.dim() == 3:
        return language.loss_of(logits, inputs)
    return nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 1]))


def ask(model: nn.Module, inputs: Mapping[str, Tensor]) -> np.ndarray:
    """Logits in the mode that the model is in."""
    with torch.no_grad():
        return logits_of(model, inputs).numpy()


def update(
    method: Method, model: nn.Module, inputs: Mapping[str, Tensor], optimizer: Any, step: int, steps: int = STEPS
) -> None:
    method.training_mode(model)
    begin(0, step, range(4))
    loss_of(model, inputs).backward()
    method.after_backward(model, step, steps)
    optimizer.step()
    method.after_step(model, step, steps)
    optimizer.zero_grad()


def optimizer_of(method: Method, model: nn.Module, rate: float = 3e-3) -> torch.optim.Optimizer:
    return torch.optim.AdamW([t for t in method.learned(model).values() if isinstance(t, nn.Parameter)], lr=rate)


@functools.cache
def tune(case: str, kind: str, tiny: Callable[..., Pretrained]) -> Tuned:
    room = ROOMS.get(kind, pictures)
    method, old, pretrained = room.make(case), load(kind, tiny, OLD_LABELS, 3), load(kind, tiny, 3, 0)
    inputs = inputs_of(kind, pretrained)
    untouched, old_logits = ask(pretrained.model, inputs), ask(old.model, inputs)
    model = room.prepared(method, pretrained)
    start = texts.copied(method.learned(model))
    optimizer = optimizer_of(method, model, rate=1e-2 if kind in TINY_LANGUAGE_MODELS else 3e-3)
    for step in range(1, STEPS + 1):
        update(method, model, inputs, optimizer, step)
    tuned = ask(model.eval(), inputs)
    old_head = {name: old.model.get_submodule(name) for name in pretrained.anatomy.head}
    return Tuned(method, model, pretrained.anatomy.head, inputs, start, untouched, tuned, old_head, old_logits)


def put(own: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in values.items():
            own[name].copy_(tensor)


def body(tuned: Tuned, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the head, as a retention gets it."""
    heads = [f".{name}." for name in tuned.head_names]
    return {n: t for n, t in tensors.items() if not any(head in f".{n}" for head in heads)}
