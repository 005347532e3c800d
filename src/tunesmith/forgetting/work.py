"""The examples of an old task: some of each part to score, chosen once, and batches of the others by step alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.evaluate.evaluate import Encodings, Part
from tunesmith.evaluate.parts import encoded_part
from tunesmith.tasks.base import Task
from tunesmith.train import randomness
from tunesmith.train.device import Device
from tunesmith.types import Batch, Dataset, Example, Examples

SCORED, CHOSEN, LEARNED = "test", "validation", "train"


def chosen_rows(count: int, most: int, targets: np.ndarray | None = None) -> np.ndarray:
    """At most `most` of `count` row numbers, ascending, always the same: evenly spaced, and where `targets` are class
    indices [count] evenly within each class, so that classes keep their shares."""
    if count <= most:
        return np.arange(count)
    order = np.argsort(targets, kind="stable") if targets is not None and targets.ndim == 1 else np.arange(count)
    return np.sort(order[((np.arange(most) + 0.5) * count / most).astype(np.int64)])


class SomeExamples:
    """Examples by chosen numbers."""

    def __init__(self, whole: Examples, rows: np.ndarray) -> None:
        self.whole, self.rows = whole, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        return self.whole[int(self.rows[index])]

    def __iter__(self) -> Iterator[Example]:
        return (self[i] for i in range(len(self)))


class SomeEncodings:
    """Encoded examples by chosen numbers."""

    def __init__(self, whole: Encodings, rows: np.ndarray) -> None:
        self.whole, self.rows = whole, rows
        self.lengths: np.ndarray = whole.lengths[rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        return self.whole[int(self.rows[index])]


def some_of(part: Part, most: int) -> Part:
    """At most `most` examples of an encoded part."""
    rows = chosen_rows(len(part.encoded), most, part.targets)
    if len(rows) == len(part.encoded):
        return part
    return Part(SomeEncodings(part.encoded, rows), part.targets[rows], part.labels)


def held_names(sizes: Mapping[str, int]) -> tuple[str, ...]:
    """The parts that an old task is scored on: the test, then the validation; what is empty is left out."""
    return tuple(name for name in (SCORED, CHOSEN) if sizes[name])


class OldParts:
    """The parts of an old task with data of its own, each encoded when it is first asked for.

    labelled: whether its examples have labels. rows: examples that are scored, at most; all of train are drawn from.
    """

    def __init__(
        self,
        task: Task,
        dataset: Dataset,
        labels: Sequence[str],
        processor: Any,
        folder: Path,
        *,
        rows: int,
        labelled: bool = True,
    ) -> None:
        self.task, self.dataset, self.labels, self.processor = task, dataset, tuple(labels), processor
        self.folder, self.most, self.labelled = folder, rows, labelled
        self.names = held_names({name: len(getattr(dataset, name)) for name in (SCORED, CHOSEN)})
        self._encoded: dict[str, Part] = {}

    def __call__(self, name: str) -> Part:
        """The part of that name, `test`, `validation` or `train`."""
        if name not in self._encoded:
            self._encoded[name] = self._part(name)
        return self._encoded[name]

    def _part(self, name: str) -> Part:
        examples: Examples = getattr(self.dataset, name)
        if name != LEARNED and len(examples) > self.most:
            targets = self.task.targets(examples, self.labels) if self.labelled else None
            examples = SomeExamples(examples, chosen_rows(len(examples), self.most, targets))
        if self.labelled:
            return encoded_part(self.task, examples, self.labels, self.processor, self.folder / name)
        return Part(
            unlabelled(self.task, examples, self.processor, self.folder / name), np.zeros((len(examples), 0)), ()
        )


def unlabelled(task: Task, examples: Examples, processor: Any, path: Path) -> Encodings:
    """Examples without labels, encoded once and kept on disk."""
    from tunesmith.data.encoded import encode_to_disk
    from tunesmith.data.stored import keep_pictures

    def encode(rows: Sequence[Example]) -> list[Any]:
        return task.encode(rows, processor)

    if task.in_tokens:
        return encode_to_disk(examples, encode, path.with_suffix(".arrow"))
    return keep_pictures(examples, encode, path.with_suffix(".pictures"))


@dataclass(frozen=True, slots=True)
class Draws:
    """Batches of an old task's training examples, on the model's device; what is drawn follows from (seed, name, step).

    part: gives the encoded training examples. with_targets: whether batches bring labels.
    """

    name: str
    task: Task
    processor: Any
    part: Callable[[], Part]
    device: Device
    seed: int
    batch_size: int
    with_targets: bool

    def batch(self, step: int, count: int) -> Batch:
        """`count` different examples (some twice only where there are fewer), behind the places of the new batch."""
        part = self.part()
        encoded, targets = part.encoded, part.targets
        drawn = np.random.Generator(np.random.Philox(randomness.counter_seed(self.seed, "old", self.name, step)))
        rows = drawn.choice(len(encoded), size=count, replace=count > len(encoded)).tolist()
        draws, partners = None, None
        if not self.task.in_tokens:
            draws = [randomness.counter_seed(self.seed, "old", self.name, "augment", step, n) for n in range(count)]
        if draws is not None and self.task.partners and self.with_targets:
            others = [[randomness.counter_seed(draw, "partner", n) % len(encoded) for n in range(self.task.partners)]
                      for draw in draws]  # fmt: skip
            partners = [[(encoded[i], targets[i]) for i in some] for some in others]
        made = self.task.collate(
            [encoded[i] for i in rows],
            targets[rows] if self.with_targets else None,
            self.processor,
            positions=range(self.batch_size, self.batch_size + count),
            draws=draws,
            partners=partners,
        )
        return self.device.move(made)
