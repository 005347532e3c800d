"""Activations at the frozen boundary, computed once: where only the head learns, the network below runs no more.

The features that enter the head are taken while the whole model answers, kept on disk, and the head then learns from
them. Nothing else changes: same order of data, same updates, the same module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunesmith.errors import DiskError
from tunesmith.types import Batch


class HeadAlone(nn.Module):
    """A model's head as a model of its own: features [examples, ...] to logits [examples, classes]."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.head(features)
        return logits


class Features:
    """Features by number, on disk; `lengths` [examples] are all alike."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self._rows = np.asarray(np.memmap(path, dtype=np.float32, mode="r", shape=shape))  # rows without its overhead
        self.lengths = np.ones(shape[0], dtype=np.int32)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        return {"features": self._rows[index]}


def entering(model: nn.Module, head: nn.Module, batch: Batch) -> tuple[Tensor, Tensor] | None:
    """What enters the head and what the model answers, for one batch in evaluation mode; None if the head does not run
    exactly once on one tensor, or its answer is not the model's."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, given: tuple[Any, ...]) -> None:
        seen.extend(each for each in given if isinstance(each, Tensor))

    handle = head.register_forward_pre_hook(keep)
    try:
        model.eval()
        with torch.inference_mode():
            given = model(next(iter(batch.inputs.values())))
            answer: Tensor = getattr(given, "logits", given)
            alone = head(seen[0]) if len(seen) >= 1 else None
    finally:
        handle.remove()
    if alone is None or len(seen) != 2 or not torch.equal(alone, answer):  # the second is the head's own run above
        return None
    return seen[0], answer


def keep_features(
    model: nn.Module, head: nn.Module, batches: Iterable[tuple[Sequence[int], Batch]], count: int, path: Path
) -> Features | None:
    """The features of `count` examples that enter the head, kept in a file at `path`. None where `entering` is.

    batches: numbers of examples with their tensors, each example once. DiskError if the file cannot be written.
    """
    rows: Any = None
    shape: tuple[int, ...] = (0,)
    try:
        for numbers, batch in batches:
            found = entering(model, head, batch)
            if found is None:
                return None
            features = found[0].float().cpu().numpy()
            if rows is None:
                shape = (count, *features.shape[1:])
                rows = np.memmap(path, dtype=np.float32, mode="w+", shape=shape)
            rows[np.asarray(numbers)] = features
        if rows is None:
            return None
        rows.flush()
    except OSError as error:
        raise DiskError(f"{path} cannot be written: {error}") from error
    return Features(path, shape)
