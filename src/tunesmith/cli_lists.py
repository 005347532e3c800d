"""Commands that list what there is: methods, tasks, the schema of recipes."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def methods(
    name: Annotated[str | None, typer.Argument(help="show this method's page")] = None,
    model: Annotated[
        str | None, typer.Option("--for", metavar="MODEL", help="try every method on this model, and count what learns")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="the task for --for; else the one that fits")] = None,
    classes: Annotated[int, typer.Option("--classes", help="how many classes the head has, for --for")] = 2,
) -> None:
    """List the methods: what of a model can learn; with a NAME, its whole page; with --for, which work on a model."""
    from tunesmith.methods.base import registry
    from tunesmith.terminal import show_fitting, show_plugins

    if model is None:
        show_plugins(registry, name)
        return
    from tunesmith.run.fitting import fitting

    show_fitting(fitting(model, task, classes))


def tasks(name: Annotated[str | None, typer.Argument(help="show this task's page")] = None) -> None:
    """List the tasks: what can be learned; with a NAME, its whole page."""
    from tunesmith.tasks.base import registry
    from tunesmith.terminal import show_plugins

    show_plugins(registry, name)


def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from tunesmith.recipe.schema import json_schema

    typer.echo(json.dumps(json_schema(), indent=1, ensure_ascii=False))
