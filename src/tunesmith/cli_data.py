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
    from tunesmith.deploy.predictor import Predictor
    from tunesmith.types import Example


@contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder to read data into. Rows that could not be used are kept beside it, and standard error says
    where, also when the command fails."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as name:
        try:
            yield Path(name)
        finally:
            kept = sorted(found for found in Path(name).rglob("quarantine.jsonl") if found.stat().st_size)
            if kept:
                rows = 0
                with tempfile.NamedTemporaryFile(prefix="tunesmith-unused-", suffix=".jsonl", delete=False) as file:
                    for found in kept:
                        with found.open("rb") as lines:
                            for line in lines:
                                file.write(line)
                                rows += 1
                sys.stderr.write(f"{rows:,} rows were not used; each stands with its reason in {file.name}\n")


def look(data: str, model: str | None, settings: Sequence[str], work: Path) -> Inspection:
    """Figures on the data. model: whose tokens are counted; without one, lengths are left out."""
    from tunesmith.data.inspect import inspect
    from tunesmith.data.load_for import load_for
    from tunesmith.recipe.recipe import Recipe

    usual = [] if any(setting.startswith("task=") for setting in settings) else ["task=text_classification"]
    recipe = Recipe.read(None, *usual, f"model={model or 'none'}", f"data.path={data}", *settings)
    lengths, longest = None, None
    task = recipe.task
    if model is not None and task.in_tokens:
        from tunesmith.models.lengths import token_lengths

        source = task.find_model(recipe.model.name, revision=recipe.model.revision, weights=None, pretrained=True)
        lengths, longest = token_lengths(source)
    asked = getattr(task, "max_length", "auto")
    dataset = load_for(task.kind, recipe.data, work, inputs=task.input_columns)
    most = min(task.longest, longest or task.longest)  # what `auto` cuts at
    return inspect(dataset, lengths, asked if isinstance(asked, int) else most if lengths else None)


def to_answer(
    predictor: Predictor, words: Sequence[str], file: str | None, settings: Sequence[str], work: Path
) -> Iterator[Example]:
    """The examples that `tunesmith predict` is asked about: from a file, from the words given, or from standard input,
    one a line. Words for a run on pictures are files, folders and patterns of them."""
    from tunesmith.deploy.answers import read_new

    run, of_texts = predictor.folder, predictor.task.in_tokens
    if file is not None and words:
        raise RecipeError("give texts (or pictures) or --file, not both")
    if file is not None:
        yield from read_new(run, file, work, settings)
    elif words and of_texts:
        yield from (predictor.asked(text) for text in words)
    elif words:
        for number, word in enumerate(words):
            yield from read_new(run, word, work / str(number), settings)
    elif sys.stdin.isatty() or not of_texts:
        asked = 'texts ("A lovely film."), --file FILE, or lines on standard input'
        raise RecipeError(f"give {asked if of_texts else 'pictures, folders or patterns of them, or --file FILE'}")
    else:
        lines = (line.rstrip("\r\n") for line in sys.stdin)
        yield from (predictor.asked(line, file="standard input", line=n) for n, line in enumerate(lines, 1))


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
