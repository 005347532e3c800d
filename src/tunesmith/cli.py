"""The commands. Each reads its arguments, calls one room, and shows what came back; heavy imports wait until then."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli_answers import AsJson, RunFolder, Settings, evaluate, predict
from tunesmith.cli_chat import chat
from tunesmith.cli_compare import compare
from tunesmith.cli_forecast import MaxMemory, MaxTime, into_limits, lr_find
from tunesmith.cli_lists import methods, schema, tasks
from tunesmith.cli_search import search
from tunesmith.cli_select import select
from tunesmith.cli_sequence import retained
from tunesmith.errors import DiskError, RecipeError, TunesmithError

if TYPE_CHECKING:
    from tunesmith.recipe.recipe import Recipe

app = typer.Typer(
    name="tunesmith",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Words = Annotated[
    list[str] | None, typer.Argument(metavar="[RECIPE] [KEY=VALUE ...]", help="a recipe file; settings: train.epochs=2")
]
Task = Annotated[str | None, typer.Option("--task", help="what is learned; see `tunesmith tasks`")]
Model = Annotated[str | None, typer.Option("--model", help="hub name, folder, file, or package:NAME/path")]
Data = Annotated[str | None, typer.Option("--data", help="file, folder, glob, package:NAME/path or data set name")]
Method = Annotated[str | None, typer.Option("--method", help="what of the model learns; see `tunesmith methods`")]
Output = Annotated[str | None, typer.Option("--output", help="the run folder; else a new one in runs/")]


@app.callback(invoke_without_command=True)
def _tunesmith(version: Annotated[bool, typer.Option("--version", help="print the version and leave")] = False) -> None:
    """Fine-tune a pretrained model on your data, with proof of what it gained and what it cost."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(installed("tunesmith"))
        raise typer.Exit


@app.command()
def fit(
    words: Words = None,
    task: Task = None,
    model: Model = None,
    data: Data = None,
    method: Method = None,
    output: Output = None,
    max_memory: MaxMemory = None,
    max_time: MaxTime = None,
) -> None:
    """Fine-tune: from a recipe file, from options alone, or from both (the command line wins)."""
    recipe = _recipe(words, task=task, model=model, data=data, method=method, output=output)
    recipe = into_limits(recipe, max_memory, max_time)
    from tunesmith.progress import Progress
    from tunesmith.run.fit import fit as run_fit
    from tunesmith.terminal import show_run

    with Progress() as progress:
        run = run_fit(recipe, None, progress)
    show_run(run)


@app.command()
def resume(run: RunFolder) -> None:
    """Go on with an interrupted run, exactly as if it had not stopped."""
    from tunesmith.progress import Progress
    from tunesmith.run.fit import resume as run_resume
    from tunesmith.terminal import show_run

    with Progress() as progress:
        done = run_resume(run, progress)
    show_run(done)


@app.command()
def check(
    words: Words = None,
    task: Task = None,
    model: Model = None,
    data: Data = None,
    method: Method = None,
    output: Output = None,
    max_memory: MaxMemory = None,
    max_time: MaxTime = None,
) -> None:
    """Read recipe, data and model and try everything once, without training."""
    recipe = _recipe(words, task=task, model=model, data=data, method=method, output=output)
    recipe = into_limits(recipe, max_memory, max_time)
    from tunesmith.run.preflight import check as preflight
    from tunesmith.terminal_text import harmless

    found = preflight(recipe)
    typer.echo(harmless("\n".join(found.lines())))
    if not found.ok:
        raise typer.Exit(2)


@app.command()
def inspect(
    data: Annotated[str, typer.Argument(metavar="DATA", help="file, folder, glob, package:NAME/path or data set")],
    settings: Settings = None,
    task: Task = None,
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in the data: rows, classes, lengths, duplicates, leaks, and what would be done about each."""
    from tunesmith.cli_data import look, work_folder
    from tunesmith.terminal_text import harmless

    with work_folder() as work:
        given = [f"task={task}"] if task else []
        found = look(data, model, [*given, *(settings or [])], work)
    lines = harmless("\n".join(found.lines()))
    text = json.dumps(found.as_dict(), ensure_ascii=False, indent=1) if as_json else lines
    typer.echo(text)


@app.command()
def init(
    task: Annotated[str, typer.Argument(help="what is learned; see `tunesmith tasks`")] = "text_classification",
    model: Model = None,
    data: Data = None,
    method: Method = None,
    output: Annotated[Path | None, typer.Option("--output", help="the recipe file to write; else print it")] = None,
) -> None:
    """Write a commented recipe for a task: every option with its default and meaning."""
    from tunesmith.recipe.starter import starter

    text = starter(task, model, data, method or "lora")
    if output is None:
        typer.echo(text, nl=False)
    elif output.exists():
        raise RecipeError(f"{output} exists already; name another file, or remove it first")
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise DiskError(f"{output} cannot be written: {error.strerror}") from error
        typer.echo(f"wrote {output}; check it with: tunesmith check {output}")


@app.command()
def report(run: RunFolder) -> None:
    """Write the run's report.html anew and print its path."""
    from tunesmith.run.report import write_report

    typer.echo(write_report(run))


for command in (evaluate, predict, chat, retained, compare, select, lr_find, search, methods, tasks, schema):
    app.command(command.__name__.replace("_", "-"))(command)


def _recipe(words: list[str] | None, **flags: str | None) -> Recipe:
    """The recipe that the command line means: the file if one is named, the options, then the dotted settings."""
    from tunesmith.recipe.recipe import Recipe

    given = list(words or [])
    file = given.pop(0) if given and ("=" not in given[0] or Path(given[0]).is_file()) else None
    places = {"data": "data.path"}
    options = [f"{places.get(key, key)}={value}" for key, value in flags.items() if value is not None]
    return Recipe.read(file, *options, *given)


def main() -> None:
    """Run a command; faults end in one readable block and their exit code, never in a traceback."""
    from tunesmith.terminal import show_crash, show_fault

    if not sys.warnoptions and os.environ.get("TUNESMITH_DEBUG") != "1":
        warnings.simplefilter("ignore", FutureWarning)  # notes of other libraries to their own developers
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # a fault is a reason in quarantine
    try:
        app()
    except TunesmithError as fault:
        show_fault(fault)
        sys.exit(fault.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit:
        raise
    except BaseException as crash:  # a library in Rust panics with what is no Exception
        sys.exit(show_crash(crash))
