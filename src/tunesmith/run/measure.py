"""Real passes of a fresh learner for a forecast, in a tryout: micro-steps, updates, answers, scores, a checkpoint."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tunesmith.data.batches import TrainBatches, evaluation_order
from tunesmith.data.prefetch import Prefetched
from tunesmith.evaluate.evaluate import TOKENS, Part
from tunesmith.run.features import may_keep
from tunesmith.run.pace import NONE, Pace, measured, timed
from tunesmith.run.setup import Learning, Ready
from tunesmith.train import randomness
from tunesmith.train.checkpoint import save_checkpoint
from tunesmith.train.memory import MIB

STEPS_LOOKED_AT = 2_000
WRITTEN_MIB = 256
"""The most that is written to see how fast the disk is."""
SCORED = 200
"""The most examples that are scored to see how long scoring takes."""


class MicroSteps:
    """The passes of a run's steps, by number: sizes, and a real forward and backward of each.

    steps: how many of the run's steps they are of. sizes: places filled, examples times the longest length.
    """

    def __init__(self, ready: Ready, learning: Learning) -> None:
        self.ready, self.learning = ready, learning
        batches = learning.batches
        self.batches: TrainBatches = batches.inner if isinstance(batches, Prefetched) else batches
        self.workers = batches.workers if isinstance(batches, Prefetched) else 0
        self.steps = min(learning.plan.steps, max(self.batches.steps_per_epoch, STEPS_LOOKED_AT), STEPS_LOOKED_AT)
        self.passes = [found for step in range(1, self.steps + 1) for found in self._of(step)]
        lengths = self.batches.lengths
        self.sizes = np.array([len(ids) * int(lengths[ids].max()) for _, ids, _ in self.passes], dtype=np.float64)

    def _of(self, step: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        batches, whole = self.batches, self.batches.indices(step)
        places = np.arange(len(whole))[batches.rank :: batches.processes]
        for start in range(0, len(places), batches.micro_batch_size):
            cut = places[start : start + batches.micro_batch_size]
            yield step, whole[cut], cut

    def run(self, number: int) -> float:
        """One pass as the loop makes it; gradients stand afterwards. Returns the seconds of it that a run will not
        spend, since worker processes make batches while the model learns."""
        ready, learning = self.ready, self.learning
        started = time.perf_counter()
        step, ids, places = self.passes[number]
        epoch = (step - 1) // self.batches.steps_per_epoch
        batch = self.batches.collate([int(i) for i in ids], [int(p) for p in places], epoch)
        collated = time.perf_counter()
        for tensor in learning.learned.values():
            tensor.grad = None
        randomness.begin(ready.recipe.train.seed, step, batch.positions)
        with ready.device.arithmetic():
            loss = ready.recipe.task.loss(learning.model, ready.device.move(batch))
        loss.total.backward()
        loss.total.item()
        making, learns = collated - started, time.perf_counter() - collated
        return making + learns - max(learns, making / self.workers) if self.workers else 0.0

    def pace(self, seconds: float) -> Pace:
        """Measured in this method's training mode."""
        self.ready.recipe.method.training_mode(self.learning.model)
        return measured(self.run, self.sizes, seconds=seconds)


@contextmanager
def optimizer_beside(learning: Learning) -> Iterator[tuple[float, list[Tensor]]]:
    """Hold tensors as the optimizer will hold them; yields the seconds of an update, and those tensors."""
    seconds, kept = _updated([t for t in learning.learned.values() if isinstance(t, nn.Parameter)])
    yield seconds, kept
    kept.clear()


def _updated(weights: Sequence[Tensor]) -> tuple[float, list[Tensor]]:
    """Seconds of an update of such weights, made on others of their shapes, and what the optimizer then holds."""
    doubles = [torch.zeros_like(t).requires_grad_() for t in weights]
    for double in doubles:
        double.grad = double.detach()  # the same memory: in a run this place is the gradient's
    optimizer = torch.optim.AdamW(doubles, lr=1e-8, fused=True)

    def update() -> None:
        gradients = [d.grad for d in doubles if d.grad is not None]
        torch.nn.utils.get_total_norm(gradients).item()
        torch._foreach_mul_(gradients, 1.0)
        optimizer.step()

    update()
    seconds = min(timed(update) for _ in range(3))
    return seconds, [tensor for state in optimizer.state.values() for tensor in state.values()]


