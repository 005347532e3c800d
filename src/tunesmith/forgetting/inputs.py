"""Inputs without labels: those of the new task itself, or generic ones that the person named."""

from __future__ import annotations

from tunesmith.data.load import load
from tunesmith.data.load_for import load_for
from tunesmith.data.options import DataOptions
from tunesmith.errors import DataError, TunesmithError
from tunesmith.evaluate.evaluate import Part
from tunesmith.forgetting.base import NothingToScore, Opening
from tunesmith.forgetting.work import LEARNED, OldParts, held_names, some_of
from tunesmith.tasks.base import Task
from tunesmith.types import Dataset


class Inputs:
    """Parts by name, as `OldParts` gives them; `told` says in words where they come from. own: those of `data`, where
    they were read before."""

    def __init__(self, opening: Opening, data: DataOptions | None, whose: str, *, own: OldParts | None = None) -> None:
        self.labelled = data is None or opening.task.kind == "boxes"
        self._opening, self._known = opening, dict[str, Part]()
        if data is None:
            self._own = None
            self.names = held_names({name: len(part.encoded) for name, part in opening.parts.items()})
            self.told = "of this run's own data"
            if not self.names:
                raise NothingToScore(f"{whose} is left out: the data have neither test nor validation examples.")
            return
        self._own = self._read(data, whose) if own is None else own
        self.names, self.told = self._own.names, f"of {data.path}"

    def _read(self, data: DataOptions, whose: str) -> OldParts:
        opening = self._opening
        dataset = unlabelled_data(opening.task, data, opening, whose)
        return OldParts(
            opening.task,
            dataset,
            dataset.labels if self.labelled else (),
            opening.pretrained.processor,
            opening.folder,
            rows=opening.rows,
            labelled=self.labelled,
        )

    def __call__(self, name: str) -> Part:
        """The part of that name, encoded when it is first asked for."""
        if self._own is not None:
            return self._own(name)
        if name not in self._known:
            part = self._opening.parts[name]
            self._known[name] = part if name == LEARNED else some_of(part, self._opening.rows)
        return self._known[name]


def unlabelled_data(task: Task, options: DataOptions, opening: Opening, whose: str) -> Dataset:
    """Data that need no labels. DataError where they cannot be read."""
    try:
        if task.kind == "boxes":
            dataset = load_for(task.kind, options, opening.folder, inputs=task.input_columns)
        else:
            dataset = load(options, opening.folder, inputs=task.input_columns, needs_label=False, kind=task.kind)
    except TunesmithError as fault:
        raise DataError(f"{whose}: its data cannot be used. {fault}") from fault
    if not len(dataset.test) and not len(dataset.validation):
        raise DataError(f"{whose}: no example of its data is held out to be scored; give data.split.test a share.")
    return dataset
