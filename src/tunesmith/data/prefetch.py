"""Batches made ahead by worker processes. A batch follows from its step alone, so who makes it changes no bit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from tunesmith.data.batches import TrainBatches
from tunesmith.lifetime import bound_to
from tunesmith.types import Batch


class _Steps(Dataset[list[Batch]]):
    """The micro-batches of a step, by its number."""

    def __init__(self, batches: TrainBatches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> list[Batch]:
        return self.batches.micro_batches(step)


def _alone(_number: int) -> None:
    """One thread a worker, and none that outlives the run: Linux ends it with its parent. It leaves the parent's group,
    for a signal to that (Ctrl-C, a launcher's end) is the parent's business, which first finishes its step."""
    torch.set_num_threads(1)
    os.setpgid(0, 0)
    bound_to(os.getppid())()


def _whole(batches: list[Batch]) -> list[Batch]:
    return batches


class Prefetched:
    """`TrainBatches` whose batches `workers` processes make, two steps ahead each. Steps are asked for in order; asked
    out of order, it starts anew there."""

    def __init__(self, batches: TrainBatches, steps: int, workers: int) -> None:
        self.inner, self.steps, self.workers = batches, steps, workers
        self._next = 0
        self._made: Iterator[list[Batch]] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass."""
        return self.inner.steps_per_epoch

    @property
    def batch_size(self) -> int:
        """Examples a step."""
        return self.inner.batch_size

    def indices(self, step: int) -> np.ndarray:
        """The examples of 1-based `step`."""
        return self.inner.indices(step)

    def collate(self, indices: Sequence[int], positions: Sequence[int], epoch: int) -> Batch:
        """Made here, not by a worker."""
        return self.inner.collate(indices, positions, epoch)

    def micro_batches(self, step: int) -> list[Batch]:
        """What `TrainBatches.micro_batches` gives."""
        if self._made is None or step != self._next:
            loader: DataLoader[Any] = DataLoader(
                _Steps(self.inner),
                batch_size=None,
                sampler=range(step, self.steps + 1),
                num_workers=self.workers,
                collate_fn=_whole,
                worker_init_fn=_alone,
                multiprocessing_context="fork",
            )
            self._made, self._next = iter(loader), step
        found = next(self._made)
        self._next += 1
        return found
