"""The way in for whoever holds a task: texts and pictures with labels take one road, pictures with boxes another."""

from __future__ import annotations

from pathlib import Path

from tunesmith.data.load import load
from tunesmith.data.load_boxes import load_boxes
from tunesmith.data.options import DataOptions
from tunesmith.types import Dataset


def load_for(kind: str, options: DataOptions, folder: Path, *, inputs: tuple[str, ...]) -> Dataset:
    """The person's data as a task of this kind reads them. kind: texts, images or boxes; inputs: as for `load`."""
    if kind == "boxes":
        return load_boxes(options, folder)
    return load(options, folder, inputs=inputs, kind=kind)
