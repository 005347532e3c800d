"""The command that compares methods and retentions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE] [KEY=VALUE ...]", help="a recipe file; settings: train.epochs=2"),
    ] = None,
    methods: Annotated[
        str, typer.Option("--methods", metavar="NAMES", help="such as full,head,lora:rank=16; see `tunesmith methods`")
    ] = "",
    seeds: Annotated[int, typer.Option("--seeds", help="runs of each, with seeds from train.seed on")] = 3,
    retentions: Annotated[
        str, typer.Option("--retentions", metavar="NAMES", help="such as none,replay,l2_sp; else the recipe's own")
    ] = "",
    jobs: Annotated[int, typer.Option("--jobs", help="how many runs at a time")] = 1,
    output: Annotated[Path | None, typer.Option("--output", help="the comparison's folder; else in runs/")] = None,
) -> None:
    """Compare methods: new score, forgetting and cost of each over some seeds, and which differences are real."""
    from tunesmith.run.compare.compare import compare as run_compare
    from tunesmith.run.compare.planned import file_and_settings, split_list
    from tunesmith.terminal_study import StudyProgress, show_comparison

    file, settings = file_and_settings(words or [])
    names, held = split_list(methods), split_list(retentions)
    with StudyProgress() as progress:
        found = run_compare(file, methods=names, seeds=seeds, retentions=held, settings=settings, folder=output,
                            jobs=jobs, on_event=progress)  # fmt: skip
    show_comparison(found)
    raise typer.Exit(found.exit_code)
