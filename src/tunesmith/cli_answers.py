"""The commands that ask a finished run: scores on new data, answers to new examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    data: Annotated[str, typer.Option("--data", help="labelled file, folder, glob, package:NAME/path or data set")],
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Score a finished run on new labelled data."""
    from tunesmith.cli_data import work_folder
    from tunesmith.deploy.evaluation import evaluate_run
    from tunesmith.terminal import evaluation_lines

    with work_folder() as work:
        found = evaluate_run(run, data, work, settings or [])
    typer.echo(json.dumps(found.as_dict(), ensure_ascii=False) if as_json else "\n".join(evaluation_lines(found)))


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
    """How words are to be written, by the options given; None where none is."""
    from tunesmith.deploy.predictor import Writing

    named = {"most_tokens": most_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    return Writing(**given) if given else None


def _json_line(answer: dict[str, Any]) -> str:
    """One answer as a line of JSON."""
    return json.dumps(answer, ensure_ascii=False)
