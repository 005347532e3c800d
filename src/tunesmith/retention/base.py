"""Retention: what holds the old ability. One file in this folder is one retention; its fields are its YAML options.

A retention is handed `Held`, all that it may look at, and gives back a penalty that the loop adds to the loss of every
step, or chooses a point between the untouched and the tuned weights once training has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from tunesmith.plugin import Plugin, Registry
from tunesmith.types import Batch, Loss

if TYPE_CHECKING:
    from torch import Tensor, nn


class OldWork(Protocol):
    """An old task as retentions use it: its training examples, and its own head on the model that learns.

    The head is put in place for a call and taken out again; gradients reach the rest of the model, never the head.
    """

    name: str
    labelled: bool
    """Whether its examples have labels; without, `outputs` are features and `loss` is not to be asked."""

    def batch(self, step: int, count: int) -> Batch:
        """`count` of its training examples on the model's device, drawn by `step` alone; the same in every process.
        Positions go on from where the new task's batch ends, so that dropout differs."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """The old task's own loss: a sum and its count."""
        ...

    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the model says: logits [examples, classes] of the old head, of a language model [places, vocabulary] at
        some places of the texts, or features [examples, size]."""
        ...

    def distance(self, now: Tensor, before: Tensor, temperature: float) -> Tensor:
        """How far the answers `now` are from those `before`, a mean over examples: between logits the divergence of
        the softened answers, times temperature squared; between features their squared distance, relative."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """What a retention may look at. Tensors are live unless said otherwise.

    learned: every tensor that training changes, the head aside, by name. start: copies of the same tensors as they were
    before the first step. old: the old tasks. new: batches of new training inputs by (step, count), for those that
    distil without old examples. switched_off: a context in which `model` answers as the untouched one, exactly.
    """

    model: nn.Module
    learned: Mapping[str, Tensor]
    start: Mapping[str, Tensor]
    old: tuple[OldWork, ...]
    new: Callable[[int, int], Batch]
    switched_off: Callable[[], AbstractContextManager[None]]
    seed: int
    batch_size: int


Penalty = Callable[["nn.Module", int], Iterator["Tensor"]]
"""(model, 1-based step) -> parts of the penalty, each a scalar with gradient, in units of the mean loss. The loop asks
for the next part only after it has differentiated the last, so that memory is that of the largest."""


class Finishing(Protocol):
    """What a retention may ask once training has ended; everything is taken on validation examples, or, of
    an old task that has none, on those that are reported."""

    better: str
    """"higher" or "lower": the direction of the new task's main score."""

    def put(self, share: float) -> None:
        """Bring the model to the point `share` of the way from untouched (0) to tuned (1), both exact at the ends; the
        new head stays as it was tuned. Statistics of norms that move are taken anew from training examples."""
        ...

    def new_score(self) -> float:
        """The new task's main score of the model as it stands."""
        ...

    def old_forgetting(self) -> Mapping[str, float]:
        """Of each old task: its main score untouched minus now (or the reverse where lower is better)."""
        ...


class Retention(Plugin):
    """Base of all retentions. A subclass overrides `penalty`, or `finish`."""

    needs_old: ClassVar[bool] = False
    """Whether it can do nothing without an old task that has labels."""
    at_end: ClassVar[bool] = False
    """Whether `finish` has something to do, so that the method must offer a line (`Method.between`)."""

    def penalty(self, held: Held) -> Penalty | None:
        """What is added to the loss; what it must remember lives in what it returns. Called once before the first
        step, of a resumed run too, with the same `start` each time: it must then give the same numbers."""
        return None

    def finish(self, finishing: Finishing) -> dict[str, Any]:
        """Choose a point on the line between untouched and tuned, and leave the model there. Returns what a report
        shows, as JSON can hold it. Default: nothing is done."""
        return {}


registry: Registry[Retention] = Registry("tunesmith.retention", Retention)
