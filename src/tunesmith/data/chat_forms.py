"""The form in which a table holds chats: found by its columns, told to the person, and read row by row.

A form is settled for a whole table. A row of another form is a bad row: guessing row by row could teach half of a file
the wrong way round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith.chats import Chat
from tunesmith.data import known_names as known
from tunesmith.data.chat_checks import checked
from tunesmith.data.chat_columns import Columns, answer, asked, known_as, named, not_plain, question, text_of
from tunesmith.data.chat_faults import ChatFault
from tunesmith.data.chat_messages import Message, holds_messages, messages_of, tools_of
from tunesmith.data.chat_template_fields import columns_of, filled, pieces
from tunesmith.data.columns import Look
from tunesmith.errors import DataError


@dataclass(frozen=True, slots=True)
class Reading:
    """One row as a form reads it. answers: of preferences, as `Example.inputs` names them. cut: messages behind the
    last answer that were cut off. others: further answers of the row that are not used."""

    chat: Chat
    answers: Mapping[str, str] = field(default_factory=dict)
    cut: int = 0
    others: int = 0


@dataclass(frozen=True, slots=True)
class Form:
    """How a table's rows are read. name and said: for the person. columns: those that count, by what they are.
    read: a row's cells to what they say; ChatFault where they say nothing that can be learned."""

    name: str
    said: str
    columns: Columns
    read: Callable[[Mapping[str, Any]], Reading]

    @property
    def heard(self) -> frozenset[str]:
        """The names of the columns that count; a template has several for a role."""
        named = self.columns.values()
        return frozenset((*named, *(column.strip() for each in named for column in each.split(","))))


def chat_form(look: Look, *, needs_answer: bool = True) -> Form:
    """The form of a table of chats or texts; DataError, with what to write, where it is not plain.

    needs_answer: False for chats that are to be answered.
    """
    options = look.options.columns
    if look.options.template.given:
        return _worded(look, needs_answer)
    if options.text is not None:
        return _raw(look, str(named(look, "text")))
    if needs_answer:
        _no_preferences(look)
    columns = question(look)
    if "messages" in columns:
        return _messages(look, columns, needs_answer)
    instances = known_as(look, ("instances",), role="response")
    if instances and "prompt" in columns:
        return _self_instruct(columns["prompt"], instances, needs_answer)
    response = answer(look, list(columns.values()), needed=needs_answer)
    if columns and (response or not needs_answer):
        return _asked_and_answered(look, columns, response, needs_answer)
    raw = None if columns or response else known_as(look, known.RAW[:1], known.RAW, role="text")
    if raw is None and len(look.columns) == 1 and not columns:
        raw = look.columns[0]
    return _raw(look, raw) if raw else not_plain(look, "a chat")


def spoken(columns: Columns) -> str:
    """What is asked, in words."""
    if "messages" in columns:
        return f'the messages are in "{columns["messages"]}"'
    beside = f', with "{columns["beside"]}" below it where there is any' if "beside" in columns else ""
    return f'the question is "{columns["prompt"]}"{beside}'


def chat_of(messages: list[Message], values: Mapping[str, Any], tools: str | None, *, needs_answer: bool) -> Reading:
    """The chat that these messages make, checked."""
    chat, cut = checked(messages, needs_answer=needs_answer)
    return Reading(Chat(tuple(chat), tools_of(values.get(tools), tools) if tools else ()), cut=cut)


def answer_of(values: Mapping[str, Any], column: str) -> list[Message]:
    """The messages of an answer's cell: one of the assistant for a text, or a message or several as they are given."""
    cell = values.get(column)
    if isinstance(cell, Mapping) and ("role" in cell or "from" in cell):
        cell = [cell]
    if isinstance(cell, list | tuple) or holds_messages(cell):
        return messages_of(cell, column)
    return [{"role": "assistant", "content": text_of(values, column)}]


def worded(look: Look, role: str) -> Callable[[Mapping[str, Any]], str]:
    """What the recipe's template makes of a row for this role. DataError where it names a column that is not there."""
    wording = look.options.template.given[role]
    found = {column: str(look.given(f"template.{role}", column)) for column in columns_of(wording)}
    taken_apart = pieces(wording)
    return lambda values: filled(taken_apart, values, found)


def worded_messages(look: Look, *roles: str) -> Callable[[Mapping[str, Any]], list[Message]]:
    """Messages of these roles, as far as the template words them."""
    words = {role: worded(look, role) for role in roles if role in look.options.template.given}
    return lambda values: [{"role": role, "content": text(values)} for role, text in words.items()]


def worded_columns(look: Look, *roles: str) -> dict[str, str]:
    """The columns that the template names, by role."""
    given = look.options.template.given
    return {role: ", ".join(columns_of(given[role])) for role in roles if role in given and columns_of(given[role])}


def worded_said(columns: Columns) -> str:
    """Which columns a template uses, in words."""
    return "; ".join(f'{role} holds "{named}"' for role, named in columns.items()) or "no column is in it"


def tools_column(look: Look) -> str | None:
    """The column of the tools that a chat offers."""
    return known_as(look, known.TOOLS, role="tools")


