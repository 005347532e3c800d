"""A recipe's local paths, made absolute, so that a run can be resumed from another folder."""

from __future__ import annotations

import os

from tunesmith.data.options import PLACES, DataOptions
from tunesmith.places import harness_parts
from tunesmith.recipe.forgetting import OldTask, is_place
from tunesmith.recipe.recipe import Recipe


def absolute(recipe: Recipe) -> Recipe:
    """The same recipe; what is not on this disk stays as it is."""
    model = recipe.model
    return recipe.model_copy(
        update={
            "data": _absolute_data(recipe.data),
            "model": model.model_copy(
                update={name: _absolute(getattr(model, name)) for name in ("name", "backbone", "weights")}
            ),
            "forgetting": recipe.forgetting.model_copy(
                update={"old_tasks": tuple(_absolute_old(task) for task in recipe.forgetting.old_tasks)}
            ),
        }
    )


def _absolute_data(data: DataOptions) -> DataOptions:
    return data.model_copy(update={name: _absolute(getattr(data, name)) for name in PLACES})


def _absolute_old(task: OldTask) -> OldTask:
    mark, name = harness_parts(task.source)
    place = name if not is_place(task.source) else _absolute(name)
    return task.model_copy(update={"source": f"{mark}{place}", "data": task.data and _absolute_data(task.data)})


def _absolute(name: str | None) -> str | None:
    glob = name is not None and any(c in name for c in "*?[") and ":" not in name
    return os.path.abspath(name) if name is not None and (glob or os.path.exists(name)) else name
