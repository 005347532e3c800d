"""How much memory a micro-batch adds while its gradients are taken, worked out from a few examples.

Activations grow with the number of examples in a straight line: a pass over one example and one over a few, the longest
of the data, give the line, so that no large batch has to be tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from tunesmith.run.measure import MicroSteps
from tunesmith.run.setup import Learning, Ready
from tunesmith.train import randomness
from tunesmith.train.memory import MIB, give_back, held_mib

FEW = 4
PASSES = 2
SAFETY = 1.15
"""What is worked out must fit this many times over: memory fragments, and libraries keep scratch of their own."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """MiB that a micro-batch adds: `fixed` whatever its size (gradients among it), and `each` an example."""

    fixed: float
    each: float

    def of(self, examples: int) -> float:
        """MiB added by so many examples."""
        return self.fixed + self.each * examples


def footprint(ready: Ready, learning: Learning, *, most: int, length: int | None = None) -> Footprint:
    """Of the longest training examples, cut to `length` tokens if that is given. To be called inside a tryout.

    most: the largest micro-batch in question.
    """
    ready.recipe.method.training_mode(learning.model)
    few = max(1, min(FEW, most, len(ready.parts["train"].encoded)))
    one = _added(lambda: _pass(ready, learning, 1, length))
    if few == 1:
        return Footprint(0.0, one)
    each = max(0.0, (_added(lambda: _pass(ready, learning, few, length)) - one) / (few - 1))
    return Footprint(max(0.0, one - each), each)


def _pass(ready: Ready, learning: Learning, count: int, length: int | None) -> None:
    task, part = ready.recipe.task, ready.parts["train"]
    longest = np.argsort(-part.encoded.lengths, kind="stable")[:count]
    if length is None:
        batch = MicroSteps(ready, learning).batches.collate([int(i) for i in longest], list(range(count)), 0)
    else:
        cut = [{key: value[:length] for key, value in part.encoded[int(i)].items()} for i in longest]
        batch = task.collate(cut, part.targets[longest], ready.pretrained.processor, positions=list(range(count)))
    randomness.begin(ready.recipe.train.seed, 1, batch.positions)
    with ready.device.arithmetic():
        loss = task.loss(learning.model, ready.device.move(batch))
    loss.total.backward()
    for tensor in learning.learned.values():
        tensor.grad = None


def _added(run: Callable[[], object]) -> float:
    """The most MiB that the process holds during a call above what it held before.

    On a processor that is how far it has grown, since it keeps what it frees (see `memory.keep_freed_memory`): pieces
    that lie idle and the libraries' own scratch are in it, as they will be in a run. What torch itself counts is a half
    to two thirds of that.
    """
    run()  # what is made once and kept, such as the pool of dropout masks, is no part of it
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
        before = torch.accelerator.memory_allocated()
        torch.accelerator.reset_peak_memory_stats()
        run()
        torch.accelerator.synchronize()
        return (torch.accelerator.max_memory_allocated() - before) / MIB
    return min(_grown(run) for _ in range(2))  # the heap's old pieces may make one of them larger


def _grown(run: Callable[[], object]) -> float:
    start = settled_mib()
    for _ in range(PASSES):
        run()
    return max(0.0, held_mib() - start)


def settled_mib() -> float:
    """MiB that this process holds once everything freed has been given back."""
    give_back()
    return held_mib()
