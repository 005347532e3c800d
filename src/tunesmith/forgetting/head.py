"""A model with a head as an old task: what it could do before, on data that show it."""

from __future__ import annotations

from typing import Any

import torch

from tunesmith.data.options import DataOptions
from tunesmith.errors import ModelError
from tunesmith.forgetting.base import Opening
from tunesmith.forgetting.headed import Headed, OldHead, head_of
from tunesmith.forgetting.run import check_kind, check_processor, definition, old_data
from tunesmith.forgetting.work import OldParts
from tunesmith.tasks.base import Task
from tunesmith.types import Pretrained


def open_head_task(source: str, task: Task, data: DataOptions, opening: Opening) -> Headed:
    """The task that the head of the model `source` was made for, scored on `data`, whose classes it must know by name.

    ModelError where the model brings no such head, or one that does not fit the new model; DataError for the data.
    """
    whose = f"the old task {opening.name} ({source})"
    check_kind(task, opening, whose)
    task = task.model_copy(update=_settled(task, opening.task))
    dataset = old_data(task, data, opening, (), multi_label=data.multi_label is True, whose=whose)
    found = task.find_model(source, revision=None, weights=None, pretrained=True)
    labels, multi = dataset.labels, dataset.multi_label
    old, again = (task.load(found, labels, multi_label=multi, seed=seed) for seed in (0, 1))
    head = head_of(old.model, opening.pretrained, labels, multi_label=multi, whose=whose)
    _check_read(head, again, whose)
    check_processor(old.processor, opening, dataset, whose)
    parts = OldParts(task, dataset, labels, old.processor, opening.folder, rows=opening.rows)
    opened = Headed("head", opening, task, head, parts)
    opened.definition = definition(opened, dataset, f"the head of {source}")
    return opened


def _check_read(head: OldHead, again: Pretrained, whose: str) -> None:
    """What another seed draws otherwise was in no file: then the model has no head for these classes."""
    for name, module in head.modules.items():
        other = dict(again.model.get_submodule(name).named_parameters())
        drawn = [own for own, p in module.named_parameters() if not torch.equal(p.cpu(), other[own].cpu())]
        if drawn:
            raise ModelError(
                f"{whose}: the model brings no head that knows the classes {', '.join(head.labels)}: {name}.{drawn[0]} "
                "would be drawn at random. The classes of data must have the names that its config.json gives them."
            )


def _settled(task: Task, new: Task) -> dict[str, Any]:
    """Options left at `auto`, as the new run has them, where it is of the same task; of pictures nothing is varied."""
    fields = type(task).model_fields
    same = {name: getattr(new, name) for name in fields if getattr(task, name) == "auto" and hasattr(new, name)}
    if "augment" in fields and type(task) is type(new):
        same["augment"] = new.augment  # type: ignore[attr-defined]
    return same
