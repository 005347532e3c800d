"""Where the answers stand in a rendered chat: found by comparing prefixes, never by looking for words of the template.

A chat is rendered as a whole, and once more up to each answer with the generation prompt: what comes behind that
prefix is the answer. How an answer ends is asked of the template once, with an answer of our own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tunesmith.chats import Chat, is_learned
from tunesmith.errors import DataError
from tunesmith.models.chat_rendering import REMEDY, Ending, ending_of, render

_MANY = 4
"""From more answers on a chat is first tried turn by turn, for to render every prefix takes time with the square."""


class Span(NamedTuple):
    """Characters of the rendered text, from an answer's first to just behind its end token."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """A chat as its template writes it, the answers that can be learned from it, and how many answers it has.

    rewritten: answers that were to be learned and have no span, for the template writes them otherwise than it asks for
    them; calls: those of them that call a tool. unthought: answers whose thoughts the template leaves out.
    """

    text: str
    spans: tuple[Span, ...]
    answers: int
    rewritten: int = 0
    calls: int = 0
    unthought: int = 0


class _NotInWhole(DataError):
    """The chat with its last answer is not the chat that asks for it, with an answer behind."""


def find_answers(tokenizer: Any, chat: Chat) -> Rendered:
    """The rendered chat and the span of each answer that stands in it as the model would have given it.

    A template may write earlier turns in another way than it wrote them when they were the last (thoughts taken out):
    such an answer has no span, and `answers` counts it all the same. Nor has one that is only to be read. Where the
    whole chat does not go on from the prompt of its last answer (Mistral's templates write the system message only
    while they ask), the text is that prompt with the answer behind it. DataError where neither can be, and where the
    template leaves out part of an answer, a system message, tools or tool calls.
    """
    ending = ending_of(tokenizer)
    places = [number for number, each in enumerate(chat.messages) if each.get("role") == "assistant"]
    try:
        return _in_whole(tokenizer, chat, places, ending)
    except _NotInWhole:
        rebuilt = _behind_own_prompt(tokenizer, chat, places, ending)
        if rebuilt is None:
            raise
        return rebuilt


def _in_whole(tokenizer: Any, chat: Chat, places: Sequence[int], ending: Ending) -> Rendered:
    whole = render(tokenizer, chat, ask=False)
    _refuse_left_out(chat, whole)
    quick = _by_turns(tokenizer, chat, whole, ending) if len(places) > _MANY else None
    if quick is not None and quick[-1:] == [_span(tokenizer, chat, places[-1], whole, ending)]:
        return _rendered(chat, whole, places, dict(zip(places, quick, strict=True)))
    spans = {}
    for place in places:
        if not is_learned(chat.messages[place]):
            continue
        found = _span(tokenizer, chat, place, whole, ending)
        if isinstance(found, Span):
            spans[place] = found
        elif place == places[-1]:
            message = f"The last answer of the chat cannot be learned with this chat template: {found}. {REMEDY}"
            raise _NotInWhole(message)
    return _rendered(chat, whole, places, spans)


def _rendered(chat: Chat, text: str, places: Sequence[int], spans: Mapping[int, Span]) -> Rendered:
    """The answers at `places` with their spans, of which those count that are to be learned."""
    wanted = {place: chat.messages[place] for place in places if is_learned(chat.messages[place])}
    rewritten = [message for place, message in wanted.items() if place not in spans]
    return Rendered(
        text,
        tuple(span for place, span in spans.items() if place in wanted),
        len(places),
        len(rewritten),
        sum(bool(message.get("tool_calls")) for message in rewritten),
        sum(
            _bare(thoughts) not in _bare(text[slice(*spans[place])])
            for place, message in wanted.items()
            if place in spans and (thoughts := message.get("reasoning_content"))
        ),
    )


def _behind_own_prompt(tokenizer: Any, chat: Chat, places: Sequence[int], ending: Ending) -> Rendered | None:
    """The last answer as written to its question alone, behind the prompt that asks for it in the chat."""
    if not places or not places[-1] or chat.messages[places[-1] - 1].get("role") != "user":
        return None
    if not is_learned(chat.messages[places[-1]]):
        return None
    alone = Chat(chat.messages[places[-1] - 1 : places[-1] + 1])
    try:
        prompt = render(tokenizer, Chat(chat.messages[: places[-1]], chat.tools), ask=True)
        answered = render(tokenizer, alone, ask=False)
        span = _span(tokenizer, alone, 1, answered, ending)
        _refuse_left_out(Chat(chat.messages[: places[-1]], chat.tools), prompt)
    except DataError:
        return None
    if not isinstance(span, Span):
        return None
    behind = Span(len(prompt), len(prompt) + span.stop - span.start)
    return _rendered(chat, prompt + answered[span.start :], places, {places[-1]: behind})


def _span(tokenizer: Any, chat: Chat, place: int, whole: str, ending: Ending) -> Span | str:
    """Where the answer at `place` stands in the whole, or in words why it cannot be said. DataError where the template
    leaves out part of it even while it is the last.
    """
    if not place:
        return "nothing is asked before it"
    try:
        prompt = render(tokenizer, Chat(chat.messages[:place], chat.tools), ask=True)
        last = place + 1 == len(chat.messages)
        answered = whole if last else render(tokenizer, Chat(chat.messages[: place + 1], chat.tools), ask=False)
    except DataError as error:
        return str(error)
    if not prompt:
        return "nothing stands before it, not even a token"
    if not whole.startswith(prompt) or not answered.startswith(prompt):
        return (
            f"the chat so far, asked for an answer, ends ...{prompt[-40:]!r}, which is not how the whole chat goes on"
        )
    given = answered[len(prompt) :]
    learned = _learned(chat.messages[place], given, ending, tokenizer)
    if learned is None:
        return f"the answer ends with {given[-40:]!r}, not with {ending.learned!r}"
    if lost := _lost(tokenizer, chat, place, prompt, learned.removesuffix(ending.learned)):
        raise DataError(f"The chat template leaves out {lost}. {REMEDY}")
    if not whole.startswith(learned, len(prompt)):
        return "the template writes it differently once the chat goes on"
    return Span(len(prompt), len(prompt) + len(learned))


def _by_turns(tokenizer: Any, chat: Chat, whole: str, ending: Ending) -> list[Span] | None:
    """The spans of all answers from one rendering of each turn, a question and what answers it.

    That holds only where these, put together behind what they all begin with, are the whole letter by letter; else
    None.
    """
    asked = [place for place, each in enumerate(chat.messages) if each.get("role") == "user"]
    if len(asked) < 2 or any(each.get("role") == "assistant" for each in chat.messages[: asked[0]]):
        return None
    borders = zip(asked, [*asked[1:], len(chat.messages)], strict=True)
    turns = [Chat((*chat.messages[: asked[0]], *chat.messages[begin:end]), chat.tools) for begin, end in borders]
    try:
        texts = [render(tokenizer, each, ask=False) for each in turns]
    except DataError:
        return None
    shared, rest = divmod(sum(map(len, texts)) - len(whole), len(turns) - 1)
    if rest or shared < 0 or texts[0] + "".join(each[shared:] for each in texts[1:]) != whole:
        return None
    spans, behind = [], 0
    for turn, text in zip(turns, texts, strict=True):
        if not text.startswith(texts[0][:shared]):
            return None
        ahead = behind - (shared if behind else 0)
        for place in (number for number, each in enumerate(turn.messages) if each.get("role") == "assistant"):
            found = _span(tokenizer, turn, place, text, ending)
            if not isinstance(found, Span):
                return None
            spans.append(Span(ahead + found.start, ahead + found.stop))
        behind = ahead + len(text)
    return spans


def _learned(message: Mapping[str, Any], given: str, ending: Ending, tokenizer: Any) -> str | None:
    """An answer through its end token; tool calls may end with another token of the vocabulary than words do."""
    if given.endswith(ending.closing):
        return given.removesuffix(ending.closing) + ending.learned
    bare = given.rstrip()
    if message.get("tool_calls") and any(bare.endswith(each) for each in tokenizer.all_special_tokens):
        return bare
    return None


def _lost(tokenizer: Any, chat: Chat, place: int, prompt: str, given: str) -> str:
    """What of an answer does not stand in its rendered form; empty where all does. Spaces do not count.

    An answer may begin with words that the generation prompt already says, such as <think>.
    """
    message = chat.messages[place]
    content = message.get("content")
    if (
        isinstance(content, str)
        and _bare(content) not in _bare(given)
        and _bare(content) not in _bare(_opening(tokenizer, chat, place, prompt) + given)
    ):
        return f"part of an answer: {content[:60]!r} became {given[:60]!r}"
    names = [str((each.get("function") or each).get("name", "")) for each in message.get("tool_calls") or ()]
    missing = [each for each in names if each not in given]
    return f"the call of {missing[0]!r}: it has no place for tool calls" if missing else ""


def _opening(tokenizer: Any, chat: Chat, place: int, prompt: str) -> str:
    """What the template adds to the chat so far to ask for an answer; empty where that cannot be told."""
    try:
        so_far = render(tokenizer, Chat(chat.messages[:place], chat.tools), ask=False)
    except DataError:
        return ""
    return prompt[len(so_far) :] if prompt.startswith(so_far) else ""


def _refuse_left_out(chat: Chat, whole: str) -> None:
    for message in chat.messages:
        content = message.get("content")
        if message.get("role") == "system" and isinstance(content, str) and content.strip() not in whole:
            raise _NotInWhole(f"The chat template leaves out the system message {content[:60]!r}. {REMEDY}")
    for tool in chat.tools:
        name = str((tool.get("function") or tool).get("name", ""))
        if name not in whole:
            raise DataError(f"The chat template has no place for tools (it leaves out {name!r}). {REMEDY}")


def _bare(text: str) -> str:
    return "".join(text.split())
