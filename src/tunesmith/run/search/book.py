"""What a search is: search.json, written once, completed when the default recipe is resolved, and never changed.

A search that is started again in its folder must be the same search: the same recipe, space, objectives and pruning,
and the same in the files that the recipe reads.
How long it goes on (trials, time, jobs, confirming seeds) may change from start to start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tunesmith.errors import RunError
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.contents import contents
from tunesmith.run.folder import write_json
from tunesmith.run.search.checks import refusals, values_of
from tunesmith.run.search.space import Dimension
from tunesmith.run.search.trials import Pruning
from tunesmith.types import MainScore

FILE = "search.json"
VERSION = 2
"""Of what a search keeps of its trials. Before 2, which was not written down, what old tasks lost under a retention
that moves the weights at the end was of the test part."""


@dataclass(frozen=True, slots=True)
class Book:
    """recipe: the default, paths absolute. asked: the dimensions as given. space: those with defaults filled in; main:
    the score that decides; validation: which rows the validation part holds; the three are None until the default
    recipe is resolved. files: hashes of what the recipe reads. version: `VERSION` when it was begun."""

    folder: Path
    recipe: Recipe
    asked: tuple[Dimension, ...]
    forgetting: bool
    pruning: Pruning
    space: tuple[Dimension, ...] | None = None
    main: MainScore | None = None
    validation: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    version: int = VERSION

    @property
    def base(self) -> Recipe:
        """The recipe that trials change: the default, which scores old tasks at every evaluation where forgetting is
        an objective."""
        return self.recipe.changed("forgetting.at_evaluations=true") if self.forgetting else self.recipe

    def trial(self, number: int) -> Path:
        """The folder of a trial."""
        return self.folder / "trials" / f"{number:04d}"

    def settled(self, space: Sequence[Dimension], main: MainScore, validation: str) -> Book:
        """The same, complete, and written down."""
        found = replace(self, space=tuple(space), main=main, validation=validation)
        found.write()
        return found

    def write(self) -> None:
        """Write search.json."""
        write_json(
            self.folder / FILE,
            {
                "recipe": self.recipe.as_dict(),
                "asked": [d.as_dict() for d in self.asked],
                "forgetting": self.forgetting,
                "pruning": self.pruning,
                "space": None if self.space is None else [d.as_dict() for d in self.space],
                "main_score": None if self.main is None else asdict(self.main),
                "validation": self.validation,
                "files": dict(self.files),
                "version": self.version,
            },
        )


def open_book(
    folder: Path, recipe: Recipe, asked: Sequence[Dimension], *, forgetting: bool, pruning: Pruning
) -> tuple[Book, bool]:
    """The search of this folder, and whether it began earlier. RunError when another search stands there."""
    wanted = Book(folder, recipe, tuple(asked), forgetting, pruning, files=contents(recipe.as_dict()))
    if not (folder / FILE).is_file():
        wanted.write()
        return wanted, False
    found = read_book(folder)
    changed = [name for name, then, now in (
        ("the space", found.asked, wanted.asked),
        ("the objectives", found.forgetting, wanted.forgetting),
        ("the pruning", found.pruning, wanted.pruning),
    ) if then != now]  # fmt: skip
    old, new = values_of(found.recipe), values_of(recipe)
    changed += [path for path in sorted({*old, *new}) if old.get(path) != new.get(path) and path != "output"
                and not isinstance(new.get(path), dict)][:5]  # fmt: skip
    now = [f"what {place} holds" for place, then in found.files.items() if wanted.files.get(place) != then]
    changed += now[:5]
    if changed:
        raise RunError(
            f"{folder} holds another search: {', '.join(changed)} differ. Go on with that one by the command that "
            "began it, or name another --output."
        )
    _refuse_what_is_too_old(found)
    return found, True


def _refuse_what_is_too_old(book: Book) -> None:
    """RunError where what an older version began or kept would not be begun or kept now."""
    refused = refusals(book.space or (), book.recipe)
    if refused:
        told = "; ".join(f"{path}: {why}" for path, why in refused.items())
        raise RunError(
            f"{book.folder} holds a search begun by an older version that searched over {', '.join(refused)} ({told}). "
            "Name another --output."
        )
    if book.forgetting and book.version < VERSION and _holds_at_end(book):
        raise RunError(
            f"{book.folder} was begun by an older version, which judged trials by what old tasks lost on the test "
            "part where a retention moves the weights at the end (wise_ft). Trials are now judged by "
            "validation examples, and the two cannot be compared: name another --output."
        )


def _holds_at_end(book: Book) -> bool:
    """Whether a retention of this search chooses its point once training has ended."""
    choices = [
        choice for each in (*book.asked, *(book.space or ())) if each.path == "retention" for choice in each.choices
    ]
    recipes = [book.recipe, *(book.recipe.changed(f"retention={choice}") for choice in choices)]
    return any(each.retention is not None and each.retention.at_end for each in recipes)


def read_book(folder: Path) -> Book:
    """The search of a folder. RunError when there is none."""
    file = folder / FILE
    if not file.is_file():
        raise RunError(f"{folder} holds no search: it has no {FILE}. `tunesmith search` makes one.")
    known: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    dimensions = {key: None if known[key] is None else tuple(Dimension.from_dict(d) for d in known[key])
                  for key in ("asked", "space")}  # fmt: skip
    main = known["main_score"]
    return Book(
        folder,
        Recipe.make(known["recipe"]),
        dimensions["asked"] or (),
        known["forgetting"],
        known["pruning"],
        dimensions["space"],
        None if main is None else MainScore(**main),
        known["validation"],
        known.get("files", {}),
        known.get("version", 1),
    )
