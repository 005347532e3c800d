"""A cell: one run that a study makes, known by a hash of everything that decides it; and what is told of it.

The hash is over every setting, with defaults written out and local paths made absolute, and over the content of the
files that data, model and old tasks are read from. A folder named by it holds the same run for every study, so a run
that is there is never made again. Pictures that a table merely names are not in it unless `data.pictures` is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunesmith.recipe.recipe import Recipe
from tunesmith.run.absolute import absolute
from tunesmith.run.contents import contents


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
    decides = json.dumps([settings, contents(settings, known)], sort_keys=True, ensure_ascii=False)
    return Cell(name, whole, hashlib.sha256(decides.encode()).hexdigest()[:12])
