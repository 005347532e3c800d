"""Old tasks and retention in a run: opened before anything learns, asked while it does, summed up at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tunesmith.errors import Fault, RecipeError, RunError
from tunesmith.forgetting.measures import lost, summary
from tunesmith.forgetting.old_tasks import OpenTask, open_old_tasks
from tunesmith.metrics.boxes import nothing_to_score
from tunesmith.recipe.recipe import Recipe
from tunesmith.retention.base import Held, Penalty
from tunesmith.run.contents import old_contents
from tunesmith.run.folder import write_json
from tunesmith.run.line import Line
from tunesmith.run.setup import Learning, Ready
from tunesmith.train import randomness
from tunesmith.train.checkpoint import disk_faults
from tunesmith.types import Batch

NEW_PLACES = 1_000_000  # positions of new inputs that are distilled start here, so that they draw dropout of their own


@dataclass(frozen=True)
class Untouched:
    """The old tasks of a run, and the untouched model's raw answers to their test and validation examples."""

    tasks: tuple[OpenTask, ...]
    skipped: tuple[str, ...]
    """Old tasks that there are not, or that no choice goes by, in words."""
    answers: Mapping[str, np.ndarray]
    """By `NAME/test` and `NAME/validation`."""


@dataclass(frozen=True)
class Guard:
    """What stands between a run and forgetting: the old tasks, the values before the first step, the penalty."""

    untouched: Untouched
    start: Mapping[str, Tensor]
    held: Held | None
    penalty: Penalty | None


def untouched(ready: Ready, folder: Path) -> Untouched:
    """Open the old tasks and take the untouched model's answers, or read those that a resumed run took before."""
    options, device = ready.recipe.forgetting, ready.device
    if not options.old_tasks:
        return Untouched((), (), {})
    kept, known = folder / "predictions" / "old_before.npz", None
    noted = kept.with_suffix(".json")
    files = device.agree(old_contents(ready.recipe.as_dict()) if device.is_main else {})
    if device.agree(kept.is_file()):
        _must_be_same(noted, files)
        with np.load(kept, allow_pickle=False) as file:
            known = {name: file[name] for name in file.files}
    tasks, skipped = open_old_tasks(
        options,
        task=ready.recipe.task,
        dataset=ready.dataset,
        parts=ready.parts,
        pretrained=ready.pretrained,
        device=device,
        work=folder / ".work" / f"process-{device.rank}",
        seed=ready.recipe.train.seed,
        batch_size=int(float(ready.recipe.train.batch_size)),
        known=known,
        choosing=chooses(ready.recipe),
    )
    if known is not None:
        return Untouched(tasks, (*skipped, *_without_choice(ready.recipe, tasks, known)), known)
    found = {f"{task.name}/{part}": task.untouched(part) for task in tasks for part in task.parts}
    if device.is_main and tasks:
        with disk_faults(kept):
            kept.parent.mkdir(exist_ok=True)
            unfinished = kept.with_suffix(".part.npz")
            np.savez(unfinished, **found)  # type: ignore[arg-type]
            write_json(noted, files)
            unfinished.replace(kept)
    return Untouched(tasks, (*skipped, *_without_choice(ready.recipe, tasks, found)), found)


def _without_choice(recipe: Recipe, tasks: Sequence[OpenTask], answers: Mapping[str, np.ndarray]) -> list[str]:
    """Old tasks that no choice of this run goes by, in words."""
    told = "has nothing to score (no true box) where the run chooses by old tasks, so it is left out there"
    boxes = [t for t in tasks if chooses(recipe) and t.main.name.startswith("ap")]  # other scores are always there
    return [f"the old task {t.name} {told}" for t in boxes if nothing_to_score(t.main.name, _first(t, answers))]


def _first(task: OpenTask, answers: Mapping[str, np.ndarray]) -> float:
    """The untouched model's main score on the examples that choose."""
    part = task.parts[-1]
    return task.score(answers[f"{task.name}/{part}"], part)[task.main.name]


def _must_be_same(noted: Path, files: Mapping[str, str]) -> None:
    """RunError where what old tasks read is no longer what the untouched model answered."""
    then: Mapping[str, str] = json.loads(noted.read_text(encoding="utf-8")) if noted.is_file() else files
    changed = [place for place in sorted({*then, *files}) if then.get(place) != files.get(place)]
    if changed:
        raise RunError(
            f"{noted.parents[1]} cannot go on exactly: what an old task reads changed since it began "
            f"({', '.join(changed[:3])}). Put it back as it was, or start a new run."
        )


def chooses(recipe: Recipe) -> bool:
    """Whether the run looks at old tasks before its end, on validation examples where they have any."""
    at_end = recipe.retention is not None and recipe.retention.at_end
    return recipe.forgetting.at_evaluations or recipe.forgetting.at_most is not None or at_end


