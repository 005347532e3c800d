"""A model and encoded examples to raw scores: in order, in evaluation mode, shared among the processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import nn

from tunesmith.data.batches import evaluation_order
from tunesmith.pulse import pulse
from tunesmith.tasks.base import Task
from tunesmith.train.device import Device
from tunesmith.train.memory import thrifty

TOKENS = 4096  # padded tokens a forward pass; memory does not grow with the number of examples


class Encodings(Protocol):
    """Encoded examples by number."""

    lengths: np.ndarray

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, np.ndarray]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the data ready to score: encodings, targets, and the label names that targets count in."""

    encoded: Encodings
    targets: np.ndarray
    labels: tuple[str, ...]


def logits_of(model: nn.Module, encoded: Encodings, *, task: Task, processor: Any, device: Device) -> np.ndarray:
    """Raw scores [examples, classes], float32, in the order of the examples. Leaves the model in evaluation mode."""
    model.eval()
    found: list[tuple[int, np.ndarray]] = []
    batches = evaluation_order(encoded.lengths, TOKENS)
    for indices in thrifty(batches[device.rank :: device.processes]):
        pulse(len(found) * device.processes, len(encoded))
        batch = task.collate([encoded[int(i)] for i in indices], None, processor)
        with device.arithmetic():
            scores = task.predict(model, device.move(batch))
        found += zip((int(i) for i in indices), scores, strict=True)
    found = sorted(device.gather(found), key=lambda pair: pair[0])
    return np.stack([scores for _, scores in found]) if found else np.zeros((0, 0), dtype=np.float32)


def score(model: nn.Module, part: Part, *, task: Task, processor: Any, device: Device) -> dict[str, float]:
    """All scores of the task on one part of the data."""
    logits = logits_of(model, part.encoded, task=task, processor=processor, device=device)
    return task.score(logits, part.targets, part.labels)
