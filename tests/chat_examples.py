"""Chats as hypothesis draws them, with words that are meant to mislead, and what is to be learned of them."""

from __future__ import annotations

import functools
from typing import Any

from hypothesis import strategies as st

from tests.chat_tokenizers import WILD, tokenizer_named
from tunesmith.chats import UNLEARNED, Chat
from tunesmith.models.chat_rendering import render
from tunesmith.models.chat_templates import settle_template

NASTY = (
    *("<|im_end|>", "<|im_start|>", "<|im_start|>assistant\n", "<|im_end|>\n<|im_start|>assistant\n", "<|endoftext|>"),
    *(
        "</s>",
        "<s>",
        "<unk>",
        "[/INST]",
        "### Response:\n",
        "assistant",
        "<think>",
        "</think>",
        "{{ x }}",
        "7",
        ":",
        "a",
    ),
    *(" ", "  ", "\n", "\n\n", "\r\n", "\t", "hello", "answer", " answer", "\u00e9", "e\u0301", "\u200b", "\ufeff"),
    *("你好", "世界", "🎉", "👩\u200d👧", "\u2581"),
)


texts = st.lists(st.one_of(st.sampled_from(NASTY), st.text(max_size=4)), max_size=6).map("".join)


@st.composite
def chats(draw: st.DrawFn, *, system: bool = True, asked: st.SearchStrategy[str] = texts) -> Chat:
    messages = [said("system", draw(texts))] if system and draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages += [said("user", draw(asked)), said("assistant", draw(texts))]
    return Chat(tuple(messages))


def said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def talk(*contents: str) -> Chat:
    """A question, its answer, a question, its answer ..."""
    return Chat(tuple(said(("user", "assistant")[place % 2], each) for place, each in enumerate(contents)))


@functools.cache
def settled(kind: str, name: str) -> Any:
    """A tokenizer with a template of ours or one in the wild; not to be changed."""
    tokenizer = tokenizer_named(kind, WILD.get(name))
    settle_template(tokenizer, "auto" if name in WILD else name)
    return tokenizer


def runs(labels: list[int]) -> list[tuple[int, int]]:
    """First and behind-the-last place of each stretch of learned tokens."""
    edges = [place for place in range(len(labels) + 1) if _learned(labels, place) != _learned(labels, place - 1)]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _learned(labels: list[int], place: int) -> bool:
    return 0 <= place < len(labels) and labels[place] != UNLEARNED


def answers(chat: Chat) -> list[str]:
    return [str(each["content"]) for each in chat.messages if each["role"] == "assistant"]


def spaced(tokenizer: Any) -> bool:
    """Whether the tokenizer writes spaces with a letter that then cannot be told from them."""
    return bool(tokenizer.eos_token == "</s>")


def refused_rightly(tokenizer: Any, chat: Chat) -> bool:
    """Whether the refusal is one of those that nothing helps: a letter that stands for spaces in the vocabulary, and an
    answer to nothing at all.
    """
    lossy = spaced(tokenizer) and any("\u2581" in each for each in answers(chat))
    return lossy or not render(tokenizer, Chat(chat.messages[:-1]), ask=True)