def guard(ready: Ready, learning: Learning, old: Untouched) -> Guard:
    """Keep the values before the first step where they are needed, and make the penalty. Called before a checkpoint is
    read, so that a resumed run has the same. RecipeError where the retention cannot serve."""
    method, retention, rule = ready.recipe.method, ready.recipe.retention, ready.recipe.forgetting.at_most
    if rule is not None and not (old.tasks and len(ready.parts["validation"].encoded) and ready.recipe.train.keep_best):
        raise RecipeError([Fault("forgetting.at_most", "chooses among evaluated states by what old tasks have lost: it "
                                 "needs an old task, validation examples, and train.keep_best: true.")])  # fmt: skip
    start: dict[str, Tensor] = {}
    if retention is not None or (method.adapter and old.tasks):
        start = {name: tensor.detach().clone() for name, tensor in learning.learned.items()}
    if retention is None:
        return Guard(old, start, None, None)
    labelled = [task for task in old.tasks if task.labelled]
    if retention.needs_old and not labelled:
        raise RecipeError([Fault("retention", f"{type(retention).name} needs an old task with examples and labels: "
                                 "name one in forgetting.old_tasks, such as an earlier run's folder (for a language "
                                 "model texts will do; tasks of the harness are scored alone).")])  # fmt: skip
    if retention.at_end and not method.has_line:
        raise RecipeError([Fault("retention", f"{type(retention).name} looks for a point between the untouched and the "
                                 f"tuned weights, and {type(method).name} has no such line: it is on or off. Take "
                                 "another retention, or another method.")])  # fmt: skip
    head = ready.pretrained.anatomy.head
    learned = {name: tensor for name, tensor in learning.learned.items() if not in_head(name, head)}
    if retention.at_end and learned and not len(ready.parts["validation"].encoded):
        raise RecipeError([Fault("retention", f"{type(retention).name} chooses on validation examples, and there are "
                                 "none: give data.validation or data.split.validation.")])  # fmt: skip
    held = Held(
        model=learning.model,
        learned=learned,
        start={name: start[name] for name in learned},
        old=tuple(task for task in old.tasks if task.has_examples),
        new=partial(_new_batch, ready, learning),
        switched_off=partial(method.switched_off, learning.model, start),
        seed=ready.recipe.train.seed,
        batch_size=learning.batches.batch_size,
    )
    return Guard(old, start, held, retention.penalty(held) if learned else None)


def in_head(name: str, head: tuple[str, ...]) -> bool:
    """Whether a learned tensor belongs to the head, whatever a wrapper put around the module's name."""
    parts = name.split(".")
    for each in head:
        wanted = each.split(".")
        if any(parts[i : i + len(wanted)] == wanted for i in range(len(parts))):
            return True
    return False


def _new_batch(ready: Ready, learning: Learning, step: int, count: int) -> Batch:
    chosen = randomness.generator(ready.recipe.train.seed, "distil", step)
    numbers = torch.randint(len(ready.parts["train"].encoded), (count,), generator=chosen).tolist()
    places = list(range(NEW_PLACES, NEW_PLACES + count))
    batch: Batch = ready.device.move(learning.batches.collate(numbers, places, 0))
    return batch


def at_evaluation(ready: Ready, learning: Learning, guarded: Guard) -> Callable[[], dict[str, float]] | None:
    """What an evaluation adds: each old task's main score and what is forgotten, on its validation examples, or
    where it has none on those that are reported."""
    options = ready.recipe.forgetting
    if not guarded.untouched.tasks or not (options.at_evaluations or options.at_most is not None):
        return None

    def found() -> dict[str, float]:
        scores: dict[str, float] = {}
        for name, (now, gone) in scores_now(learning, guarded.untouched).items():
            scores |= {f"old/{name}": now, f"forgotten/{name}": gone}
        return scores

    return found


def scores_now(learning: Learning, old: Untouched) -> dict[str, tuple[float, float]]:
    """Of each old task, on the examples that choose: its main score now, and what it has lost since the start. One that
    had nothing to score there is left out, so that no choice goes by it."""
    found = {}
    for task in old.tasks:
        part, first = task.parts[-1], _first(task, old.answers)
        if nothing_to_score(task.main.name, first):
            continue
        now = task.score(task.answers(learning.model, part), part)[task.main.name]
        found[task.name] = now, lost(first, now, task.main)
    return found


def admits(ready: Ready) -> Callable[[Mapping[str, float]], bool]:
    """Whether scores may be the best ones: no old task has lost more than the recipe allows."""
    most = ready.recipe.forgetting.at_most

    def allowed(scores: Mapping[str, float]) -> bool:
        gone = [value for name, value in scores.items() if name.startswith("forgotten/")]
        return most is None or all(value <= most for value in gone)

    return allowed


def hold_at_end(ready: Ready, learning: Learning, guarded: Guard) -> dict[str, Any] | None:
    """Let the retention choose a point between untouched and tuned; what a report shows of it."""
    retention = ready.recipe.retention
    if retention is None or not retention.at_end or guarded.held is None or not guarded.held.learned:
        return None
    return retention.finish(Line(ready, learning, guarded.held, partial(scores_now, learning, guarded.untouched)))


def summed_up(ready: Ready, learning: Learning, guarded: Guard, folder: Path) -> dict[str, Any]:
    """`old_tasks` of scores.json: before, after, with the method off, and what was forgotten."""
    method, seen = ready.recipe.method, _seen(folder)
    found = {}
    for task in guarded.untouched.tasks:
        after = {part: task.answers(learning.model, part) for part in task.parts}
        off = None
        if method.adapter and guarded.start:
            with method.switched_off(learning.model, guarded.start):
                off = task.answers(learning.model, task.parts[0])
        before = {part: guarded.untouched.answers[f"{task.name}/{part}"] for part in task.parts}
        found[task.name] = summary(task, before, after, off=off, seen=seen.get(task.name, []))
    return found


def _seen(folder: Path) -> dict[str, list[float]]:
    """Old tasks' main scores at the evaluations so far, from events.jsonl."""
    found: dict[str, list[float]] = {}
    with (folder / "events.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            for name, value in json.loads(line).get("scores", {}).items():
                if name.startswith("old/"):
                    found.setdefault(name.removeprefix("old/"), []).append(value)
    return found
