"""Which methods work on a model, found out by trying each on a copy of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from tunesmith.errors import ModelError
from tunesmith.methods.base import Method, registry
from tunesmith.run.base_model import needs_all_bits
from tunesmith.tasks import base as tasks
from tunesmith.types import Pretrained

ORDER = ("text_classification", "image_classification", "object_detection", "causal_lm")
"""Tasks that are tried where none is named; a GGUF file fits the last alone."""


def fitting(name: str, task: str | None, classes: int) -> list[tuple[str, int | str]]:
    """`probe` of the model that a person named, with a head of so many classes. ModelError where no task can use it."""
    labels = [f"class {number}" for number in range(1, classes + 1)]
    faults: list[ModelError] = []
    for each in (task,) if task is not None else ORDER:
        made = tasks.registry.make(each)
        try:
            source = made.find_model(name, revision=None, weights=None, pretrained=True)
            found = made.load(source, labels, multi_label=False, seed=0)
        except ModelError as fault:
            faults.append(fault)
            continue
        return _probe_copies(found)
    raise max(faults, key=lambda fault: len(str(fault)))


def _probe_copies(found: Pretrained) -> list[tuple[str, int | str]]:
    return probe(lambda: replace(found, model=copy.deepcopy(found.model)))


def probe(pretrained: Callable[[], Pretrained]) -> list[tuple[str, int | str]]:
    """Every method's name with how many values it learns on this model at its default settings, or the reason why it
    does not work there. pretrained: gives a fresh model each time, which is changed."""
    return [(name, _tried(registry.make(name), pretrained())) for name in registry.names()]


def fits(method: Method, pretrained: Pretrained) -> str | None:
    """Why a method, with its settings, does not work on this model; None where it does. The model stays as it is."""
    found = _tried(method, replace(pretrained, model=copy.deepcopy(pretrained.model)))
    return found if isinstance(found, str) else None


def _tried(method: Method, pretrained: Pretrained) -> int | str:
    if why := needs_all_bits(pretrained, method):
        return why
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            model = method.prepare(pretrained)
        except ModelError as reason:
            return str(reason)
    return sum(t.numel() for t in method.learned(model).values() if isinstance(t, nn.Parameter))
