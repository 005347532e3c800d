"""What a tokenizer's chat template writes: a chat in its words, and how it asks for an answer and ends one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from tunesmith.chats import Chat
from tunesmith.errors import DataError, ModelError

_ASKED = "Tunesmith asks: what is two and two?"
_ANSWERED = "Tunesmith answers: four"
REMEDY = "Write `template: chatml` (or another named template) for a template that can be learned from."
"""What to do about a template that cannot."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a template ends an answer: everything it writes behind the words, the part that is learned (through the
    first token that the vocabulary holds as a whole), and that token.
    """

    closing: str
    learned: str
    token: int


class Probe(NamedTuple):
    """A question, the question with the generation prompt, the question answered; what the template writes between the
    prompt and the words of the answer, and behind them.
    """

    question: str
    prompt: str
    whole: str
    opening: str
    closing: str


DAY = datetime(2024, 7, 26)
"""What templates that write today's date are told (Llama 3's own where no clock is at hand): the same recipe must give
the same tokens tomorrow."""

_CLOCK = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")

_endings: WeakKeyDictionary[Any, tuple[tuple[str, str], Ending]] = WeakKeyDictionary()


def render(tokenizer: Any, chat: Chat, *, ask: bool) -> str:
    """The chat in the template's words; `ask` adds the generation prompt. DataError where the template refuses it."""
    from jinja2.exceptions import TemplateError

    tools, written = [dict(each) for each in chat.tools] or None, tokenizer.chat_template
    faults: list[Exception] = []
    for as_text in (False, True) if any(each.get("tool_calls") for each in chat.messages) else (False,):
        messages = [_as_templates_take_it(each, as_text=as_text) for each in chat.messages]
        try:
            rendered = tokenizer.apply_chat_template(
                messages,
                tools=tools,
                tokenize=False,
                add_generation_prompt=ask,
                chat_template=_of_one_day(written) if isinstance(written, str) else None,
            )
            return str(rendered)
        except (TemplateError, TypeError, KeyError, IndexError, AttributeError, ValueError) as error:
            faults.append(error)
    roles = ", ".join(str(each.get("role")) for each in chat.messages)
    message = f"The chat template does not take this chat (roles: {roles or 'none'}). It says: {faults[0]}"
    raise DataError(message) from faults[0]


@lru_cache(maxsize=16)
def _of_one_day(template: str) -> str:
    """The template with the date of `DAY` where it asks the clock."""
    return _CLOCK.sub(lambda found: repr(DAY.strftime(found[2])), template)


def ending_of(tokenizer: Any) -> Ending:
    """How the tokenizer's template ends an answer. ModelError where there is no template, where it ends an answer
    with no token of the vocabulary (the model would never learn to stop), and where its answers do not follow its
    own generation prompt.
    """
    written = str(tokenizer.chat_template), str(tokenizer.eos_token)
    known = _endings.get(tokenizer)
    if known is not None and known[0] == written:
        return known[1]
    probed = probe(tokenizer)
    if not probed.whole.startswith(probed.prompt):
        message = (
            f"The chat template asks for an answer with ...{probed.prompt[-40:]!r}, but does not write one behind it: "
            f"...{probed.whole[-80:]!r}. What is learned would not be what is asked for later. {REMEDY}"
        )
        raise ModelError(message)
    ending = _read_ending(tokenizer, probed.closing)
    _endings[tokenizer] = (written, ending)
    return ending


def probe(tokenizer: Any) -> Probe:
    """A question of ours and its answer as the template writes them. ModelError where it does not take them."""
    if not tokenizer.chat_template:
        raise ModelError("The tokenizer has no chat template. Write `template: chatml` to give it one.")
    asked = {"role": "user", "content": _ASKED}
    answered = {"role": "assistant", "content": _ANSWERED}
    try:
        question, prompt = (render(tokenizer, Chat((asked,)), ask=ask) for ask in (False, True))
        whole = render(tokenizer, Chat((asked, answered)), ask=False)
    except DataError as error:
        raise ModelError(
            f"A plain question and answer do not go through the chat template: {error} {REMEDY}"
        ) from error
    before, found, closing = whole.rpartition(_ANSWERED)
    if not found:
        raise ModelError(f"The chat template leaves answers out: {whole[-80:]!r}. {REMEDY}")
    return Probe(question, prompt, whole, before[len(prompt) :], closing)


def require_offsets(tokenizer: Any) -> None:
    """ModelError where the tokenizer cannot say which characters its tokens stand for, or has no end of text."""
    if not getattr(tokenizer, "is_fast", False):
        name = type(tokenizer).__name__
        raise ModelError(
            f"{name} does not say which characters its tokens stand for. Use a model with a tokenizer.json."
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "The tokenizer names no end of text (eos_token), so a model could not learn to stop. Name one in it."
        )


def _read_ending(tokenizer: Any, closing: str) -> Ending:
    found = tokenizer(closing, add_special_tokens=False, return_offsets_mapping=True)
    held = tokenizer.added_tokens_decoder
    for token, (start, _) in zip(found["input_ids"], found["offset_mapping"], strict=True):
        if token in held:
            text = held[token].content
            stop = closing.index(text, start) + len(text)
            return Ending(closing, closing[:stop], token)
    message = (
        f"The chat template ends an answer with {closing!r}, which holds no token of the vocabulary that says so; "
        f"a model tuned on it would not stop. {REMEDY}"
    )
    raise ModelError(message)


def _as_templates_take_it(message: Mapping[str, Any], *, as_text: bool) -> dict[str, Any]:
    """A message with its content there, its thoughts by both of the names that templates read, and the arguments of
    tool calls as a mapping, which most templates want, or as JSON text, which some do.
    """
    found = {"content": "", **message}
    found.pop("learned", None)
    if thought := message.get("reasoning_content"):
        found["thinking"] = thought
    if message.get("tool_calls"):
        found["tool_calls"] = [_with_arguments(each, as_text=as_text) for each in message["tool_calls"]]
    return found


def _with_arguments(call: Mapping[str, Any], *, as_text: bool) -> dict[str, Any]:
    function = call.get("function")
    arguments = function.get("arguments") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or isinstance(arguments, str) == as_text:
        return dict(call)
    try:
        arguments = json.dumps(arguments, ensure_ascii=False) if as_text else json.loads(arguments or "{}")
    except (json.JSONDecodeError, TypeError):
        return dict(call)
    return {**call, "function": {**function, "arguments": arguments}}
