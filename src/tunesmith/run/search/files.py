"""What a search leaves beside its trials: trials.json, verdict.json and best.yaml."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from tunesmith.run.folder import write_json
from tunesmith.run.search import trial_folder as folders
from tunesmith.run.search.book import Book
from tunesmith.run.search.checks import values_of
from tunesmith.run.search.confirm import Verdict
from tunesmith.run.search.trials import Trial
from tunesmith.train.checkpoint import write_atomically


@dataclass(frozen=True, slots=True)
class Searched:
    """A search as far as it has come. best: the winner, None where no trial is complete. seconds: of work on it."""

    book: Book
    trials: tuple[Trial, ...]
    best: Trial | None
    verdict: Verdict
    seconds: float

    @property
    def folder(self) -> Path:
        """Where it stands."""
        return self.book.folder


def write_files(found: Searched) -> None:
    """Write everything but the page anew from what the search knows."""
    main = found.book.main
    write_json(
        found.folder / "trials.json",
        {"main_score": None if main is None else asdict(main), "part": "validation",
         "trials": [asdict(trial) for trial in found.trials]},
    )  # fmt: skip
    write_json(found.folder / "verdict.json", found.verdict.as_dict())
    if found.best is not None:
        write_atomically(found.folder / "best.yaml", best_recipe(found, found.best))


def chosen_on(found: Searched) -> str:
    """A sentence on old tasks by whose reported examples trials were chosen too; empty where there is none."""
    best = found.best
    names = () if best is None else folders.chosen_on(found.book.trial(best.number), forgetting=found.book.forgetting)
    if not names:
        return ""
    one = len(names) == 1
    return (
        f"the old task{'' if one else 's'} {' and '.join(names)} {'has' if one else 'have'} one part only, so that the "
        "examples that are reported also chose: on others more may be lost."
    )


def changes_of(found: Searched) -> list[tuple[str, object, str]]:
    """What the best trial changes of the recipe that was searched from: path, value before, value now. A value that
    was drawn and is the one that stood there is no change."""
    if found.best is None:
        return []
    before, after = values_of(found.book.recipe), values_of(found.book.recipe.changed(*found.best.settings))
    drawn = [setting.partition("=") for setting in found.best.settings]
    return [(path, before.get(path), value) for path, _, value in drawn
            if "{" in value or after.get(path) != before.get(path)]  # fmt: skip


def best_recipe(found: Searched, best: Trial) -> str:
    """The best recipe as a file for `tunesmith fit`, with where it came from."""
    main = found.book.main
    assert main is not None
    recipe = found.book.recipe.changed(*best.settings)
    changes = changes_of(found)
    kinds = {
        state: sum(t.state == state for t in found.trials) for state in ("complete", "pruned", "failed", "running")
    }
    told = ", ".join(f"{count} {state}" for state, count in kinds.items() if count)
    default = found.trials[0].values
    lines = [
        f"The best recipe of a search over {len(found.trials)} trials ({told}).",
        f"Trial {best.number}: validation {main.name} {best.values[0]:.4f}"
        + (f"; the default, trial 0: {default[0]:.4f}." if default and best.number else "."),
        found.verdict.words,
        f"Scores are those of validation examples; {chosen_on(found) or 'the test part was not looked at.'}",
        "What it changes of the recipe that was searched from:" if changes else "It is the default as it was.",
        *(f"  {path}: {before} -> {after}" for path, before, after in changes),
        f"Its run: {found.book.trial(best.number)}",
    ]
    head = "".join(f"# {line}\n" for text in lines for line in text.splitlines())
    return head + "\n" + yaml.safe_dump(recipe.as_dict(), allow_unicode=True, sort_keys=False)
