"""Rows of a text classifier's output layer by label name: which of them the pretrained head has, and where they lie.

A label keeps its row only under the very same name, capitals and blanks included: "Sport" and "sport" may be two
classes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.models.weights_file import INDEX, WEIGHTS, read_object

if TYPE_CHECKING:
    from torch import Tensor

NO_NAME = re.compile(r"LABEL_\d+")
"""What transformers calls a row that nobody has named."""


def exact_rows(before: Sequence[str], labels: Sequence[str]) -> dict[int, int]:
    """Place of each label that the head knows -> its row. before: what the rows mean. A name that two rows bear means
    neither; placeholders (`LABEL_0`) mean something only where all labels are the same."""
    if sorted(before) == sorted(labels) and len(set(before)) == len(before):
        return {place: list(before).index(label) for place, label in enumerate(labels)}
    count = Counter(before)
    row = {name: i for i, name in enumerate(before) if count[name] == 1 and not NO_NAME.fullmatch(name)}
    return {place: row[label] for place, label in enumerate(labels) if label in row}


def tensors_of_file(folder: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """These tensors of a model folder, float32, as far as its safetensors hold them; nothing else is read."""
    import torch
    from safetensors import safe_open

    found: dict[str, Tensor] = {}
    for file, inside in _files(folder, names).items():
        with safe_open(folder / file, framework="pt") as opened:
            held = set(opened.keys())
            found |= {name: opened.get_tensor(name).to(torch.float32) for name in inside if name in held}
    return found


def _files(folder: Path, names: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Weight file -> those of the tensors that it may hold."""
    if (folder / WEIGHTS).is_file():
        return {WEIGHTS: names}
    if not (folder / INDEX).is_file():
        return {}
    where = read_object(folder / INDEX).get("weight_map", {})
    files: dict[str, list[str]] = {}
    for name in names:
        if name in where:
            files.setdefault(where[name], []).append(name)
    return files
