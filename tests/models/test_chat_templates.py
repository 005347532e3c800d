"""Named templates: written for any vocabulary, kept with the tokenizer, refused where nothing could be learned."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.chat_tokenizers import MAKERS, WILD, tokenizer_named
from transformers import AutoTokenizer

from tunesmith.chats import Chat
from tunesmith.errors import DataError, ModelError
from tunesmith.models.chat_rendering import ending_of, render
from tunesmith.models.chat_templates import EOS, TEMPLATES, settle_template

ASKED = {"role": "user", "content": "Hello {{ 7 * 7 }} & <b>"}
ANSWERED = {"role": "assistant", "content": "Hi."}
CHAT = Chat(({"role": "system", "content": "Be kind."}, ASKED, ANSWERED, ASKED, ANSWERED))
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALL = {"type": "function", "function": {"name": "weather", "arguments": '{"town": "Rome"}'}}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_named_template_writes_its_parts_around_the_words(kind: str, name: str) -> None:
    tokenizer = tokenizer_named(kind)
    assert settle_template(tokenizer, name) == name
    parts = TEMPLATES[name]
    end = parts.end if parts.end != EOS and parts.end in tokenizer.get_added_vocab() else EOS
    around = {"system": parts.system, "user": parts.user, "assistant": (parts.answer[0], end + parts.answer[1])}
    begin = tokenizer.bos_token if kind in ("llama", "legacy llama", "unigram") else ""
    wanted = begin + "".join(around[m["role"]][0] + m["content"] + around[m["role"]][1] for m in CHAT.messages)
    assert render(tokenizer, CHAT, ask=False) == wanted.replace(EOS, tokenizer.eos_token)
    without = Chat((ASKED,))
    opened = begin + parts.begin + parts.user[0] + ASKED["content"] + parts.user[1] + parts.answer[0]
    assert render(tokenizer, without, ask=True) == opened.replace(EOS, tokenizer.eos_token)


@pytest.mark.parametrize("name", TEMPLATES)
def test_plain_transformers_reads_the_template_with_the_tokenizer(name: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_named("gpt2")
    size = len(tokenizer)
    settle_template(tokenizer, name)
    tokenizer.save_pretrained(tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path)
    messages = list(CHAT.messages)
    assert read.apply_chat_template(messages, tokenize=False) == tokenizer.apply_chat_template(messages, tokenize=False)
    assert len(read) == size


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_an_answer_always_ends_with_one_token_of_the_vocabulary(kind: str, name: str) -> None:
    tokenizer = tokenizer_named(kind)
    settle_template(tokenizer, name)
    assert ending_of(tokenizer).token == tokenizer.eos_token_id
    assert ending_of(tokenizer).learned == tokenizer.eos_token


def test_where_the_vocabulary_lacks_the_markers_only_answers_end_with_the_end_of_text() -> None:
    tokenizer = tokenizer_named("gpt2")
    settle_template(tokenizer, "chatml")
    text = render(tokenizer, Chat((ASKED, ANSWERED)), ask=False)
    assert text.endswith("Hi.<|endoftext|>\n")
    assert text.count("<|im_end|>") == 1


def test_auto_keeps_the_tokenizers_own_template_and_gives_chatml_where_there_is_none() -> None:
    own = tokenizer_named("smollm", WILD["trimming"])
    assert settle_template(own) == "own"
    assert own.chat_template == WILD["trimming"]
    bare = tokenizer_named("smollm")
    assert settle_template(bare) == "chatml"
    assert "<|im_start|>" in bare.chat_template


def test_a_template_that_ignores_the_generation_prompt_is_mended() -> None:
    tokenizer = tokenizer_named("smollm", WILD["no generation prompt"])
    settle_template(tokenizer)
    asked = [{"role": "user", "content": "Hello"}]
    plain = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert plain == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.apply_chat_template(asked, tokenize=False).endswith("Hello<|im_end|>\n")


def test_a_template_that_asks_with_nothing_but_a_space_missing_is_left_alone() -> None:
    tokenizer = tokenizer_named("llama", WILD["llama 2"])
    settle_template(tokenizer)
    assert tokenizer.chat_template == WILD["llama 2"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no end", "would not stop"),
        ("thought begun", "does not write one behind it"),
    ],
)
def test_a_template_that_cannot_be_learned_from_is_refused_with_what_to_write(name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        settle_template(tokenizer_named("smollm", WILD[name]))
    assert "template: chatml" in str(caught.value)


def test_a_broken_template_is_refused() -> None:
    with pytest.raises(ModelError, match="do not go through the chat template"):
        settle_template(tokenizer_named("smollm", "{{ messages[0].nothing.at_all }}"))
    with pytest.raises(ModelError, match="do not go through the chat template"):
        settle_template(tokenizer_named("smollm", "{% for m in messages %}"))
    with pytest.raises(ModelError, match="leaves answers out"):
        settle_template(tokenizer_named("smollm", "{{ messages[0].content }}<|im_end|>"))


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r'Did you mean "chatml"\?.*zephyr'):
        settle_template(tokenizer_named("gpt2"), "chatm")


def test_a_tokenizer_without_end_of_text_or_without_offsets_is_refused() -> None:
    tokenizer = tokenizer_named("gpt2")
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="eos_token"):
        settle_template(tokenizer)
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        settle_template(SimpleNamespace(is_fast=False))


def test_chatml_writes_tools_their_calls_and_their_results() -> None:
    tokenizer = tokenizer_named("smollm")
    settle_template(tokenizer)
    called = {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]}
    results = [{"role": "tool", "content": "22"}, {"role": "tool", "content": "23"}]
    text = render(tokenizer, Chat((*CHAT.messages[:2], called, *results, ANSWERED), (WEATHER,)), ask=False)
    call = '<tool_call>\n{"name": "weather", "arguments": {"town": "Rome"}}\n</tool_call>'
    assert f"<|im_start|>assistant\n{call}\n{call}<|im_end|>\n" in text
    assert (
        "<|im_start|>user\n<tool_response>\n22\n</tool_response>\n<tool_response>\n23\n</tool_response><|im_end|>"
        in text
    )
    assert text.startswith("<|im_start|>system\nBe kind.\n\n# Tools")
    assert text.count("Be kind.") == 1


@pytest.mark.parametrize("name", sorted(set(TEMPLATES) - {"chatml"}))
def test_the_other_templates_refuse_tools_instead_of_dropping_them(name: str) -> None:
    tokenizer = tokenizer_named("smollm")
    settle_template(tokenizer, name)
    called = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    for chat in (
        Chat((ASKED, ANSWERED), (WEATHER,)),
        Chat((ASKED, called)),
        Chat((ASKED, {"role": "tool", "content": "1"})),
    ):
        with pytest.raises(DataError, match="no place for"):
            render(tokenizer, chat, ask=False)


def test_a_template_that_writes_todays_date_writes_the_same_every_day() -> None:
    tokenizer = tokenizer_named(next(iter(MAKERS)))
    settle_template(tokenizer, "chatml")
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + tokenizer.chat_template
    assert "26 Jul 2024" in render(tokenizer, CHAT, ask=False)
