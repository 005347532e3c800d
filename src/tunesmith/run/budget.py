"""Make a run fit into so much memory and time, without changing what it learns.

Two things are chosen, both of which leave the gradient as it is, to rounding: how many examples go through the model at
once (`train.micro_batch_size`; a step still takes `train.batch_size` of them), and, where one at a time is still too
many, whether activations are computed twice instead of kept (`train.checkpoint_activations`). Everything else that
would help changes the result, so it is only said.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from tunesmith.errors import RecipeError
from tunesmith.methods.base import moving_statistics
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.advice import Choice, learned_mib, least_mib, memory_advice, time_advice
from tunesmith.run.features import may_keep
from tunesmith.run.footprint import SAFETY, Footprint, footprint, settled_mib
from tunesmith.run.forecast import Forecast, forecast, in_mib, in_words
from tunesmith.run.forgotten import guard, untouched
from tunesmith.run.measure import Answers, scoring_seconds
from tunesmith.run.setup import Learning, Ready, make_batches, set_up, settled, start_learning
from tunesmith.run.spent import Spent
from tunesmith.run.tryout import tryout
from tunesmith.train.activations import checkpoint_blocks
from tunesmith.train.memory import MIB


def fit_into(
    recipe: Recipe, *, max_memory_bytes: int | None = None, max_seconds: float | None = None
) -> tuple[Recipe, list[str]]:
    """The recipe that fits, and in words what was chosen and what is expected. Trains nothing and leaves nothing.

    RecipeError, with what would fit, where nothing that leaves the results alone does. Memory is resident memory of
    this process, or what torch reserves of an accelerator.
    """
    try:
        return _fitted(recipe, max_memory_bytes, max_seconds)
    finally:
        settled_mib()  # gives back what the trial held: a run that follows in this process starts from nothing
        if torch.accelerator.is_available():
            torch.accelerator.reset_peak_memory_stats()


def _fitted(recipe: Recipe, max_memory_bytes: int | None, max_seconds: float | None) -> tuple[Recipe, list[str]]:
    with tempfile.TemporaryDirectory(prefix="tunesmith-budget-") as place:
        ready = next(found for found in set_up(recipe, Path(place)) if isinstance(found, Ready))
        spent = Spent(Path(place) / "spent.json")
        with spent.on("old_tasks"):
            old = untouched(ready, Path(place))
        ready = settled(ready)
        learning = start_learning(ready)
        guarded = guard(ready, learning, old)
        lines: list[str] = []
        if max_memory_bytes is not None:
            choice = _chosen(ready, learning, max_memory_bytes / MIB)
            lines += _told(ready, learning, choice)
            recipe, ready, learning = _with(choice, recipe, ready, learning)
        own = forecast(ready, learning, Path(place), penalty=guarded.penalty, spent=spent.seconds)
        found: Forecast = ready.device.agree(own)
    lines.append(f"expected: {found.line()}")
    if max_memory_bytes is not None and found.peak_mib > max_memory_bytes / MIB:
        lines.append(f"mind: that is more than --max-memory, {in_mib(max_memory_bytes / MIB)}; it was tried, and close")
    if max_seconds is not None:
        lines += _in_time(ready, found, max_seconds)
    return recipe, lines


def _chosen(ready: Ready, learning: Learning, limit: float) -> Choice:
    """The first way that fits; the same in every process. RecipeError if there is none."""
    least: Choice | None = None
    picked: Choice | None = None
    for choice in _ways(ready, learning):
        least = choice
        if choice.mib <= limit:
            picked = choice
            break
    picked = ready.device.agree(picked)
    if picked is None:
        assert least is not None
        raise RecipeError(memory_advice(ready, learning, limit, least))
    return picked


def _ways(ready: Ready, learning: Learning) -> Iterator[Choice]:
    """The ways to run, the fastest first: fewer and fewer examples a pass, then the same with activations twice."""
    train = ready.recipe.train
    first = int(train.micro_batch_size)
    asked = train.checkpoint_activations
    with tryout(ready, learning, updates=False):
        scoring_seconds(ready, Answers(ready, learning.model, "float32", seconds=0.0), ready.parts["train"])
        ready.device.precision = train.precision  # type: ignore[assignment]
        start = settled_mib()  # what scoring imports is in it
        floor = start + least_mib(learning)
        held = start + 2 * learned_mib(learning)  # the optimizer's averages
        for checkpointed in (True,) if asked is True else (False, True):
            if checkpointed and not (asked is True or may_checkpoint(ready)):
                return
            if checkpointed:
                checkpoint_blocks(ready.pretrained.model, ready.pretrained.anatomy)
            added = Footprint(0.0, 0.0) if may_keep(ready) else footprint(ready, learning, most=first)
            size = first
            while size >= 1:
                yield Choice(size, checkpointed, SAFETY * max(floor, held + added.of(size)))
                size //= 2


def may_checkpoint(ready: Ready) -> bool:
    """Whether activations may be computed twice: the recipe does not refuse it, and the model has blocks."""
    left_open = "train.checkpoint_activations" in ready.origins
    return left_open and len(ready.pretrained.anatomy.blocks) > 0 and not may_keep(ready)


def _with(choice: Choice, recipe: Recipe, ready: Ready, learning: Learning) -> tuple[Recipe, Ready, Learning]:
    resolved = ready.recipe.train
    changes: dict[str, int | bool] = {}
    if choice.micro_batch_size != resolved.micro_batch_size:
        changes["micro_batch_size"] = choice.micro_batch_size
    if choice.checkpointed and resolved.checkpoint_activations is not True:
        changes["checkpoint_activations"] = True
        checkpoint_blocks(ready.pretrained.model, ready.pretrained.anatomy)
    if not changes:
        return recipe, ready, learning
    recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update=changes)})
    train = resolved.model_copy(update=changes)
    ready = replace(ready, recipe=ready.recipe.model_copy(update={"train": train}))
    batches, _ = make_batches(ready, ready.parts["train"])
    return recipe, ready, replace(learning, batches=batches)


def _told(ready: Ready, learning: Learning, choice: Choice) -> list[str]:
    train = ready.recipe.train
    whole, was = int(train.batch_size), int(train.micro_batch_size)
    lines = []
    if choice.micro_batch_size != was:
        passes = -(-whole // choice.micro_batch_size)
        lines.append(
            f"train.micro_batch_size: {choice.micro_batch_size} instead of {was}; a step still takes {whole} examples, "
            f"in {passes} passes, and its gradient is the same to rounding"
        )
    if choice.checkpointed and train.checkpoint_activations is not True:
        lines.append(
            "train.checkpoint_activations: true; activations are computed twice, the gradient is the same, and a step "
            "takes about a third longer"
        )
    if choice.micro_batch_size != was and moving_statistics(learning.model):
        lines.append("mind: BatchNorm learns here and takes its statistics from each pass, so results do change")
    return lines or ["nothing has to change for the memory"]


def _in_time(ready: Ready, found: Forecast, limit: float) -> list[str]:
    """Words on a run that fits; RecipeError on one that does not."""
    if found.seconds > limit:
        raise RecipeError(time_advice(ready, found, limit))
    if found.high > limit:
        return [f"mind: --max-time is {in_words(limit)}, within the band; on a busy machine it may take longer"]
    return [f"it fits into --max-time, {in_words(limit)}"]
