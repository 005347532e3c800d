"""The splits of a data set of the datasets library: of a folder that `save_to_disk` wrote, or of a name on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunesmith.data.readers._walk import lies_inside
from tunesmith.errors import DataError
from tunesmith.places import HUB


def load_splits(path: Path, shown: str) -> dict[str, Any]:
    """Each `datasets.Dataset` by its split's name, "" for a single one: from a folder, else from the hub by `shown`.

    DataError where it cannot be loaded, or where a folder says that its Arrow files lie outside it.
    """
    import datasets

    try:
        found = datasets.load_from_disk(str(path)) if path.is_dir() else _from_hub(shown)
    except Exception as error:  # the library raises many kinds; each of them means: this cannot be loaded
        raise DataError(f"{shown} cannot be loaded by datasets: {type(error).__name__}: {error}") from error
    splits = dict(found) if isinstance(found, datasets.DatasetDict) else {"": found}
    if path.is_dir():
        home = path.resolve()
        for file in (file["filename"] for split in splits.values() for file in split.cache_files):
            if not lies_inside(file, home):
                raise DataError(f"{shown} says that {file} is a part of it, which leads out of the folder.")
    return splits


def _from_hub(shown: str) -> Any:
    import datasets

    name = shown.removeprefix(HUB)
    owner, _, rest = name.partition("/")
    repository, _, config = rest.partition("/")
    return datasets.load_dataset(f"{owner}/{repository}" if repository else owner, config or None)
