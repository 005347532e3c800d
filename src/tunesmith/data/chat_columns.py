"""Which columns of a table hold what is asked and answered: as the recipe names them, or by well-known names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from tunesmith.data import known_names as known
from tunesmith.data.chat_faults import ChatFault, kind_of
from tunesmith.data.chat_messages import Message, holds_messages, messages_of
from tunesmith.data.columns import Look, folded
from tunesmith.data.strict_json import parse
from tunesmith.errors import DataError

Columns = Mapping[str, str]
"""From what a column is to a chat (`messages`, `prompt`, `beside`, `response`, ...) to its name in the table."""
FORMS = (
    "messages (OpenAI), conversations (ShareGPT), instruction/input/output (Alpaca), instruction/context/response "
    "(Dolly), prompt/completion, question/answer, and a text to go on with"
)


def named(look: Look, role: str, *, needed: bool = True) -> str | None:
    """The column that the recipe names for this; DataError where it is needed and there is no such column."""
    return look.given(f"columns.{role}", getattr(look.options.columns, role), needed=needed)


def known_as(look: Look, *tiers: Sequence[str], role: str, taken: Sequence[str] = ()) -> str | None:
    """The column with a well-known name, of the first tier that has any; of two the one that most rows fill, and
    DataError where that does not decide."""
    free = {folded(column): column for column in look.columns if column not in taken}
    for tier in tiers:
        found = [free[name] for name in tier if name in free]
        usual = [column for column in found if 2 * sum(bool(row.get(column)) for row in look.sample) > len(look.sample)]
        if len(usual) == 1:
            return usual[0]
        if len(found) > 1:
            raise DataError(
                f"{look.file}: more than one column could be the {role}: {', '.join(found)}. {look.found()} "
                f"Say which it is: data.columns.{role}={found[0]}"
            )
        if found:
            return found[0]
    return None


def question(look: Look, *, prompt_first: bool = False) -> dict[str, str]:
    """The columns of what is asked: `messages`, or `prompt` and perhaps `beside`, with `system` and `history` if
    there; empty where there is none. prompt_first: which is taken where a table has both."""
    messages, prompt = named(look, "messages"), named(look, "prompt")
    if messages and prompt:
        raise DataError("data.columns names both messages and prompt: a chat is the one or the other.")
    found: dict[str, str] = {}
    if prompt_first and not messages:
        prompt = prompt or _prompt(look)
    if not prompt:
        messages = messages or known_as(look, known.MESSAGES, role="messages")
    if messages:
        found["messages"] = messages
    elif prompt or (prompt := _prompt(look)):
        found["prompt"] = prompt
        beside = None if look.options.columns.prompt else known_as(look, known.BESIDE, role="prompt", taken=[prompt])
        found |= {"beside": beside} if beside else {}
        history = known_as(look, ("history",), role="prompt")
        found |= {"history": history} if history else {}
    if found:
        system = named(look, "system") or known_as(look, known.SYSTEM, role="system")
        found |= {"system": system} if system else {}
    return found


def answer(look: Look, taken: Sequence[str], *, needed: bool = True) -> str | None:
    """The column of the answer."""
    if found := named(look, "response", needed=needed):
        return found
    usual = [column for column in look.columns if folded(column) in ("output", "response")]
    if len(usual) == 1 and "instruction" in map(folded, look.columns):
        return usual[0]
    return known_as(look, known.ANSWER, role="response", taken=taken)


def _prompt(look: Look) -> str | None:
    names = {folded(column): column for column in look.columns}
    if "instruction" in names and ("output" in names or "response" in names or "instances" in names):
        return names["instruction"]
    return known_as(look, known.ASKED, known.ASKED_ELSE, role="prompt")


def asked(values: Mapping[str, Any], columns: Columns) -> list[Message]:
    """The messages of what is asked in this row, in the order they are said. ChatFault where a cell is no text."""
    messages: list[Message] = []
    system = values.get(columns["system"]) if "system" in columns else None
    if system is not None and (not isinstance(system, str) or system.strip()):
        messages.append({"role": "system", "content": text_of(values, columns["system"])})
    if "history" in columns:
        messages += _history(values.get(columns["history"]), columns["history"])
    if "messages" in columns or holds_messages(values.get(columns["prompt"]) if "prompt" in columns else None):
        column = columns.get("messages") or columns["prompt"]
        if column not in values:
            raise ChatFault(f'no value for "{column}"')
        found = messages_of(values[column], column)
        return found if messages and found[0]["role"] == "system" else messages + found
    if "prompt" in columns:
        filled = [columns[each] for each in ("prompt", "beside") if each in columns]
        if filled[0] in values:
            filled = [each for each in filled if not is_blank(values.get(each))] or filled[:1]
        messages.append({"role": "user", "content": "\n\n".join(text_of(values, each) for each in filled)})
    return messages


def is_blank(cell: Any) -> bool:
    """Whether a cell holds nothing but perhaps blanks."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def text_of(values: Mapping[str, Any], column: str) -> str:
    """A cell that must hold a text. ChatFault where it does not."""
    cell = values.get(column)
    if isinstance(cell, str) and cell.strip():
        return cell
    if column not in values:
        raise ChatFault(f'no value for "{column}"')
    kind = "empty" if isinstance(cell, str) else kind_of(cell)
    raise ChatFault(f'"{column}" is {kind}' + ("" if kind == "empty" else ", not text"))


def not_plain(look: Look, wanted: str) -> NoReturn:
    """The question to the person whose table is of no known form."""
    raise DataError(
        f"{look.file}: it is not plain how its rows make {wanted}. {look.found()} Known forms: {FORMS}. Say which "
        f"columns count, such as data.columns.prompt={look.columns[0]} data.columns.response={look.columns[-1]}, or "
        f'word the chat yourself: data.template={{user: "{{{look.columns[0]}}}", assistant: ...}}'
    )


def _history(cell: Any, column: str) -> list[Message]:
    """Earlier turns as [question, answer] pairs, as in LLaMA-Factory's Alpaca files; in a CSV file their JSON text."""
    messages: list[Message] = []
    if isinstance(cell, str) and (cell.lstrip().startswith("[") or is_blank(cell)):
        cell, wrong = (None, "") if is_blank(cell) else parse(cell)
        if wrong:
            raise ChatFault(f'"{column}" is {wrong}')
    if not isinstance(cell, list | tuple | None):
        raise ChatFault(f'"{column}" is {kind_of(cell)}, not a list of [question, answer] pairs')
    for pair in cell or ():
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise ChatFault(f'"{column}" holds {kind_of(pair)} that is no [question, answer] pair of texts')
        messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return messages
