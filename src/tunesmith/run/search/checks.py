"""A space is checked against the recipe before any work: all faults at once, each with what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from tunesmith.errors import Fault, RecipeError
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.search.space import Dimension, is_active, written

REFUSED: Final[Mapping[str, str]] = {
    "train.seed": "another seed is noise, no setting; the winner is run on other seeds in the end anyway",
    "data.path": "scores on other data cannot be compared",
    "data.validation": "every trial is scored on the same validation examples",
    "data.test": "the test part stays what it is",
    "data.split": "every trial is scored on the same validation examples",
    "data.labels": "scores over other classes cannot be compared",
    "data.max_bad_share": "it changes no run, it only stops one",
    "data": "it changes the validation examples too, and every trial is scored on the same ones",
    "task.name": "another task has another score",
    "task": "another task has another score; options of the task that only change how it is learned may differ",
    "forgetting": "every trial's forgetting is measured in the same way",
    "output": "each trial has a folder of its own",
    "train.threads": "it changes the time of a run, not what it learns",
    "train.workers": "it changes the time of a run, not what it learns",
    "train.tensorboard": "it changes nothing of what is learned",
}


def checked(space: Sequence[Dimension], recipe: Recipe) -> tuple[Dimension, ...]:
    """The dimensions with `whole` settled. RecipeError with every fault: an unknown or refused path, a value that the
    recipe does not take, a path that stands twice, an option that no method of the search has."""
    faults: list[Fault] = []
    found: list[Dimension] = []
    for dimension in space:
        if sum(other.name == dimension.name for other in space) > 1:
            faults.append(Fault(dimension.path, "stands twice in the space; leave one of the two out"))
            continue
        settled, wrong = _one(dimension, space, recipe)
        faults += wrong
        found.append(settled)
    if faults:
        raise RecipeError(list(dict.fromkeys(faults)), file="the space of the search")
    return tuple(found)


def _one(dimension: Dimension, space: Sequence[Dimension], recipe: Recipe) -> tuple[Dimension, list[Fault]]:
    path = dimension.path
    refused = _refusal(path, recipe)
    if refused is not None:
        return dimension, [Fault(path, f"cannot be searched over: {refused}.")]
    if dimension.default:
        return dimension, _path_faults(path, space, recipe)
    bases = list(_recipes(dimension, space, recipe))
    if not bases:
        return dimension, _path_faults(path, space, recipe)
    base, path_faults = bases[0], []
    if not dimension.choices:
        whole = not _accepts(base, path, (dimension.low + dimension.high) / 2 + 0.123456)
        ends = (dimension.low, dimension.high)
        if whole and not all(float(v).is_integer() for v in (*ends, dimension.step or 1)):
            return dimension, [Fault(path, f"takes whole numbers only; found {dimension.says()}.")]
        dimension = replace(dimension, whole=whole)
    for text in dimension.choices or _ends(dimension):
        path_faults += [] if any(_fits(each, path, text) for each in bases) else _faults(base, path, text)
    return dimension, path_faults


def refusals(space: Sequence[Dimension], recipe: Recipe) -> dict[str, str]:
    """Why, by path, of what cannot be searched over."""
    told = {each.path: _refusal(each.path, recipe) for each in space}
    return {path: why for path, why in told.items() if why is not None}


def _refusal(path: str, recipe: Recipe) -> str | None:
    """Why a path cannot be searched over by any recipe or by one of this task; None where it can."""
    found = next((p for p in REFUSED if path == p or (path.startswith(p + ".") and p != "task")), None)
    if found is not None:
        return REFUSED[found]
    section, _, option = path.partition(".")
    score = recipe.task.main_score(multi_label=False).name
    if section == "task" and option.split(".")[0] in recipe.task.ruler:
        return (f"it decides how the main score ({score}) is measured, so trials that differ in it cannot be compared; "
                f"set it once for all trials: {path}=VALUE")  # fmt: skip
    if section == "model" and recipe.task.goes_on:
        return (f"another model has another tokenizer or another start, and the main score ({score}) is measured by "
                "both; search with each model on its own")  # fmt: skip
    return None


def _ends(dimension: Dimension) -> tuple[str, ...]:
    kind = int if dimension.whole else float
    return tuple(repr(kind(end)) for end in (dimension.low, dimension.high))


def _recipes(dimension: Dimension, space: Sequence[Dimension], recipe: Recipe) -> Iterator[Recipe]:
    """The recipe in every form in which this dimension has a meaning: once for each method and retention that the
    space offers, where they decide it."""
    section = "method" if dimension.method else dimension.path.split(".")[0]
    others = [d for d in space if d.path == section and section in ("method", "retention") and d is not dimension]
    if not others:
        if is_active(dimension, {}, recipe):
            yield recipe
        return
    for choice in others[0].choices:
        try:
            if is_active(dimension, {section: choice}, recipe):
                yield recipe.changed(f"{section}={choice}")
        except RecipeError:
            continue  # noted where that dimension itself is checked


def _path_faults(path: str, space: Sequence[Dimension], recipe: Recipe) -> list[Fault]:
    """What is wrong with a path that nothing of the recipe has; nothing where it has it."""
    section, _, option = path.partition(".")
    if section in ("method", "retention") and option:
        named = next((d.choices for d in space if d.path == section), None)
        if named is not None and not any(_has(recipe, section, choice, option) for choice in named):
            return [Fault(path, f"no {section} of this search has this option ({', '.join(named)}).")]
        if named is not None:
            return []
        if section == "retention" and recipe.retention is None:
            return [Fault(path, "the recipe has no retention; give one, or search over it: retention=null,l2_sp.")]
    probe = [f for f in _faults(recipe, path, "auto") if "is not a known setting" in f.message
             or "is not an option of" in f.message]  # fmt: skip
    return probe


def _has(recipe: Recipe, section: str, choice: str, option: str) -> bool:
    try:
        return is_active(Dimension(f"{section}.{option}"), {section: choice}, recipe)
    except RecipeError:
        return False


def _accepts(recipe: Recipe, path: str, value: float) -> bool:
    """Whether the recipe takes a fraction here. Limits count as taking: they are checked at the ends."""
    return not any("whole number" in fault.message for fault in _faults(recipe, path, repr(value)))


def _fits(recipe: Recipe, path: str, text: str) -> bool:
    return not _faults(recipe, path, text)


def _faults(recipe: Recipe, path: str, text: str) -> list[Fault]:
    try:
        recipe.changed(f"{path}={text}")
    except RecipeError as error:
        ending = " (given on the command line)"
        return [Fault(f.path or path, f.message.removesuffix(ending)) for f in error.faults]
    return []


def values_of(recipe: Recipe) -> dict[str, object]:
    """Every value of a recipe by its dotted path, sections of plugins also as their name alone."""
    found: dict[str, object] = {}

    def walk(value: object, path: str) -> None:
        if isinstance(value, Mapping) and path:
            found[path] = value.get("name", value)
        elif path:
            found[path] = value
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else str(key))

    walk(recipe.as_dict(), "")
    return found


def drawn_in(space: Sequence[Dimension], recipe: Recipe, base: Recipe) -> dict[str, str | int | float]:
    """The values of a resolved recipe by dimension's name, as far as they lie within the space."""
    values, drawn = values_of(recipe), {}
    method = str(values["method"])
    for dimension in space:
        if not is_active(dimension, {"method": method, "retention": written(values["retention"])}, base):
            continue
        value = dimension.of(values.get(dimension.path))
        if value is not None:
            drawn[dimension.name] = value
    return drawn
