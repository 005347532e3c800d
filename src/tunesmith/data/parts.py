"""Names of files, folders and splits that say which part of the data they are."""

from __future__ import annotations

import re

PARTS = ("train", "validation", "test")
NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def part_of(name: str) -> str | None:
    """The part that a name such as `train`, `dev.csv` or `test-00000-of-00001.parquet` stands for."""
    stem = re.sub(r"(-\d+-of-\d+)?(\.[A-Za-z0-9]+)*$", "", name.casefold())
    return NAMES.get(stem)
