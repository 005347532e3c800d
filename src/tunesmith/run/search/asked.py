"""A search as it is asked for on the command line: words and options to a recipe, a space, limits and an engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from tunesmith.errors import RecipeError, did_you_mean
from tunesmith.quantities import parse_seconds
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.compare.planned import file_and_settings
from tunesmith.run.search.files import Searched
from tunesmith.run.search.launch import Engine, Local
from tunesmith.run.search.search import search
from tunesmith.run.search.session import Limits, Say
from tunesmith.run.search.space import parse_over, read_space
from tunesmith.run.search.trials import Pruning

ENGINES = ("local", "ray")


def ask(
    words: Sequence[str],
    *,
    over: Sequence[str] = (),
    space: Path | None = None,
    trials: int = 30,
    max_time: str | None = None,
    jobs: int = 1,
    seeds: int = 3,
    forgetting: bool = False,
    pruning: str = "asha",
    engine: str = "local",
    output: Path | None = None,
    say: Say | None = None,
) -> Searched:
    """Read everything, then search. RecipeError for what is not as it must be, before any work."""
    file, settings = file_and_settings(list(words))
    recipe = Recipe.read(file, *settings)
    seconds = None if max_time is None else parse_seconds(max_time, what="--max-time")
    dimensions = [*(read_space(space) if space is not None else ()), *(parse_over(text) for text in over)]
    prune = next((known for known in get_args(Pruning) if known == pruning), None)
    if prune is None:
        raise RecipeError(_unknown("--pruning", pruning, get_args(Pruning)))
    return search(
        recipe,
        output,
        space=dimensions,
        limits=Limits(trials, seconds, jobs, seeds),
        forgetting=forgetting,
        pruning=prune,
        engine=engine_of(engine, jobs),
        say=say,
    )


def engine_of(name: str, jobs: int) -> Engine:
    """The engine of that name. RecipeError for an unknown one, or for Ray where it is not installed."""
    if name == "local":
        return Local(jobs)
    if name == "ray":
        from tunesmith.run.search.launch_ray import RayEngine

        return RayEngine()
    raise RecipeError(_unknown("--engine", name, ENGINES))


def _unknown(option: str, given: str, known: Sequence[str]) -> str:
    return f'{option}: "{given}" is not known; write {" or ".join(known)}.{did_you_mean(given, known)}'
