"""The way in for whoever holds a task: texts and pictures with labels take one road, pictures with boxes another, and
chats and preferences a third."""

from __future__ import annotations

from pathlib import Path

from tunesmith.data.load import load
from tunesmith.data.load_boxes import load_boxes
from tunesmith.data.load_chats import KINDS, load_chats
from tunesmith.data.options import DataOptions
from tunesmith.types import Dataset


def load_for(kind: str, options: DataOptions, folder: Path, *, inputs: tuple[str, ...]) -> Dataset:
    """The person's data as a task of this kind reads them. kind: `Task.kind`; inputs: as for `load`."""
    if kind == "boxes":
        return load_boxes(options, folder)
    if kind in KINDS:
        return load_chats(options, folder, kind)
    return load(options, folder, inputs=inputs, kind=kind)
