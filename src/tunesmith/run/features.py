"""Where only the head learns from pictures that do not vary, it learns from features computed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.data.batches import evaluation_order
from tunesmith.evaluate.evaluate import TOKENS, Part
from tunesmith.models.vision_described import describe, description
from tunesmith.run.setup import Learning, Ready, make_batches
from tunesmith.train.frozen import HeadAlone, entering, keep_features
from tunesmith.types import Batch


def on_features(ready: Ready, learning: Learning, work: Path) -> tuple[Learning, Part] | None:
    """The same learning with the head alone as its model, and the validation part, both on features kept in `work`.

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
                found = keep_features(learning.model, module, _batches(ready, part), len(part.encoded), path)
        if found is None:
            return None
        parts[name] = replace(part, encoded=found)
    alone = HeadAlone(module)
    describe(alone, description(learning.model))
    batches, _ = make_batches(ready, parts["train"])
    return replace(learning, model=alone, batches=batches), parts["validation"]


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


def _batches(ready: Ready, part: Part) -> Iterator[tuple[Sequence[int], Batch]]:
    for indices in evaluation_order(part.encoded.lengths, TOKENS):
        numbers = [int(i) for i in indices]
        batch = ready.recipe.task.collate([part.encoded[i] for i in numbers], None, ready.pretrained.processor)
        yield numbers, ready.device.move(batch)
