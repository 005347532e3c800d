"""Old tasks of a recipe, opened once a run, before anything learns. READ THIS FIRST in this folder.

One file a kind: `run.py` (an earlier run), `head.py` (a model with a head, and data), `texts.py` (loss on held-out
text), `agreement.py` (`auto`: no labels; agreement with the untouched model, or `similarity.py`); of a language model
`language.py` and `harness.py` (tasks of the lm-evaluation-harness). What they have in common is `base.OpenTask`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tunesmith.errors import RecipeError
from tunesmith.evaluate.evaluate import Part
from tunesmith.evaluate.harness_tasks import named
from tunesmith.forgetting.agreement import open_auto_task
from tunesmith.forgetting.base import NothingToScore, Opening, OpenTask
from tunesmith.forgetting.harness import open_harness_task
from tunesmith.forgetting.head import open_head_task
from tunesmith.forgetting.language import LANGUAGE, open_language_task
from tunesmith.forgetting.run import is_run, open_run_task
from tunesmith.forgetting.texts import open_texts_task
from tunesmith.places import HARNESS, resolve_place
from tunesmith.recipe.forgetting import ForgettingOptions, OldTask
from tunesmith.tasks.base import Task
from tunesmith.train.device import Device
from tunesmith.types import Dataset, Pretrained

__all__ = ["OpenTask", "open_old_tasks"]


def open_old_tasks(
    options: ForgettingOptions,
    *,
    task: Task,
    dataset: Dataset,
    parts: Mapping[str, Part],
    pretrained: Pretrained,
    device: Device,
    work: Path,
    seed: int,
    batch_size: int,
    known: Mapping[str, np.ndarray] | None = None,
    choosing: bool = True,
) -> tuple[tuple[OpenTask, ...], tuple[str, ...]]:
    """The old tasks, and in words why others are left out. `pretrained` must still be as it was read.

    work: a folder of this process for files that the run needs. known: the untouched model's answers by `NAME/part`,
    where a resumed run took them before; what needs them then does not take them again. choosing: whether validation
    examples are scored beside the test, since the run chooses by them.
    RunError, DataError or ModelError, with what to do, where an old task that the person named cannot be scored.
    """
    opened: list[OpenTask] = []
    skipped: list[str] = []
    for number, (old, name) in enumerate(zip(options.old_tasks, names_of(options.old_tasks), strict=True)):
        place = work / f"old-{number}"
        opening = Opening(
            name, task, dataset, parts, pretrained, device, place, seed, batch_size, options.rows, known or {}, choosing
        )
        try:
            opened.append(_open(old, opening))
        except NothingToScore as reason:
            skipped.append(str(reason))
    return tuple(opened), tuple(skipped)


def _open(old: OldTask, opening: Opening) -> OpenTask:
    if old.source.startswith(HARNESS):
        return open_harness_task(old.source, opening)
    source = str(Path(resolve_place(old.source)).expanduser())
    known = old.source in ("auto", "texts") or old.task is not None or is_run(source)
    if opening.task.kind in LANGUAGE and known:
        return open_language_task(old, source, opening)
    if old.source == "auto":
        return open_auto_task(old.data, opening)
    if old.source == "texts":
        assert old.data is not None
        return open_texts_task(old.data, opening)
    if old.task is not None and old.data is not None:
        return open_head_task(old.source, old.task, old.data, opening)
    if is_run(source):
        return open_run_task(source, old.data, opening)
    raise RecipeError(
        f"forgetting.old_tasks: {old.source} is no run folder (it has no recipe.yaml). Name a finished run; or a model "
        "with a head and say with task and data what it does; or auto; or texts."
    )


def names_of(tasks: Sequence[OldTask]) -> tuple[str, ...]:
    """What reports call each: its name, else the last part of its source (of a task of the harness its name there),
    numbered where two would be the same."""
    taken = {task.name for task in tasks if task.name is not None}
    found = []
    for task in tasks:
        name = task.name
        if name is None:
            plain = named(task.source) if task.source.startswith(HARNESS) else re.sub(r"[/\\]+$", "", task.source)
            plain = re.split(r"[/\\]", plain)[-1] or task.source
            name = next(n for n in (plain, *(f"{plain}-{i}" for i in range(2, 10_000))) if n not in taken)
            taken.add(name)
        found.append(name)
    return tuple(found)
