"""Which examples make the batch of a step: by number alone, shuffled by (seed, epoch), grouped by length.

The order of an epoch is a permutation drawn from the counter. Within a window of many batches examples are sorted by
length, so that a batch pads little; the batches' order is then shuffled again. Nothing depends on what came before, so
a resumed run goes on exactly, whatever the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tunesmith.types import Batch

WINDOW = 50  # batches that are sorted together, as in transformers' length grouping


def epoch_order(
    lengths: np.ndarray, batch_size: int, *, counter: Sequence[int], group_by_length: bool = True
) -> list[np.ndarray]:
    """The batches of one epoch as arrays of indices; every example once, the last batch may be smaller.

    lengths: tokens of each example, [examples]. counter: (seed, epoch). Philox, keyed by the counter.
    """
    draw = np.random.Generator(np.random.Philox(key=np.array([*counter, 0][:2], dtype=np.uint64)))
    order = draw.permutation(len(lengths))
    if group_by_length:
        window = WINDOW * batch_size
        parts = [order[i : i + window] for i in range(0, len(order), window)]
        order = np.concatenate([part[np.argsort(-lengths[part], kind="stable")] for part in parts])
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return [batches[i] for i in draw.permutation(len(batches))] if group_by_length else batches


class TrainBatches:
    """Batches by step number. `collate(indices, positions, epoch)` turns examples into tensors."""

    def __init__(
        self,
        lengths: np.ndarray,
        collate: Callable[[Sequence[int], Sequence[int], int], Batch],
        *,
        batch_size: int,
        micro_batch_size: int,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        group_by_length: bool = True,
    ) -> None:
        self.lengths = lengths
        self.group_by_length = group_by_length
        self.collate = collate
        self.batch_size = batch_size
        self.micro_batch_size = micro_batch_size
        self.seed = seed
        self.rank = rank
        self.processes = processes
        self.steps_per_epoch = -(-len(lengths) // batch_size)
        self._epoch = -1
        self._order: list[np.ndarray] = []

    def indices(self, step: int) -> np.ndarray:
        """The examples of 1-based `step`; longest first where they are grouped by length."""
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        if epoch != self._epoch:
            counter, grouped = (self.seed, epoch), self.group_by_length
            self._order = epoch_order(self.lengths, self.batch_size, counter=counter, group_by_length=grouped)
            self._epoch = epoch
        return self._order[place]

    def micro_batches(self, step: int) -> list[Batch]:
        """The process's share: every so-manieth example, so that processes share the long ones evenly."""
        whole = self.indices(step)
        places = np.arange(len(whole))[self.rank :: self.processes]
        cuts = [places[i : i + self.micro_batch_size] for i in range(0, len(places), self.micro_batch_size)]
        epoch = (step - 1) // self.steps_per_epoch
        return [self.collate([int(i) for i in whole[cut]], [int(p) for p in cut], epoch) for cut in cuts]


def evaluation_order(lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
    """Batches for scoring: sorted by length, at most about `tokens` padded tokens each (at least one example)."""
    order = np.argsort(-lengths, kind="stable")
    batches: list[np.ndarray] = []
    start = 0
    while start < len(order):
        size = max(1, tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches
