"""What a network makes of an input before its head, one vector an example, at a place that exists under any wrapper.

A text: the mean of the backbone's last states over its tokens (learned ones in front of it are left out). A picture:
what enters the head. A detector: the last map of its backbone, averaged over places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunesmith.data.batches import evaluation_order
from tunesmith.errors import ModelError
from tunesmith.evaluate.evaluate import TOKENS, Encodings
from tunesmith.models.first_token import all_tokens
from tunesmith.models.gradients import sound_gradients
from tunesmith.tasks.base import Task
from tunesmith.tasks.image_classification import answer
from tunesmith.train.device import Device
from tunesmith.train.memory import thrifty
from tunesmith.types import Anatomy, Batch


def inner_model(model: nn.Module) -> nn.Module:
    """The network inside a peft wrapper, its layers with their adapters in place; any other model as it is."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    assert isinstance(inner, nn.Module)
    return inner


def logits(model: nn.Module, batch: Batch) -> Tensor:
    """Logits [examples, classes] of a classifier in float32, with gradient."""
    if "input_ids" in batch.inputs:
        found: Tensor = model(**batch.inputs).logits.float()
        return found
    with sound_gradients(model):
        return answer(model, batch)


def hidden_states(model: nn.Module, batch: Batch) -> Tensor:
    """States [examples, tokens, hidden] of a text model's backbone behind its last block and norm, float32."""
    inner: Any = inner_model(model)
    backbone = getattr(inner, inner.base_model_prefix)
    with all_tokens(inner), _seen(backbone, _first_output) as seen:
        model(**batch.inputs)
    states = seen[-1]
    return states[:, -batch.inputs["input_ids"].shape[1] :].float()  # without learned tokens in front


def features(model: nn.Module, batch: Batch, task: Task, anatomy: Anatomy) -> Tensor:
    """One vector an example, float32 [examples, size], with gradient where gradients are on.

    A detector in training needs a batch with boxes, since only its loss runs it with gradient.
    """
    inner = inner_model(model)
    if task.kind == "texts":
        states = hidden_states(model, batch)
        mask = batch.inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
        return (states * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)
    if task.kind == "images":
        with _seen(inner.get_submodule(anatomy.head[0]), _first_input) as seen:
            logits(model, batch)
        return _pooled(seen[-1], anatomy.hidden_size)
    if not anatomy.blocks:
        raise ModelError(f"{type(inner).__name__} has no blocks that features could be taken from.")
    with _seen(inner.get_submodule(anatomy.blocks[-1]), _first_output) as seen:
        if batch.labels is not None:
            task.loss(model, batch)
        else:
            task.predict(model, batch)
    return _pooled(torch.cat(seen)[: len(batch)], 0)  # some detectors read picture after picture


def features_of(
    model: nn.Module, encoded: Encodings, *, task: Task, processor: Any, device: Device, anatomy: Anatomy
) -> np.ndarray:
    """The features of many examples in their order, float32 [examples, size]; leaves the model in evaluation mode."""

    def one(batch: Batch, _indices: np.ndarray) -> np.ndarray:
        found: np.ndarray = features(model, batch, task, anatomy).float().cpu().numpy()
        return found

    return gathered(model, encoded, one, task=task, processor=processor, device=device)


def gathered(
    model: nn.Module,
    encoded: Encodings,
    each: Callable[[Batch, np.ndarray], np.ndarray],
    *,
    task: Task,
    processor: Any,
    device: Device,
) -> np.ndarray:
    """What `each` gives for batches without labels and the numbers of their examples, a row an example, in their order;
    shared among processes."""
    model.eval()
    found: list[tuple[int, np.ndarray]] = []
    for indices in thrifty(evaluation_order(encoded.lengths, TOKENS)[device.rank :: device.processes]):
        batch = task.collate([encoded[int(i)] for i in indices], None, processor)
        with device.arithmetic(), torch.no_grad():
            rows = each(device.move(batch), indices)
        found += zip((int(i) for i in indices), rows, strict=True)
    return np.stack([row for _, row in sorted(device.gather(found), key=lambda pair: pair[0])])


@contextmanager
def in_float32(device: Device) -> Iterator[None]:
    """Answers in float32 arithmetic, so that a divergence of 0 means the same model, whatever training uses."""
    before, device.precision = device.precision, "float32"
    try:
        yield
    finally:
        device.precision = before


Look = Callable[[tuple[Any, ...], dict[str, Any], Any], Any]


def _first_input(given: tuple[Any, ...], named: dict[str, Any], _output: Any) -> Any:
    return given[0] if given else next(iter(named.values()))


def _first_output(_given: tuple[Any, ...], _named: dict[str, Any], output: Any) -> Any:
    return output if isinstance(output, Tensor) else output[0]


@contextmanager
def _seen(module: nn.Module, look: Look) -> Iterator[list[Tensor]]:
    """While the block runs, the list fills with what `look` picks of each call of the module."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        seen.append(look(given, named, output))

    handle = module.register_forward_hook(keep, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def _pooled(values: Tensor, size: int) -> Tensor:
    """[examples, size] of a vector, of tokens [examples, tokens, size], or of a map whose channels stand first, or
    last where only that fits `size`."""
    values = values.float()
    if values.dim() == 4 and (values.shape[1] == size or values.shape[3] != size):
        return values.mean(dim=(2, 3))
    return values.flatten(1, -2).mean(dim=1) if values.dim() > 2 else values
