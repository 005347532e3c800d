"""What a study will run: methods and retentions as they are asked for, to cells with a folder each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.errors import Fault, RecipeError
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.compare.cell import Cell, make_cell

NONE = "none"


@dataclass(frozen=True, slots=True)
class Planned:
    """One cell of a study and the row that it belongs to."""

    method: str
    retention: str
    seed: int
    cell: Cell
    folder: Path


def base_recipe(recipe: Recipe | str | Path | None, settings: Sequence[str]) -> Recipe:
    """The recipe that all runs share. RecipeError also for a setting that no run could heed."""
    if any(each.partition("=")[0].strip() == "output" for each in settings):
        raise RecipeError("output: each run of a comparison has a folder of its own; name the whole's with --output")
    if isinstance(recipe, Recipe):
        return recipe.changed(*settings) if settings else recipe
    return Recipe.read(recipe, *settings)


def default_folder(base: Recipe, recipe: Recipe | str | Path | None) -> Path:
    """runs/compare- and the recipe file's name, or task and model: the same each time, so that runs are shared."""
    model = base.model.name.rsplit(":", 1)[-1].rstrip("/").rpartition("/")[2]
    name = Path(recipe).stem if isinstance(recipe, str | Path) else f"{type(base.task).name}-{model}"
    return Path("runs") / f"compare-{_tidy(name)}"


def plan(
    base: Recipe,
    methods: Sequence[str],
    retentions: Sequence[str],
    seeds: int | Sequence[int],
    folder: Path,
    settings: Sequence[str] = (),
) -> tuple[list[Planned], list[str]]:
    """Every cell: seed by seed, so that an early look shows each row; and notes on what was asked twice.

    RecipeError with every fault of all methods and retentions, before anything runs.
    """
    own = _own(base)["retention"]
    _heeded(base, methods, retentions, settings)
    rows = list(_rows(base, _once(methods, "methods"), _once(retentions or [own], "retentions")))
    known: dict[str, str] = {}
    planned: list[Planned] = []
    notes: list[str] = []
    same: dict[str, str] = {}
    for seed in _seeds(base, seeds):
        for method, retention, recipe in rows:
            name = f"{method}-seed{seed}" if retention == NONE else f"{method}-{retention}-seed{seed}"
            train = recipe.train.model_copy(update={"seed": seed})
            cell = make_cell(name, recipe.model_copy(update={"train": train}), known)
            row = method if retention == NONE else f"{method} with {retention}"
            if cell.key in same:
                note = f"{row} is the same as {same[cell.key]} and stands once."
                notes += [note] if note not in notes else []
                continue
            same[cell.key] = row
            planned.append(Planned(method, retention, seed, cell, _folder(folder, name, cell.key)))
    return planned, notes


def split_list(text: str) -> list[str]:
    """`full,lora:targets=[query,value]` -> two items: commas count outside brackets and quotes only."""
    return [item for piece in _split(text, ",") if (item := piece.strip())]


def choice(base: Recipe, section: str, text: str) -> Recipe:
    """The recipe with a method or retention such as `lora:rank=16:alpha=32`. RecipeError names what was asked."""
    name, *options = [piece.strip() for piece in _split(text, ":")]
    try:
        if section == "retention" and name == NONE:
            if options:
                raise RecipeError("none has no options")
            return base.changed("retention=null")
        return base.changed(f"{section}={name}", *(f"{section}.{option}" for option in options))
    except RecipeError as error:
        where = f"--{section}s {text}"
        told = [f"{f.path}: {f.message}" if f.path not in ("", section) else f.message for f in error.faults]
        raise RecipeError([Fault(where, message) for message in told]) from error


def _rows(base: Recipe, methods: Sequence[str], retentions: Sequence[str]) -> Iterator[tuple[str, str, Recipe]]:
    faults: list[Fault] = []
    for section, asked in (("method", methods), ("retention", retentions)):
        for text in asked:
            try:
                choice(base, section, text)
            except RecipeError as error:
                faults += error.faults
    if faults:
        raise RecipeError(faults)
    for method in methods:
        with_method = choice(base, "method", method)
        for retention in retentions:
            yield method, retention, choice(with_method, "retention", retention)


def _once(asked: Sequence[str], what: str) -> list[str]:
    kept = list(dict.fromkeys(asked))
    if not kept:
        raise RecipeError(f"--{what} names nothing to compare; write for example --{what} full,head,lora")
    return kept


def _heeded(base: Recipe, methods: Sequence[str], retentions: Sequence[str], settings: Sequence[str]) -> None:
    """A setting of the recipe's own method reaches the runs with that method only: there must be some."""
    own = _own(base)
    for section, asked in (("method", methods), ("retention", retentions)):
        names = {text.partition(":")[0].strip() for text in asked}
        given = [each for each in settings if re.match(rf"\s*{section}\s*[.=]", each)]
        if given and names and own[section] not in names:
            raise RecipeError(
                f"{given[0]} would reach no run: it is about {own[section]}, and --{section}s names "
                f"{', '.join(asked)}. Write options with the name, such as --{section}s {asked[0]}:OPTION=VALUE"
            )


def _own(base: Recipe) -> dict[str, str]:
    settings = base.as_dict()
    retention = settings["retention"]
    return {"method": str(settings["method"]["name"]), "retention": str(retention["name"]) if retention else NONE}


def _seeds(base: Recipe, seeds: int | Sequence[int]) -> list[int]:
    if isinstance(seeds, int):
        if seeds < 1:
            raise RecipeError(f"--seeds {seeds}: at least one seed is needed")
        return [base.train.seed + number for number in range(seeds)]
    if not seeds or len(set(seeds)) < len(seeds):
        raise RecipeError(f"seeds {list(seeds)}: name at least one, and each once")
    for seed in seeds:
        base.changed(f"train.seed={seed}")
    return list(seeds)


def _folder(folder: Path, name: str, key: str) -> Path:
    """The folder of the run with this key, whatever it was called when it was made; else a new one."""
    there = sorted(found for found in folder.glob(f"*-{key}") if found.is_dir())
    return there[0] if there else folder / f"{_tidy(name)[:80]}-{key}"


def _tidy(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.=]+", "-", name).strip("-.") or "study"


def _split(text: str, mark: str) -> list[str]:
    """The pieces between marks that stand outside brackets and quotes."""
    pieces, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in "[{(":
            depth += 1
        elif sign in "]})":
            depth -= 1
        elif sign == mark and depth <= 0:
            pieces.append("")
            continue
        pieces[-1] += sign
    return pieces


def file_and_settings(given: Sequence[str]) -> tuple[str | None, list[str]]:
    """A command line's words as the recipe file, if the first is one, and the dotted settings."""
    words = list(given)
    file = words.pop(0) if words and ("=" not in words[0] or Path(words[0]).is_file()) else None
    return file, words
