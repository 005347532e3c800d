"""The space of a search that is given none: around what the default recipe resolves to, by task and method.

It is taken once the default recipe has been resolved on the data and the model, so the learning rate's range lies
around the rate that the default really uses. Every dimension says where it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tunesmith.errors import Fault, RecipeError
from tunesmith.methods.base import Method
from tunesmith.methods.base import registry as methods
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.search.space import Dimension, name_in, plugin_name

RATE_FACTOR = 8.0
"""The rate is searched an eighth to eight times the default: wide enough for a wrong guess, and no waste on rates that
never learn."""
HIGHEST_RATE = 10.0
SIZES: Final[Mapping[str, tuple[float, ...]]] = {
    "rank": (0.5, 1, 2, 4),
    "length": (0.5, 1, 2),
    "size": (0.5, 1, 2),
    "blocks": (0.5, 1, 2),
}
"""Options of methods that are sizes: factors on their default."""
SHARES: Final[Mapping[str, tuple[float, float]]] = {"dropout": (0.0, 0.2), "probe": (0.1, 0.5)}
"""Options of methods that are shares."""


def filled_in(space: Sequence[Dimension], recipe: Recipe, resolved: Recipe) -> tuple[Dimension, ...]:
    """The space with every `default` replaced; without any dimension, the whole default space.

    recipe: as the person wrote it; resolved: the same without any `auto`. RecipeError for a path without a default.
    """
    named = next((d.choices for d in space if d.path == "method"), None)
    chosen = [name_in(choice) for choice in named] if named else [plugin_name(recipe.method)]
    offered = list(_dimensions(recipe, resolved, [name for name in chosen if name is not None]))
    if not space:
        return tuple(offered)
    found: list[Dimension] = []
    faults: list[Fault] = []
    for dimension in space:
        matches = [d for d in offered if d.path == dimension.path] if dimension.default else [dimension]
        found += matches
        if not matches:
            known = ", ".join(dict.fromkeys(d.path for d in offered))
            faults.append(Fault(dimension.path, f"has no default range; give one. Those that have: {known}."))
    if faults:
        raise RecipeError(faults, file="the space of the search")
    return tuple(found)


def _dimensions(recipe: Recipe, resolved: Recipe, names: Sequence[str]) -> Iterator[Dimension]:
    for name in names:
        only = name if len(names) > 1 else None
        yield _rate(recipe, resolved, name, only)
    yield from _length_of_training(recipe, resolved)
    batch = resolved.train.batch_size
    if isinstance(batch, int):
        sizes = sorted({max(1, batch // 2), batch, batch * 2})
        yield _choice("train.batch_size", sizes, f"half to twice the default {batch}")
    for name in names:
        yield from _options(recipe, name, name if len(names) > 1 else None)
    fields = type(recipe.task).model_fields
    if "label_smoothing" in fields and "label_smoothing" not in recipe.task.ruler:
        yield Dimension("task.label_smoothing", 0.0, 0.1, why="none to 0.1, as is usual")
    if "augment" in fields:
        yield _choice("task.augment.preset", ["none", "light", "standard", "strong"], "every preset")
    yield from _retention(recipe)


def _rate(recipe: Recipe, resolved: Recipe, name: str, only: str | None) -> Dimension:
    """The learning rate of one method: around what it resolves to on this model."""
    standing = resolved.train.learning_rate
    assert not isinstance(standing, str)
    own = plugin_name(recipe.method)
    rate, what = standing, "the default"
    if name != own:
        # The default's rate over the method's own is how rates fall with the width of this model; adapters' fall with
        # its root (recipe/defaults.py).
        here, there = type(recipe.method), methods.get(name)
        fall = standing / _own_rate(recipe, here) if recipe.train.learning_rate == "auto" else 1.0
        fall = fall ** (2.0 if here.adapter and not there.adapter else 0.5 if there.adapter and not here.adapter else 1)
        rate, what = float(f"{_own_rate(recipe, there) * fall:.2g}"), f"{name}'s own"
    low, high = (float(f"{r:.2g}") for r in (rate / RATE_FACTOR, min(HIGHEST_RATE, rate * RATE_FACTOR)))
    why = f"an eighth to eight times {what} {rate:g}"
    return Dimension("train.learning_rate", low, high, log=True, method=only, why=why)


def _own_rate(recipe: Recipe, method: type[Method]) -> float:
    task, own = recipe.task, method.learning_rate
    if method.only_head and task.head_learning_rate is not None:
        return task.head_learning_rate
    if not task.in_tokens and method.vision_learning_rate is not None:
        own = method.vision_learning_rate
    if task.goes_on and method.language_learning_rate is not None:
        own = method.language_learning_rate
    return own * task.rate_share


def _length_of_training(recipe: Recipe, resolved: Recipe) -> Iterator[Dimension]:
    steps, epochs = resolved.train.steps, resolved.train.epochs
    if recipe.train.steps is not None and steps is not None:
        why = f"half to twice the recipe's {steps}"
        yield Dimension("train.steps", max(1, steps // 2), steps * 2, log=True, whole=True, why=why)
    elif not isinstance(epochs, str):
        low, high = max(1, math.floor(epochs / 2)), math.ceil(epochs * 2)
        yield Dimension("train.epochs", low, high, step=1.0, why=f"half to twice the default {epochs:g}")


def _options(recipe: Recipe, name: str, only: str | None) -> Iterator[Dimension]:
    fields = methods.get(name).model_fields
    given = recipe.method.model_dump() if plugin_name(recipe.method) == name else {}
    for option, field in fields.items():
        path, standing = f"method.{option}", given.get(option, field.default)
        if option in SIZES and isinstance(standing, int):
            sizes = sorted({max(1, round(standing * factor)) for factor in SIZES[option]})
            fitting = [size for size in sizes if _takes(recipe, name, only, f"{path}={size}")]
            if len(fitting) > 1:
                yield _choice(path, fitting, f"around the default {standing}", only)
        elif option in SHARES:
            yield Dimension(path, *SHARES[option], method=only, why="the usual shares")


def _takes(recipe: Recipe, name: str, only: str | None, setting: str) -> bool:
    try:
        recipe.changed(*([f"method={name}"] if only else []), setting)
    except RecipeError:
        return False
    return True


def _retention(recipe: Recipe) -> Iterator[Dimension]:
    """Strengths and shares of the retention that the recipe names."""
    if recipe.retention is None:
        return
    for option, field in type(recipe.retention).model_fields.items():
        standing: Any = getattr(recipe.retention, option)
        if not isinstance(standing, float) or isinstance(standing, bool) or standing <= 0 or field.annotation is bool:
            continue
        ends = (standing / 10, standing * 10)
        if not _takes(recipe, "", None, f"retention.{option}={ends[1]!r}"):
            ends = (standing / 2, min(1.0, standing * 2))
        low, high = (float(f"{end:.2g}") for end in ends)
        if low < high and _takes(recipe, "", None, f"retention.{option}={high!r}"):
            yield Dimension(f"retention.{option}", low, high, log=True, why=f"around the recipe's {standing:g}")


def _choice(path: str, values: Sequence[Any], why: str, only: str | None = None) -> Dimension:
    return Dimension(path, choices=tuple(str(value) for value in values), method=only, why=why)
