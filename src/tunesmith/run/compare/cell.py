"""A cell: one run that a study makes, known by a hash of everything that decides it; and what is told of it.

The hash is over every setting, with defaults written out and local paths made absolute, and over the content of the
files that data, model and old tasks are read from. A folder named by it holds the same run for every study, so a run
that is there is never made again. Pictures that a table merely names are not in it unless `data.pictures` is.
"""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith.places import harness_parts, resolve_place
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.folder import open_run
from tunesmith.run.setup import absolute


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One run to make: its name for people, its whole recipe, and the hash of everything that decides it."""

    name: str
    recipe: Recipe
    key: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a cell ended. exit_code as docs/exit_codes.md has it; below 0 the signal that killed it."""

    folder: Path
    state: Literal["finished", "failed", "interrupted"]
    exit_code: int = 0
    reason: str = ""
    made: bool = True
    """False where the finished run stood there before."""


@dataclass(frozen=True, slots=True)
class CellBegan:
    """A cell's process was started; `resumed` where it goes on with a run that began earlier."""

    cell: Cell
    folder: Path
    resumed: bool


@dataclass(frozen=True, slots=True)
class CellLearns:
    """The newest step of a cell, and the share of its training that is done."""

    cell: Cell
    share: float
    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class CellScored:
    """An evaluation on the validation examples within a cell's run."""

    cell: Cell
    step: int
    scores: Mapping[str, float]
    best: bool


@dataclass(frozen=True, slots=True)
class CellWaits:
    """Another process works in the cell's folder; the cell comes when that has ended."""

    cell: Cell
    folder: Path


@dataclass(frozen=True, slots=True)
class CellEnded:
    """A cell is done with, well or not."""

    cell: Cell
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class CellsPlanned:
    """How many cells there are in all; the first that is told."""

    total: int


CellEvent = CellsPlanned | CellBegan | CellLearns | CellScored | CellWaits | CellEnded
OnEvent = Callable[[CellEvent], None]


def make_cell(name: str, recipe: Recipe, known: dict[str, str]) -> Cell:
    """A cell of this recipe. known: hashes of files that this study has read already; pass the same dict each time."""
    whole = absolute(recipe).model_copy(update={"output": "auto"})
    settings = whole.as_dict()
    del settings["output"]
    for place in _places(settings):
        if place not in known:
            known[place] = _content(place)
    files = {place: known[place] for place in _places(settings) if known[place]}
    decides = json.dumps([settings, files], sort_keys=True, ensure_ascii=False)
    return Cell(name, whole, hashlib.sha256(decides.encode()).hexdigest()[:12])


def _places(settings: Mapping[str, Any]) -> list[str]:
    """Everything that a recipe reads from: model, data, and what old tasks name."""
    forgetting = settings.get("forgetting") or {}
    olds = forgetting.get("old_tasks") or []
    data = [settings["data"], *(old["data"] for old in olds if old.get("data"))]
    found = [each.get(key) for each in data for key in ("path", "validation", "test", "pictures")]
    found += [
        settings["model"].get("name"),
        settings["model"].get("weights"),
        *(harness_parts(old["source"])[1] for old in olds),
    ]
    return [place for place in found if place]


def _content(place: str) -> str:
    """Hash of the files behind a name, names and contents; empty for a name that means nothing on this disk."""
    path = Path(resolve_place(place))
    roots = [path] if path.exists() else sorted(map(Path, glob.glob(place)))
    if (path / "manifest.json").is_file():  # an earlier run: what it delivers and what it was made from
        open_run(path)
        roots = [path / "manifest.json", path / "best"]
    digest = hashlib.sha256()
    for root in roots:
        files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
        for file in files:
            name = file.relative_to(root).as_posix() if root.is_dir() else file.name
            if "__pycache__" in name or any(part.startswith(".") for part in name.split("/")):
                continue
            digest.update(f"{len(name)}:{name}:{file.stat().st_size}:".encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest() if roots else ""
