"""What else would fit where a run does not: said, never done, since each of these changes what is learned."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from tunesmith.models.quantised import bits_of
from tunesmith.run.footprint import SAFETY, footprint, settled_mib
from tunesmith.run.forecast import Forecast, in_mib, in_words
from tunesmith.run.setup import Learning, Ready
from tunesmith.run.tryout import tryout
from tunesmith.train.memory import MIB

SHARES = (0.75, 0.5, 0.25)
"""Of the present length: the lengths that are looked at."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run: examples a pass, whether activations are computed twice, and the MiB that it holds at most."""

    micro_batch_size: int
    checkpointed: bool
    mib: float


def learned_mib(learning: Learning) -> float:
    """Size of the weights that learn; their gradients are as large, and the optimizer's two averages twice that."""
    return sum(t.nbytes for t in learning.learned.values() if isinstance(t, nn.Parameter)) / MIB


def least_mib(learning: Learning) -> float:
    """MiB that a run adds whatever the micro-batch: a checkpoint in the writing, or the delivered model read back."""
    whole = sum(p.nbytes for p in learning.model.parameters()) / MIB
    # gradient and two averages; of these a copy, and that as bytes, which an accelerator leaves to the processor
    copies = 3 if torch.accelerator.is_available() else 7
    return max(copies * learned_mib(learning), whole)


def memory_advice(ready: Ready, learning: Learning, limit: float, least: Choice) -> str:
    """Why nothing fits into `limit` MiB, and what would. least: the most sparing way there is."""
    start = settled_mib()
    sparing = f"train.micro_batch_size={least.micro_batch_size}"
    if least.checkpointed:
        sparing += " and train.checkpoint_activations=true"
    lines = [
        f"--max-memory: {in_mib(limit)} were given, and this run needs about {in_mib(least.mib)} even with {sparing}.",
        f"Of that {in_mib(start)} are held before anything learns: Python, libraries, the data's index and the model.",
    ]
    others = list(_sparing_others(ready, learning, limit, least, start))
    lines += [f"What would fit, and learns something else: {other}" for other in others]
    if not others:
        lines.append("Nothing else of this recipe would fit either: take a smaller model.")
    return "\n".join([*lines, f"Or give it more: --max-memory {math.ceil(least.mib)}MiB"])


def _sparing_others(ready: Ready, learning: Learning, limit: float, least: Choice, start: float) -> Iterator[str]:
    learned, whole = learned_mib(learning), sum(p.nbytes for p in learning.model.parameters()) / MIB
    if learned > 0.3 * whole:
        without = max(SAFETY * (start + whole), least.mib - SAFETY * 3 * learned)
        if without <= limit:
            yield f"method=lora, about {in_mib(without)}: the gradient and the optimizer are those of few weights"
    fewer = least.mib - SAFETY * _in_four_bits_mib(ready)
    if fewer <= limit and fewer < least.mib:
        yield f"model.bits=4, about {in_mib(fewer)}: the frozen linear layers are rounded (extra quantised)"
    length = getattr(ready.recipe.task, "max_length", None)
    if not isinstance(length, int):
        return
    with tryout(ready, learning, updates=False):
        ready.device.precision = ready.recipe.train.precision  # type: ignore[assignment]
        for share in SHARES:
            shorter = max(8, int(length * share))
            added = footprint(ready, learning, most=1, length=shorter).of(1)
            mib = SAFETY * max(start + least_mib(learning), start + 2 * learned + added)
            if mib <= limit:
                cut = float((ready.lengths > shorter).mean())
                yield f"task.max_length={shorter}, about {in_mib(mib)}: {cut:.0%} of the texts would be cut"
                return


def _in_four_bits_mib(ready: Ready) -> float:
    """What frozen linear layers would hold less in 4 bits than now; 0 where they cannot be so stored."""
    anatomy, model, method = ready.pretrained.anatomy, ready.pretrained.model, ready.recipe.method
    able = method.beside_few_bits and getattr(method, "variant", "default") in ("default", "rslora")
    if not (ready.recipe.task.goes_on and able) or bits_of(model):
        return 0.0
    held = sum(
        layer.inputs * layer.outputs
        for layer in anatomy.layers
        if layer.block >= 0 and layer.kind in ("linear", "conv1d")
    )
    return held * (4 - 0.52) / MIB  # float32 to 4 bits and the scales of blocks


def time_advice(ready: Ready, found: Forecast, limit: float) -> str:
    """Why the run does not fit into `limit` seconds, and what would."""
    of, steps = found.seconds_of, found.steps
    fixed = of["before"] + of["ending"]
    lines = [
        f"--max-time: {in_words(limit)} were given, and this run takes about {in_words(found.seconds)} "
        f"({in_words(found.low)} to {in_words(found.high)}): {steps:,} steps of {found.batch_size} examples. "
        f"{in_words(fixed)} of that are scores before and after, whatever the steps.",
    ]
    others = list(_shorter_others(ready, found, limit, fixed))
    lines += [f"What would fit, and learns something else: {other}" for other in others]
    if not others:
        lines.append("No number of steps fits: take fewer held-out examples (data.limit), or a smaller model.")
    return "\n".join([*lines, f"Or give it more: --max-time {math.ceil(found.high)}s"])


def _shorter_others(ready: Ready, found: Forecast, limit: float, fixed: float) -> Iterator[str]:
    each = (found.seconds - fixed) / found.steps
    fits = int((limit - fixed) / each)
    if fits >= 1:
        passes = fits * found.batch_size / max(1, len(ready.parts["train"].encoded))
        yield f"train.steps={fits} (of {found.steps:,}; {passes:.2g} passes over the training examples)"
    length = getattr(ready.recipe.task, "max_length", None)
    if isinstance(length, int):
        lengths = np.asarray(ready.parts["train"].encoded.lengths)
        for share in SHARES:
            shorter = max(8, int(length * share))
            less = float(np.minimum(lengths, shorter).sum() / lengths.sum())
            if found.seconds * less <= limit:
                cut = float((ready.lengths > shorter).mean())
                yield f"task.max_length={shorter}, about {in_words(found.seconds * less)}: {cut:.0%} of the texts cut"
                return
    if not ready.recipe.method.only_head and ready.recipe.task.kind == "images" and fixed < limit:
        yield "method=head may: it computes the network's features once (`tunesmith check` says how long it takes)"
