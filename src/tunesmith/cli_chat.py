"""The command that talks with a finished run's language model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli_answers import AsJson, MostTokens, RunFolder, Seed, Temperature, TopP, writing_of
from tunesmith.errors import TunesmithError

if TYPE_CHECKING:
    from tunesmith.deploy.chat import Conversation

HELP = "/reset begins anew, /system WORDS sets what the system says, /exit leaves; Ctrl-C cuts an answer short"
COMMANDS = ("/reset", "/exit", "/quit", "/system", "/help")
PROMPT, ANSWER = "you  > ", "model> "


def chat(
    run: RunFolder,
    system: Annotated[str, typer.Option("--system", help="what the system says before the first turn")] = "",
    most_tokens: MostTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Talk with a finished run's language model: in the terminal, or one line in and one answer out of a pipe."""
    from tunesmith.deploy.chat import Conversation
    from tunesmith.deploy.predictor import Predictor

    writing = writing_of(most_tokens, temperature, top_p, seed)
    conversation = Conversation(Predictor(run).speaking(), writing, system)
    if sys.stdin.isatty() and not as_json:
        _talk(conversation)
    else:
        _serve(conversation, as_json=as_json)


def _talk(conversation: Conversation) -> None:
    """Turn by turn in a terminal, until /exit, the end of input, or Ctrl-C where nothing is being written."""
    from tunesmith.terminal_text import harmless

    with suppress(ImportError):
        import readline  # noqa: F401  (lines can then be edited, and earlier ones called back)
    typer.echo(HELP)
    while True:
        try:
            line = input(PROMPT).strip()
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            return
        try:
            if line.startswith("/"):
                told = command(conversation, line)
                if told is None:
                    return
                typer.echo(told)
            elif line:
                _show(conversation, line)
        except TunesmithError as fault:
            typer.echo(f"({harmless(str(fault))})", err=True)


def _show(conversation: Conversation, line: str) -> None:
    """One answer as it is written. Ctrl-C cuts it short, and the conversation goes on."""
    from tunesmith.terminal_text import harmless

    forgotten = conversation.forgotten
    typer.echo(ANSWER, nl=False)
    pieces = conversation.say(line)
    try:
        for piece in pieces:
            typer.echo(harmless(piece), nl=False)
            sys.stdout.flush()
    except KeyboardInterrupt:
        typer.echo(" …", nl=False)
    finally:
        pieces.close()
    typer.echo()
    if conversation.forgotten > forgotten:
        typer.echo(f"({conversation.forgotten} earlier messages no longer fit and are forgotten)", err=True)


def command(conversation: Conversation, line: str) -> str | None:
    """Do what a line that starts with / says: the words to show, or None to leave."""
    name, _, rest = line.partition(" ")
    if name in ("/exit", "/quit"):
        return None
    if name == "/reset":
        conversation.reset()
        return "(a new conversation)"
    if name == "/system":
        conversation.instruct(rest.strip())
        return "(a new conversation, with these words of the system)" if rest.strip() else "(no words of the system)"
    return HELP if name == "/help" else f"{name} is not known; {HELP}"


def _serve(conversation: Conversation, *, as_json: bool) -> None:
    """A line in, an answer on one line out, until input ends; its line breaks are spaces then, or with --json kept."""
    for line in _lines():
        if line.startswith("/") and line.partition(" ")[0] in COMMANDS:
            told = command(conversation, line)
            if told is None:
                return
            typer.echo(told, err=True)
            continue
        answer = "".join(conversation.say(line)).strip()
        told = json.dumps({"question": line, "answer": answer}, ensure_ascii=False) if as_json else answer
        typer.echo(told if as_json else " ".join(answer.split()))
        sys.stdout.flush()


def _lines() -> Iterator[str]:
    """The lines of standard input that hold something, as they come."""
    for line in iter(sys.stdin.readline, ""):
        if line.strip():
            yield line.strip()
