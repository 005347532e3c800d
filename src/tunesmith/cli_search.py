"""The command that searches for a better recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def search(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE] [KEY=VALUE ...]", help="a recipe file; settings: train.epochs=2"),
    ] = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="how many, the recipe as it is included")] = 30,
    max_time: Annotated[
        str | None, typer.Option("--max-time", metavar="TIME", help="such as 30m or 2h, over all restarts")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="how many runs at a time")] = 1,
    over: Annotated[
        list[str] | None,
        typer.Option(
            "--over", metavar="PATH=RANGE", help="such as train.learning_rate=1e-4..1e-2:log or method.rank=4,8,16"
        ),
    ] = None,
    space: Annotated[Path | None, typer.Option("--space", help="a YAML file of such lines")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=0, help="new seeds that confirm the winner; 0: none")] = 3,
    forgetting: Annotated[
        bool, typer.Option("--forgetting", help="second objective: what old tasks lose; then nothing is pruned")
    ] = False,
    pruning: Annotated[str, typer.Option("--pruning", help="asha, hyperband or none")] = "asha",
    engine: Annotated[str, typer.Option("--engine", help="local, or ray: on a Ray cluster")] = "local",
    output: Annotated[Path | None, typer.Option("--output", help="the search's folder; else in runs/")] = None,
) -> None:
    """Search for a better recipe, and confirm the winner on new seeds. Started again, it goes on."""
    from tunesmith.run.search.asked import ask
    from tunesmith.terminal_search import SearchLines

    with SearchLines() as lines:
        found = ask(words or [], over=over or [], space=space, trials=trials, max_time=max_time, jobs=jobs,
                    seeds=seeds, forgetting=forgetting, pruning=pruning, engine=engine, output=output,
                    say=lines)  # fmt: skip
    lines.show(found)
