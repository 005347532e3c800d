"""A new head over pictures starts from its features; where it alone learns, from pictures that do not vary, it learns
from features computed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.data.batches import evaluation_order
from tunesmith.evaluate.evaluate import TOKENS, Part
from tunesmith.models.vision_described import describe, description
from tunesmith.recipe.defaults import head_start
from tunesmith.run.setup import Learning, Ready, make_batches
from tunesmith.train.averaging import Average
from tunesmith.train.discriminant import discriminant, learning_layer
from tunesmith.train.frozen import Features, HeadAlone, entering, keep_features
from tunesmith.types import Batch

KEPT = 4_096  # training examples from whose features a head starts, shared by the classes, where they are kept,
COMPUTED = 1_024  # and where they are computed for it alone;
A_CLASS = 20  # but so many of each are looked at


def on_features(ready: Ready, learning: Learning, work: Path) -> tuple[Learning, Part, Part] | None:
    """The same learning with the head alone as its model, and what it learns from and is validated on, as features
    kept in `work`.

    They are computed in the arithmetic of training, as the whole network would compute them in every pass.
    None where that is not exact: another method, augmented pictures, or a head that is not one module at the end.
    """
    if not may_keep(ready):
        return None
    head = ready.pretrained.anatomy.head
    module = learning.model.get_submodule(head[0])
    parts: dict[str, Part] = {}
    for name in ("train", "validation"):
        part = ready.parts[name]
        found: Any = part.encoded
        if len(part.encoded):
            path = work / f"process-{ready.device.rank}" / f"{name}.features"
            with ready.device.arithmetic():
                batches = _batches(ready, part, np.arange(len(part.encoded)))
                found = keep_features(learning.model, module, batches, len(part.encoded), path)
        if found is None:
            return None
        parts[name] = replace(part, encoded=found)
    alone = HeadAlone(module)
    describe(alone, description(learning.model))
    made, _ = make_batches(ready, parts["train"])
    return replace(learning, model=alone, batches=made), parts["train"], parts["validation"]


def start_head(ready: Ready, learning: Learning, part: Part, average: Average) -> list[str]:
    """Put the head at the discriminant of its features, where the recipe says so; gives words about it, if any.

    part: the training examples, or their features. average: begins there too. Done again it gives the same bits.
    """
    if head_start(ready.recipe) != "discriminant":
        return []
    head = ready.pretrained.model.get_submodule(ready.pretrained.anatomy.head[0])
    linear = learning_layer(head)
    labels = ready.dataset.labels
    classes = len(labels)
    weights = getattr(ready.recipe.task, "class_weights", None)
    counts = np.bincount(part.targets, minlength=classes).astype(np.float64)
    if isinstance(weights, dict):
        counts *= [weights.get(label, 1.0) for label in labels]
    most = looked_at(classes, kept=isinstance(part.encoded, Features))
    chosen = np.sort(np.concatenate([np.flatnonzero(part.targets == k)[:most] for k in range(classes)]))
    rows = _entering(ready, learning, head, part, chosen)
    alone = ready.recipe.method.only_head
    found = ready.device.agree(None if rows is None else discriminant(rows, part.targets[chosen], counts, alone=alone))
    if found is None:
        why = "its features do not differ within the classes, or are not finite"
        return [f"the head starts at random values: {why if rows is not None else 'it does not run once a picture'}"]
    with torch.no_grad():
        for own, value in zip((linear.weight, linear.bias), found, strict=True):
            own.copy_(value)
        average.restore(learning.learned)
    return [f"the head starts from the discriminant of the features of {len(chosen):,} training examples"]


def looked_at(classes: int, *, kept: bool) -> int:
    """The most examples of a class from whose features a head starts."""
    return max(A_CLASS, (KEPT if kept else COMPUTED) // classes)


def may_keep(ready: Ready) -> bool:
    """Whether method, task and head allow it; the head must also turn out to run once, on one tensor."""
    return ready.recipe.method.only_head and len(ready.pretrained.anatomy.head) == 1 and ready.recipe.task.fixed


class _Sampled:
    """Features of a few examples in the place of all."""

    def __init__(self, rows: np.ndarray, count: int) -> None:
        self.rows, self.lengths = rows, np.ones(count, dtype=np.int32)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]:
        return {"features": self.rows[index % len(self.rows)]}


def on_sampled_features(ready: Ready, learning: Learning) -> Learning | None:
    """As `on_features`, with the features of a few examples in the place of all: enough to see how long steps take."""
    if not may_keep(ready):
        return None
    part = ready.parts["train"]
    module = learning.model.get_submodule(ready.pretrained.anatomy.head[0])
    encoded = [part.encoded[i] for i in range(min(4, len(part.encoded)))]
    batch = ready.recipe.task.collate(encoded, None, ready.pretrained.processor)
    found = entering(learning.model, module, ready.device.move(batch))
    if found is None:
        return None
    rows: np.ndarray = found[0].float().cpu().numpy()
    batches, _ = make_batches(ready, replace(part, encoded=_Sampled(rows, len(part.encoded))))
    alone = HeadAlone(module)
    describe(alone, description(learning.model))
    return replace(learning, model=alone, batches=batches)


def _entering(ready: Ready, learning: Learning, head: nn.Module, part: Part, chosen: np.ndarray) -> np.ndarray | None:
    """The features [chosen, width] of some examples, kept ones or computed; None where they are not finite."""
    if isinstance(part.encoded, Features):
        return np.stack([part.encoded[int(i)]["features"].reshape(-1) for i in chosen])
    rows: np.ndarray = np.empty(0)
    with ready.device.arithmetic():
        for numbers, batch in _batches(ready, part, chosen):
            found = entering(learning.model, head, batch)
            if found is None:
                return None
            features = found[0].flatten(1).float().cpu().numpy()
            if not len(rows):
                rows = np.empty((len(chosen), features.shape[1]), dtype=np.float32)
            rows[numbers] = features
    return rows


def _batches(ready: Ready, part: Part, chosen: np.ndarray) -> Iterator[tuple[Sequence[int], Batch]]:
    """All `chosen` examples without augmentation, by their places among the chosen."""
    for places in evaluation_order(part.encoded.lengths[chosen], TOKENS):
        encoded = [part.encoded[int(chosen[i])] for i in places]
        batch = ready.recipe.task.collate(encoded, None, ready.pretrained.processor)
        yield [int(i) for i in places], ready.device.move(batch)
