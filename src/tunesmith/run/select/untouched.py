"""What an untouched model makes of examples, before any head: one vector each, in the ways that a head could take it.

Texts: the last layer's states of all tokens, as their mean and as the first token (for a model that reads from left to
right: the last token). Pictures: what enters the head; maps and tokens are averaged over places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunesmith.data.batches import evaluation_order
from tunesmith.evaluate.evaluate import TOKENS
from tunesmith.run.pace import timed
from tunesmith.tasks.base import Task
from tunesmith.train.device import Device
from tunesmith.types import Batch, Example, Pretrained

PICTURES = 16
"""Pictures a forward pass."""

MEAN, FIRST, LAST, HEAD = "mean over tokens", "first token", "last token", "what enters the head"


@dataclass(frozen=True, slots=True)
class Untouched:
    """features: by how they were taken, float32 [examples, features]. examples_a_second: of forward passes alone."""

    features: Mapping[str, np.ndarray]
    examples_a_second: float


def features_of(
    task: Task, pretrained: Pretrained, examples: Sequence[Example], lengths: np.ndarray, device: Device
) -> Untouched:
    """One pass over the examples in evaluation mode. lengths: tokens of each after the cut (pictures: anything)."""
    model = pretrained.model.eval()
    taken: dict[str, list[tuple[int, np.ndarray]]] = {}
    rows, seconds = 0, 0.0
    texts = task.kind == "texts"
    order = evaluation_order(lengths, TOKENS) if texts else np.array_split(
        np.arange(len(examples)), -(-len(examples) // PICTURES))  # fmt: skip
    for number, indices in enumerate(order):
        encoded = task.encode([examples[int(i)] for i in indices], pretrained.processor)
        batch = device.move(task.collate(encoded, None, pretrained.processor))
        if not number:
            _forward(pretrained, model, batch, device, texts=texts)  # the first pass warms up, and is not timed
        found: dict[str, Tensor] = {}

        def run(batch: Batch = batch, found: dict[str, Tensor] = found) -> None:
            found.update(_forward(pretrained, model, batch, device, texts=texts))

        seconds += timed(run)
        rows += len(indices)
        for way, vectors in found.items():
            taken.setdefault(way, []).extend(zip((int(i) for i in indices), vectors.float().cpu().numpy(), strict=True))
    features = {way: np.stack([v for _, v in sorted(pairs, key=lambda p: p[0])]) for way, pairs in taken.items()}
    return Untouched(features, rows / max(seconds, 1e-9))


def _forward(
    pretrained: Pretrained, model: nn.Module, batch: Batch, device: Device, *, texts: bool
) -> dict[str, Tensor]:
    with torch.inference_mode(), device.arithmetic():
        return _of_texts(model, batch) if texts else {HEAD: _of_pictures(model, pretrained.anatomy.head[0], batch)}


def _of_texts(model: Any, batch: Batch) -> dict[str, Tensor]:
    backbone = getattr(model, model.base_model_prefix)
    hidden: Tensor = backbone(**batch.inputs)[0]
    mask = batch.inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    found = {MEAN: (hidden * mask).sum(1) / mask.sum(1)}
    if reads_left_to_right(model.config):
        last = batch.inputs["attention_mask"].sum(1) - 1
        return found | {LAST: hidden[torch.arange(len(hidden), device=hidden.device), last]}
    return found | {FIRST: hidden[:, 0]}


def reads_left_to_right(config: Any) -> bool:
    """Whether a text model's first token sees nothing but itself."""
    from transformers.models.auto import modeling_auto as auto

    kind = getattr(config, "model_type", "")
    return kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES


def _of_pictures(model: nn.Module, head: str, batch: Batch) -> Tensor:
    """The first tensor that enters the head's first module, as one vector an example."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.extend(each for each in (*given, *named.values()) if isinstance(each, Tensor))

    handle = model.get_submodule(head).register_forward_pre_hook(keep, with_kwargs=True)
    try:
        model(next(iter(batch.inputs.values())))
    finally:
        handle.remove()
    found = seen[0]
    if found.dim() == 4:
        return found.mean(dim=(2, 3))
    return found.mean(dim=1) if found.dim() == 3 else found
