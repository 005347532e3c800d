"""Data that a command reads for itself: a folder that goes away afterwards, and the rows that could not be used."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tunesmith.errors import DiskError, RecipeError

if TYPE_CHECKING:
    from tunesmith.data.inspect import Inspection
    from tunesmith.types import Example


@contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder to read data into. Rows that could not be used are kept beside it, and standard error says
    where, also when the command fails."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as name:
        try:
            yield Path(name)
        finally:
            raw = b"".join(found.read_bytes() for found in sorted(Path(name).rglob("quarantine.jsonl")))
            if raw:
                with tempfile.NamedTemporaryFile(prefix="tunesmith-unused-", suffix=".jsonl", delete=False) as file:
                    file.write(raw)
                rows = len(raw.splitlines())
                sys.stderr.write(f"{rows:,} rows were not used; each stands with its reason in {file.name}\n")


def look(data: str, model: str | None, settings: Sequence[str], work: Path) -> Inspection:
    """Figures on the data. model: whose tokens are counted; without one, lengths are left out."""
    from tunesmith.data.inspect import inspect
    from tunesmith.data.load_for import load_for
    from tunesmith.recipe.defaults import LONGEST
    from tunesmith.recipe.recipe import Recipe

    task = [] if any(setting.startswith("task=") for setting in settings) else ["task=text_classification"]
    recipe = Recipe.read(None, *task, f"model={model or 'none'}", f"data.path={data}", *settings)
    lengths, longest = None, None
    if model is not None and recipe.task.kind == "texts":
        from tunesmith.models.lengths import token_lengths
        from tunesmith.models.source import locate

        lengths, longest = token_lengths(locate(recipe.model.name, recipe.model.revision))
    asked = getattr(recipe.task, "max_length", "auto")
    dataset = load_for(recipe.task.kind, recipe.data, work, inputs=recipe.task.input_columns)
    most = min(LONGEST, longest or LONGEST)  # what `auto` cuts at
    return inspect(dataset, lengths, asked if isinstance(asked, int) else most if lengths else None)


def to_answer(
    run: Path, kind: str, words: Sequence[str], file: str | None, settings: Sequence[str], work: Path
) -> Iterator[Example]:
    """The examples that `tunesmith predict` is asked about: from a file, from the words given, or from standard input,
    one a line. kind: of the run's task; words of a run on pictures are files, folders and patterns of them."""
    from tunesmith.deploy.answers import read_new
    from tunesmith.types import Example

    if file is not None and words:
        raise RecipeError("give texts (or pictures) or --file, not both")
    if file is not None:
        yield from read_new(run, file, work, settings)
    elif words and kind == "texts":
        yield from (Example({"text": text}) for text in words)
    elif words:
        for number, word in enumerate(words):
            yield from read_new(run, word, work / str(number), settings)
    elif sys.stdin.isatty() or kind != "texts":
        asked = 'texts ("A lovely film."), --file FILE, or lines on standard input'
        raise RecipeError(
            f"give {asked if kind == 'texts' else 'pictures, folders or patterns of them, or --file FILE'}"
        )
    else:
        lines = (line.rstrip("\r\n") for line in sys.stdin)
        yield from (Example({"text": line}, file="standard input", line=n) for n, line in enumerate(lines, 1))


@contextmanager
def sink_for(output: Path | None) -> Iterator[TextIO]:
    """Where answers are written: a file, made anew, or standard output. DiskError when the file cannot be written."""
    if output is None:
        yield sys.stdout
        return
    try:
        with output.open("w", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise DiskError(f"cannot write {output}: {error.strerror or error}") from error