def _messages(look: Look, columns: dict[str, str], needs_answer: bool) -> Form:
    response, tools = named(look, "response", needed=needs_answer), tools_column(look)
    first = next((v for values in look.sample if (v := values.get(columns["messages"]))), None)
    shared = "from" in first[0] if isinstance(first, list) and isinstance(first[0], Mapping) else "from" in str(first)
    columns |= {"tools": tools} if tools else {}
    columns |= {"response": response} if response else {}

    def read(values: Mapping[str, Any]) -> Reading:
        messages = asked(values, columns)
        if response and (needs_answer or values.get(response) not in (None, "")):
            messages += answer_of(values, response)
        return chat_of(messages, values, tools, needs_answer=needs_answer)

    return Form("ShareGPT" if shared else "OpenAI messages", spoken(columns), columns, read)


def only_read(messages: list[Message]) -> list[Message]:
    """The same with every answer marked as one that is not learned."""
    return [{**each, "learned": False} if each["role"] == "assistant" else each for each in messages]


def _asked_and_answered(look: Look, columns: dict[str, str], response: str | None, needs_answer: bool) -> Form:
    columns |= {"response": response} if response else {}
    prompt = columns["prompt"]

    def read(values: Mapping[str, Any]) -> Reading:
        messages = asked(values, columns)
        if holds_messages(values.get(prompt)):
            messages = only_read(messages)
        if response and (needs_answer or values.get(response) not in (None, "")):
            messages += answer_of(values, response)
        return chat_of(messages, values, None, needs_answer=needs_answer)

    said = f'{spoken(columns)}, the answer is "{response}"' if response else spoken(columns)
    if response and any(holds_messages(values.get(prompt)) for values in look.sample):
        said += f'; answers inside "{prompt}" are read, not learned (unless task.train_on is all)'
    return Form(_name(columns["prompt"], response), said, columns, read)


def _name(prompt: str, response: str | None) -> str:
    known_pairs = {("instruction", "output"): "Alpaca", ("instruction", "response"): "Dolly"}
    pair = (prompt.casefold(), (response or "").casefold())
    return known_pairs.get(pair, f"{prompt} and {response}" if response else prompt)


def _self_instruct(prompt: str, instances: str, needs_answer: bool) -> Form:
    def read(values: Mapping[str, Any]) -> Reading:
        found = values.get(instances)
        if not isinstance(found, list | tuple) or not found or not isinstance(found[0], Mapping):
            raise ChatFault(f'"{instances}" is no list of objects with input and output')
        first = {"instruction": values.get(prompt), **found[0]}
        columns = {"prompt": "instruction", "beside": "input"}
        messages = asked(first, columns) + (answer_of(first, "output") if needs_answer else [])
        made = chat_of(messages, values, None, needs_answer=needs_answer)
        return Reading(made.chat, others=len(found) - 1)

    said = f'the question is "{prompt}" and the first input of "{instances}" below it, the answer is its output'
    return Form("Self-Instruct", said, {"prompt": prompt, "instances": instances}, read)


def _raw(look: Look, column: str) -> Form:
    def read(values: Mapping[str, Any]) -> Reading:
        return Reading(Chat(text=text_of(values, column)))

    return Form("raw text", f'every word of "{column}" is learned', {"text": column}, read)


def _worded(look: Look, needs_answer: bool) -> Form:
    given = look.options.template.given
    if needs_answer and "assistant" not in given:
        raise DataError("data.template words no answer: add assistant, such as data.template.assistant='{answer}'.")
    needed = set(columns_of(given.get("assistant", "")))
    answered = "assistant" in given and (needs_answer or needed <= set(look.columns))
    roles = ("system", "user", "assistant") if answered else ("system", "user")
    messages, question_alone = worded_messages(look, *roles), worded_messages(look, "system", "user")
    columns = worded_columns(look, *roles)

    def read(values: Mapping[str, Any]) -> Reading:
        if not needs_answer and any(values.get(column) in (None, "") for column in needed):
            return chat_of(question_alone(values), values, None, needs_answer=False)
        return chat_of(messages(values), values, None, needs_answer=needs_answer)

    return Form("worded by data.template", worded_said(columns), columns, read)


def _no_preferences(look: Look) -> None:
    """DataError where the table holds answers that are not all meant to be learned, and the recipe does not say which
    are."""
    options = look.options.columns
    if options.response or options.messages:
        return
    better, worse = (known_as(look, names, role="chosen") for names in (known.CHOSEN, known.REJECTED))
    if better and worse:
        raise DataError(
            f'{look.file} holds a better and a worse answer in each row ("{better}" and "{worse}"), which is what the '
            f"task preference learns from. To learn the better ones word by word, say data.columns.response={better}."
        )
    liked = known_as(look, known.LIKED_FIRST, known.LIKED, role="liked")
    if liked and look.sample and all(isinstance(values.get(liked), bool) for values in look.sample):
        raise DataError(
            f'{look.file} says of each answer whether it is a good one ("{liked}"), which is what the task preference '
            f"learns from. To learn all of them, the bad ones too, name the column of the chats or the answers: "
            f"data.columns.messages or data.columns.response."
        )
