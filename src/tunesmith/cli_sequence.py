"""The command that looks back on tasks learned one after the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN ...", help="the last run, or all of them in the order they were learned"),
]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable: JSON and nothing else on standard output")]


def retained(run: Runs, as_json: AsJson = False) -> None:
    """Show what is left of each task after each stage of a sequence of runs, each started from the one before."""
    from tunesmith.run.sequence import matrix

    found = matrix(run)
    typer.echo(json.dumps(found.as_dict(), ensure_ascii=False) if as_json else "\n".join(found.lines()))
