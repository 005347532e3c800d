"""Examples to a part that is ready to be scored or trained on: encoded once, kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith.data.encoded import encode_to_disk
from tunesmith.data.stored import keep_pictures
from tunesmith.evaluate.evaluate import Encodings, Part
from tunesmith.tasks.base import Task
from tunesmith.types import Example, Examples


def encoded_part(task: Task, examples: Examples, labels: Sequence[str], processor: Any, path: Path) -> Part:
    """One part of the data, encoded once and kept on disk at `path` (its ending is chosen here), and its targets."""

    def encode(rows: Sequence[Example]) -> list[Any]:
        return task.encode(rows, processor)

    encoded: Encodings = (
        encode_to_disk(examples, encode, path.with_suffix(".arrow"))
        if task.in_tokens
        else keep_pictures(examples, encode, path.with_suffix(".pictures"))
    )
    return Part(encoded, task.targets(examples, labels), tuple(labels))
