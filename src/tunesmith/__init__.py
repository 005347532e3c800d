"""tunesmith: fine-tune a pretrained model on your data, with proof of what it gained and what it cost.

    import tunesmith as ts
    run = ts.fit(task="text_classification", model="...", data="reviews.csv", method=ts.LoRA(rank=8))
    run.scores["after"];  run.predict(["A lovely film."])

Importing this package imports nothing heavy. Every task and method is here by its class name (`ts.LoRA`, `ts.BitFit`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.deploy.run import Run as Run
    from tunesmith.errors import DataError as DataError
    from tunesmith.errors import ModelError as ModelError
    from tunesmith.errors import RecipeError as RecipeError
    from tunesmith.errors import RunError as RunError
    from tunesmith.errors import TunesmithError as TunesmithError
    from tunesmith.events import Begun as Begun
    from tunesmith.events import Evaluated as Evaluated
    from tunesmith.events import Event
    from tunesmith.events import Stage as Stage
    from tunesmith.events import Step as Step
    from tunesmith.recipe.recipe import Recipe as Recipe
    from tunesmith.run.folder import Finished

_PUBLIC = {
    "compare": "tunesmith.run.compare.compare",
    "search": "tunesmith.run.search.search",
    "select": "tunesmith.run.select.select",
    "Recipe": "tunesmith.recipe.recipe",
    "Run": "tunesmith.deploy.run",
    "Begun": "tunesmith.events",
    "Stage": "tunesmith.events",
    "Step": "tunesmith.events",
    "Evaluated": "tunesmith.events",
    "TunesmithError": "tunesmith.errors",
    "RecipeError": "tunesmith.errors",
    "DataError": "tunesmith.errors",
    "ModelError": "tunesmith.errors",
    "RunError": "tunesmith.errors",
}

# Where bitsandbytes is installed, peft imports it, and it then tells everyone of a kernel that could be fetched for it.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

__all__ = ["fit", "resume", "stream", *_PUBLIC]


def fit(
    recipe: Recipe | str | Path | None = None,
    *,
    folder: str | Path | None = None,
    on_event: Callable[[Event], None] | None = None,
    **settings: Any,
) -> Run:
    """Fine-tune and return the finished run.

    recipe: a Recipe or the path of a recipe file; without one, the settings are the recipe: `task`, `model`, `data`,
    `method`, `train`, each as it stands in YAML or as an object (`method=ts.LoRA(rank=8)`). folder: where the run is
    written, else a new folder in `runs/`. on_event: called with every Begun, Stage, Step and Evaluated.
    """
    wanted = _recipe(recipe, settings)
    from tunesmith.run.fit import fit as run_fit

    return _run(run_fit(wanted, Path(folder) if folder else None, on_event))


def stream(
    recipe: Recipe | str | Path | None = None, *, folder: str | Path | None = None, **settings: Any
) -> Iterator[Event]:
    """Fine-tune and yield every event as it happens; the run folder is written on the way. As `fit`."""
    wanted = _recipe(recipe, settings)
    from tunesmith.run.fit import stream as run_stream

    return run_stream(wanted, Path(folder) if folder else None)


def resume(run: Run | str | Path, *, on_event: Callable[[Event], None] | None = None) -> Run:
    """Go on with an interrupted run, bit for bit as if it had not stopped; a finished one is returned as it is."""
    from tunesmith.run.fit import resume as run_resume

    folder = Path(run) if isinstance(run, (str, Path)) else run.folder
    return _run(run_resume(folder, on_event))


def _run(finished: Finished) -> Run:
    from tunesmith.deploy.run import Run

    return Run(finished.folder, finished.scores, finished.recipe)


def _recipe(recipe: Recipe | str | Path | None, settings: dict[str, Any]) -> Recipe:
    from tunesmith.errors import RecipeError
    from tunesmith.recipe.recipe import Recipe

    if recipe is None:
        return Recipe.make(settings)
    if settings:
        raise RecipeError(f"give a recipe or settings, not both; found a recipe and {', '.join(settings)}")
    return recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("tunesmith")
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    if name[:1].isupper():
        from tunesmith.methods.base import registry as methods
        from tunesmith.tasks.base import registry as tasks

        for registry in (methods, tasks):
            for known in registry.names():
                if known.replace("_", "") == name.lower():
                    return registry.get(known)
    raise AttributeError(f"module 'tunesmith' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
