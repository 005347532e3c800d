"""Targets that are the untouched model's answers: taken once a run, and read again when it is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tunesmith.evaluate.evaluate import Part
from tunesmith.tasks.base import Task
from tunesmith.train.checkpoint import disk_faults
from tunesmith.train.device import Device
from tunesmith.types import Pretrained


def refer(task: Task, pretrained: Pretrained, parts: Mapping[str, Part], *, device: Device, kept: Path) -> None:
    """Fill `Part.targets` of every part in place, from `kept` where an interrupted run of the same data left it."""
    if kept.is_file():
        with np.load(kept, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        if all(found[name].shape == part.targets.shape for name, part in parts.items()):
            for name, part in parts.items():
                part.targets[...] = found[name]
            return
    task.refer(pretrained, parts, device=device)
    unfinished = kept.with_suffix(".part.npz")
    with disk_faults(kept):
        np.savez(unfinished, **{name: part.targets for name, part in parts.items()})  # type: ignore[arg-type]
        unfinished.replace(kept)