class Answers:
    """How long a model takes to answer parts of the data, at one precision; nothing is tried where none is scored."""

    def __init__(self, ready: Ready, model: nn.Module, precision: str, *, seconds: float) -> None:
        self.ready, self.model, self.precision = ready, model, precision
        self.sample: np.ndarray | None = None
        held = [part for name, part in ready.parts.items() if name != "train" and len(part.encoded)]
        self.part = max(held or [ready.parts["train"]], key=lambda part: len(part.encoded))
        if not held and not may_keep(ready):
            self.pace = NONE
            return
        self.batches = self._batches(self.part)
        sizes = np.array([self._size(self.part, rows) for rows in self.batches], dtype=np.float64)
        model.eval()
        self.pace = measured(self._run, sizes, seconds=seconds)

    def _batches(self, part: Part) -> list[np.ndarray]:
        device = self.ready.device
        return evaluation_order(part.encoded.lengths, TOKENS)[device.rank :: device.processes] or [np.array([0])]

    @staticmethod
    def _size(part: Part, rows: np.ndarray) -> float:
        return len(rows) * float(part.encoded.lengths[rows].max())

    def _run(self, number: int) -> None:
        ready, task = self.ready, self.ready.recipe.task
        encoded = [self.part.encoded[int(i)] for i in self.batches[number]]
        batch = task.collate(encoded, None, ready.pretrained.processor)
        ready.device.precision = self.precision  # type: ignore[assignment]
        with ready.device.arithmetic():
            self.sample = task.predict(self.model, ready.device.move(batch))

    def over(self, part: Part) -> float:
        """Seconds for all examples of a part."""
        if not len(part.encoded):
            return 0.0
        return self.pace.over(np.array([self._size(part, rows) for rows in self._batches(part)]))

    def sampled(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """Answers and targets of at most `SCORED` examples of the part; the answers are of other examples."""
        assert self.sample is not None
        count = min(SCORED, len(part.encoded))
        return self.sample[np.arange(count) % len(self.sample)], part.targets[:count]


def scoring_seconds(ready: Ready, answers: Answers, part: Part) -> float:
    """Seconds to turn the answers of a part into scores."""
    if not len(part.encoded):
        return 0.0
    given, targets = answers.sampled(part)
    ready.recipe.task.score(given, targets, part.labels)  # the first call imports
    took = timed(ready.recipe.task.score, given, targets, part.labels)
    return took * len(part.encoded) / len(given)


def interval_seconds(ready: Ready, answers: Answers, part: Part) -> float:
    """Seconds to take the intervals of the scores before and after on a part."""
    if not len(part.encoded):
        return 0.0
    given, targets = answers.sampled(part)
    task, seed = ready.recipe.task, ready.recipe.train.seed

    def intervals() -> None:
        task.intervals(given, given, targets, part.labels, None, seed=seed)

    return timed(intervals) * len(part.encoded) / len(given)


def writing_seconds(learned: Sequence[Tensor], held: Sequence[Tensor], work: Path) -> float:
    """Seconds to write a checkpoint of what learns and what the optimizer holds; at most `WRITTEN_MIB` are written."""
    groups: dict[str, dict[str, Tensor]] = {"learned": {}, "optimizer": {}}
    size = 0
    for name, tensors in (("learned", learned), ("optimizer", held)):
        for number, tensor in enumerate(tensors):
            if not size or size + tensor.nbytes <= WRITTEN_MIB * MIB:
                groups[name][str(number)] = tensor
                size += tensor.nbytes
    place = work / "forecast"
    try:
        took = timed(lambda: save_checkpoint(place, 0, groups, {}))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return took * max(1.0, sum(t.nbytes for t in (*learned, *held)) / max(1, size))
