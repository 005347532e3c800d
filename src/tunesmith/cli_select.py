"""The command that chooses a pretrained model: `tunesmith select`."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.quantities import parse_bytes, parse_count


def select(
    data: Annotated[str, typer.Option("--data", help="file, folder, glob, package:NAME/path or data set name")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="settings such as data.columns.text=review")
    ] = None,
    task: Annotated[str, typer.Option("--task", help="what is learned; see `tunesmith tasks`")] = "text_classification",
    places: Annotated[
        list[str] | None,
        typer.Option(
            "--from", metavar="PLACE", help="a folder with models, a weight file or package:NAME/path; repeat"
        ),
    ] = None,
    only_from: Annotated[
        bool, typer.Option("--only-from", help="only what --from names: no pip packages, no caches")
    ] = False,
    max_params: Annotated[str | None, typer.Option("--max-params", help="at most so many parameters: 100M")] = None,
    memory: Annotated[str | None, typer.Option("--memory", help="that answering may take at its peak: 4GiB")] = None,
    language: Annotated[str | None, typer.Option("--language", help="that the model's card names: en, zh")] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="as SPDX writes it: apache-2.0, mit")] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="ROWS", min=6, help="examples measured on")] = 1000,
    output: Annotated[
        Path | None, typer.Option("--output", help="keep the measurements here; the same command then goes on")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="machine-readable: JSON and nothing else on standard output")
    ] = False,
) -> None:
    """Rank the pretrained models at hand by evidence on your data; nothing is fetched."""
    count = None if max_params is None else parse_count(max_params, what="--max-params")
    size = None if memory is None else parse_bytes(memory, what="--memory")
    from rich.console import Console

    from tunesmith.cli_data import work_folder
    from tunesmith.progress import Progress
    from tunesmith.run.select.select import Limits
    from tunesmith.run.select.select import select as run_select

    limits = Limits(count, size, language, licence)
    kept = work_folder() if output is None else nullcontext(output)
    with Progress(Console(stderr=True, highlight=False)) as progress, kept as work:
        found = run_select(task, data, settings=settings or [], limits=limits, places=places or [],
                           everywhere=not only_from, rows=limit, folder=work, on_event=progress)  # fmt: skip
    typer.echo(json.dumps(found.as_dict(), ensure_ascii=False) if as_json else "\n".join(found.lines()))
