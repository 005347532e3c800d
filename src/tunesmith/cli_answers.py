"""The commands that ask a finished run: scores on new data, answers to new examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunesmith.errors import RecipeError

if TYPE_CHECKING:
    from tunesmith.deploy.predictor import Writing

Settings = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help="settings such as data.columns.text=review")
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder that `tunesmith fit` wrote")]
MostTokens = Annotated[int | None, typer.Option("--most-tokens", min=1, help="of an answer in words; else 256")]
Temperature = Annotated[
    float | None, typer.Option("--temperature", min=0, help="0: the likeliest words; above, they are drawn")
]
TopP = Annotated[float | None, typer.Option("--top-p", min=0, max=1, help="drawn from the likeliest with this share")]
Seed = Annotated[int | None, typer.Option("--seed", help="of what is drawn; the same seed gives the same answers")]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable: JSON and nothing else on standard output")]


def evaluate(
    run: RunFolder,
    data: Annotated[
        str | None, typer.Option("--data", help="labelled file, folder, glob, package:NAME/path or data set")
    ] = None,
    settings: Settings = None,
    as_json: AsJson = False,
    harness: Annotated[
        list[str] | None,
        typer.Option("--harness", help="a task of the lm-evaluation-harness, or a task file; repeatable"),
    ] = None,
    rows: Annotated[
        int | None, typer.Option("--rows", min=1, help="documents of such a task, at most; else all")
    ] = None,
) -> None:
    """Score a finished run on new labelled data, or its language model on tasks of the lm-evaluation-harness."""
    from tunesmith.cli_data import work_folder
    from tunesmith.deploy.evaluation import evaluate_run
    from tunesmith.deploy.harness import evaluate_harness
    from tunesmith.terminal import evaluation_lines, harness_lines

    _check_asked(data, harness, settings, rows)
    with work_folder() as work:
        found = evaluate_run(run, data, work, settings or []) if data is not None else None
        asked = evaluate_harness(run, harness or [], work, rows=rows)
    told = found.as_dict() if found else {}
    told |= {"harness": [each.as_dict() for each in asked]} if asked else {}
    lines = [*(evaluation_lines(found) if found else []), *(line for each in asked for line in harness_lines(each))]
    typer.echo(json.dumps(told, ensure_ascii=False) if as_json else "\n".join(lines))


def _check_asked(data: str | None, harness: list[str] | None, settings: list[str] | None, rows: int | None) -> None:
    """RecipeError where there is nothing to score, or an option that nothing reads."""
    if data is None and not harness:
        raise RecipeError("name what to score the run on: --data FILE, --harness TASK, or both.")
    if data is None and settings:
        raise RecipeError(f"{settings[0]} says how data are read, and there are none: name them with --data.")
    if not harness and rows is not None:
        raise RecipeError("--rows is for tasks of --harness; of data, data.limit=NUMBER reads the first rows.")


def predict(
    run: RunFolder,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT|PICTURE ...]",
            help="texts (else lines on standard input); or pictures, folders and patterns of them",
        ),
    ] = None,
    file: Annotated[str | None, typer.Option("--file", help="a data file whose rows are answered")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="for the file: data.columns.text=review")] = None,
    as_json: AsJson = False,
    output: Annotated[
        Path | None, typer.Option("--output", help="write the answers to this file as JSON lines")
    ] = None,
    drawn: Annotated[
        Path | None, typer.Option("--drawn", help="a folder for the pictures with the boxes that were found")
    ] = None,
    most_tokens: MostTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
) -> None:
    """Answer texts or pictures with a finished run's model: given here, in a file, or on standard input."""
    from tunesmith.cli_data import sink_for, to_answer, work_folder
    from tunesmith.deploy.answers import answers
    from tunesmith.deploy.predictor import Predictor
    from tunesmith.terminal import answer_line

    predictor = Predictor(run)
    form = _json_line if as_json or output is not None else answer_line
    with work_folder() as work, sink_for(output) as sink:
        asked = to_answer(predictor, words or [], file, settings or [], work)
        for answer in answers(predictor, asked, drawn, writing_of(most_tokens, temperature, top_p, seed)):
            sink.write(form(answer) + "\n")


def writing_of(
    most_tokens: int | None, temperature: float | None, top_p: float | None, seed: int | None
) -> Writing | None:
    """How words are to be written, by the options given; None where none is. RecipeError for one that nothing heeds."""
    from tunesmith.deploy.predictor import Writing

    if not temperature and (top_p is not None or seed is not None):
        unread = "--top-p" if top_p is not None else "--seed"
        raise RecipeError(f"{unread} is for words that are drawn: give --temperature above 0 with it, such as 0.7.")
    named = {"most_tokens": most_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    return Writing(**given) if given else None


def _json_line(answer: dict[str, Any]) -> str:
    """One answer as a line of JSON."""
    return json.dumps(answer, ensure_ascii=False)
