"""The command that looks for a learning rate, and the limits of memory and time that `fit` and `check` take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tunesmith.recipe.recipe import Recipe

MaxMemory = Annotated[
    str | None, typer.Option("--max-memory", metavar="SIZE", help="fit into this much, such as 8GiB, by smaller passes")
]
MaxTime = Annotated[
    str | None, typer.Option("--max-time", metavar="TIME", help="refuse a run that takes longer, such as 30m or 1h30m")
]


def lr_find(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="a recipe file")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="settings such as method=lora")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="how many steps the rate rises over")] = 100,
    output: Annotated[Path | None, typer.Option("--output", help="a folder; else a new one in lr-find/")] = None,
) -> None:
    """Find a learning rate: raise it step by step on a model that is thrown away, and plot the loss."""
    from tunesmith.progress import Progress
    from tunesmith.recipe.recipe import Recipe
    from tunesmith.run.lr_find import lr_find as find

    with Progress() as progress:
        found = find(Recipe.read(recipe, *settings or []), steps=steps, folder=output, on_event=progress)
    typer.echo("\n".join([*found.lines(), f"plot         {found.folder / 'lr_find.html'}"]))


def into_limits(recipe: Recipe, max_memory: str | None, max_time: str | None) -> Recipe:
    """The recipe that fits into what was given, after saying what was chosen; the same one where nothing was given.
    RecipeError where nothing fits."""
    if max_memory is None and max_time is None:
        return recipe
    from tunesmith.quantities import parse_bytes, parse_seconds

    memory = None if max_memory is None else parse_bytes(max_memory, what="--max-memory")
    seconds = None if max_time is None else parse_seconds(max_time, what="--max-time")
    from tunesmith.run.budget import fit_into

    recipe, lines = fit_into(recipe, max_memory_bytes=memory, max_seconds=seconds)
    typer.echo("\n".join(lines), err=True)
    return recipe
