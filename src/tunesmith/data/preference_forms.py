"""The form in which a table says which answers are better: two to a question, or one and whether it is liked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tunesmith.chats import Chat
from tunesmith.data import known_names as known
from tunesmith.data.chat_checks import checked
from tunesmith.data.chat_columns import answer, asked, known_as, named, not_plain, question
from tunesmith.data.chat_faults import ChatFault, kind_of
from tunesmith.data.chat_forms import (
    Form,
    Reading,
    answer_of,
    spoken,
    tools_column,
    worded,
    worded_columns,
    worded_messages,
    worded_said,
)
from tunesmith.data.chat_messages import Message, tools_of
from tunesmith.data.columns import Look
from tunesmith.errors import DataError

_BOTH = ("chosen", "rejected")
PAIRS, SINGLE = "chosen and rejected", "liked or not"
"""The two sorts of preferences; one data set is of one sort."""
_YES, _NO = ("true", "1", "1.0", "yes", "liked", "good"), ("false", "0", "0.0", "no", "disliked", "bad")

Messages = Callable[[Mapping[str, Any]], list[Message]]


def preference_form(look: Look) -> Form:
    """The form of a table of preferences; DataError, with what to write, where it is not plain."""
    given = look.options.template.given
    chosen, rejected = _chosen_and_rejected(look)
    if "chosen" in given or (chosen and rejected and not given):
        return _pairs(look, chosen, rejected)
    liked = named(look, "liked") or known_as(look, known.LIKED_FIRST, known.LIKED, role="liked")
    if not liked:
        return not_plain(look, "a question with a chosen and a rejected answer, or an answer that is liked or not")
    if given and "assistant" not in given:
        raise DataError("data.template words no answer: give chosen and rejected, or assistant and data.columns.liked.")
    return _single(look, liked)


def sort_of(form: Form) -> str:
    """Which of the two sorts a form reads."""
    return SINGLE if "liked" in form.columns else PAIRS


def _chosen_and_rejected(look: Look) -> tuple[str | None, str | None]:
    chosen = named(look, "chosen") or known_as(look, known.CHOSEN, role="chosen")
    rejected = named(look, "rejected") or known_as(look, known.REJECTED, role="rejected")
    if bool(named(look, "chosen")) > bool(rejected) or bool(named(look, "rejected")) > bool(chosen):
        raise DataError("data.columns.chosen and data.columns.rejected belong together: name both.")
    return chosen, rejected


def _pairs(look: Look, chosen: str | None, rejected: str | None) -> Form:
    tools = tools_column(look)
    if look.options.template.given:
        asks = worded_messages(look, "system", "user")
        better, worse = (_said(worded(look, role)) for role in _BOTH)
        columns = worded_columns(look, "system", "user", *_BOTH)
        said = f"worded by data.template, {worded_said(columns)}"
    else:
        assert chosen and rejected
        found = question(look, prompt_first=True)
        columns = {**found, "chosen": chosen, "rejected": rejected}
        asks = partial(asked, columns=found)
        better, worse = (partial(answer_of, column=column) for column in (chosen, rejected))
        said = f'{spoken(found) if found else "the question stands in the answers"}, then "{chosen}" or "{rejected}"'

    def read(values: Mapping[str, Any]) -> Reading:
        messages, texts = _joined(asks(values), better(values), worse(values))
        if texts[0].strip() == texts[1].strip():
            raise ChatFault("the chosen and the rejected answer are the same")
        return Reading(_prompt(messages, values, tools), dict(zip(_BOTH, texts, strict=True)))

    return Form(PAIRS, said, columns | ({"tools": tools} if tools else {}), read)


def _joined(asks: list[Message], better: list[Message], worse: list[Message]) -> tuple[list[Message], tuple[str, str]]:
    """(what is asked, both answers). Answers may be whole conversations that begin with what is asked."""
    if better[:-1] != worse[:-1]:
        raise ChatFault("the chosen and the rejected conversation differ before the last answer")
    if len(better) > 1:
        without = [message for message in asks if message["role"] != "system"]
        start = [message for message in better[:-1] if message["role"] != "system"]
        if start[: len(without)] != without:
            raise ChatFault("the chosen conversation does not begin with the prompt")
        first = asks[:1] if asks and asks[0]["role"] == "system" and better[0]["role"] != "system" else []
        asks = first + better[:-1]
    return asks, (_text(better[-1], "chosen"), _text(worse[-1], "rejected"))


def _single(look: Look, liked: str) -> Form:
    tools = tools_column(look)
    if look.options.template.given:
        messages = worded_messages(look, "system", "user", "assistant")
        columns = worded_columns(look, "system", "user", "assistant")
        said = f'worded by data.template, {worded_said(columns)}, liked where "{liked}"'
    else:
        found = question(look)
        response = answer(look, list(found.values())) if "messages" not in found else named(look, "response")
        if not found or ("messages" not in found and not response):
            return not_plain(look, "a question, an answer and whether it is liked")
        columns = found | ({"response": response} if response else {})
        messages = partial(_asked_and_answered, found=found, response=response)
        said = f'{spoken(found)}, the answer is {_quoted(response)}, liked where "{liked}"'

    def read(values: Mapping[str, Any]) -> Reading:
        chat, cut = checked(messages(values), needs_answer=True)
        answers = {"answer": _text(chat[-1], "the last message"), "liked": _is_liked(values, liked)}
        return Reading(_prompt(chat[:-1], values, tools), answers, cut=cut)

    return Form(SINGLE, said, {**columns, "liked": liked} | ({"tools": tools} if tools else {}), read)


def _asked_and_answered(values: Mapping[str, Any], *, found: Mapping[str, str], response: str | None) -> list[Message]:
    return asked(values, found) + (answer_of(values, response) if response else [])


def _prompt(messages: list[Message], values: Mapping[str, Any], tools: str | None) -> Chat:
    """What is asked, checked; its last word must be the user's, or a tool's."""
    if not messages:
        raise ChatFault("nothing is asked: the row has answers alone")
    chat, _ = checked(_unmarked(messages), needs_answer=False)
    if chat[-1]["role"] == "assistant":
        raise ChatFault("what is asked ends with an answer of the assistant")
    return Chat(tuple(chat), tools_of(values.get(tools), tools) if tools else ())


def _unmarked(messages: list[Message]) -> list[Message]:
    """The same without marks of what is to be learned: here the form says that."""
    return [{key: held for key, held in each.items() if key != "learned"} for each in messages]


def _said(text: Callable[[Mapping[str, Any]], str]) -> Messages:
    """What a template makes of a row, as an answer."""
    return lambda values: [{"role": "assistant", "content": text(values)}]


def _text(message: Message, which: str) -> str:
    """The words of an answer."""
    if message["role"] != "assistant":
        raise ChatFault(f"{which} is from the {message['role']}, not from the assistant")
    if message.get("tool_calls"):
        raise ChatFault(f"{which} calls a tool; preferences are learned between texts")
    if message.get("reasoning_content"):
        raise ChatFault(
            f"{which} has thoughts beside its words (reasoning_content); preferences are learned between texts: write "
            "the thoughts into the words as the model's template does, or take them out"
        )
    if not str(message["content"]).strip():
        raise ChatFault(f"{which} is empty")
    return str(message["content"])


def _is_liked(values: Mapping[str, Any], column: str) -> str:
    if column not in values:
        raise ChatFault(f'no value for "{column}"')
    cell = values[column]
    word = str(cell).strip().casefold()
    if not isinstance(cell, bool | int | float | str) or word not in (*_YES, *_NO):
        raise ChatFault(
            f'"{column}" is {kind_of(cell) if not isinstance(cell, str) else repr(cell)}, not true or false'
        )
    return "true" if word in _YES else "false"


def _quoted(response: str | None) -> str:
    return f'"{response}"' if response else "the last one"
