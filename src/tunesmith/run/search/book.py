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
from tunesmith.run.search.checks import values_of
from tunesmith.run.search.space import Dimension
from tunesmith.run.search.trials import Pruning
from tunesmith.types import MainScore

FILE = "search.json"


@dataclass(frozen=True, slots=True)
class Book:
    """recipe: the default, paths absolute. asked: the dimensions as given. space: those with defaults filled in; main:
    the score that decides; validation: which rows the validation part holds; the three are None until the default
    recipe is resolved. files: hashes of what the recipe reads."""

    folder: Path
    recipe: Recipe
    asked: tuple[Dimension, ...]
    forgetting: bool
    pruning: Pruning
    space: tuple[Dimension, ...] | None = None
    main: MainScore | None = None
    validation: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)

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
    return found, True


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
    )
