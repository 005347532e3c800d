"""What is too long loses its oldest words first, and an answer only if it leaves its question too little room."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.chat_examples import chats, runs, said, settled, talk, texts
from tests.chat_tokenizers import LOSSLESS

from tunesmith.chats import UNLEARNED, Chat
from tunesmith.errors import DataError
from tunesmith.models.chat_align import tokenise
from tunesmith.models.chat_rendering import render
from tunesmith.models.chat_templates import TEMPLATES
from tunesmith.models.chat_tokens import (
    EncodedChat,
    encode_chat,
    encode_chats,
    encode_prompt,
    learned_text,
)


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=40, deadline=None)
@given(chat=chats(asked=texts.filter(bool)), name=st.sampled_from(sorted(TEMPLATES)), most=st.integers(2, 60))
def test_a_cut_takes_the_oldest_first_and_an_answer_only_if_little_room_is_left_for_its_question(
    kind: str, chat: Chat, name: str, most: int
) -> None:
    tokenizer = settled(kind, name)
    whole, short = (encode_chats(tokenizer, [chat], max_length=each)[0] for each in (None, most))
    if isinstance(whole, DataError):
        assert isinstance(short, DataError)
        return
    assert isinstance(short, EncodedChat)
    assert len(short.input_ids) == len(short.labels) <= most
    assert short.length == whole.length == len(encode_chat(tokenizer, chat)["input_ids"])
    assert short.labels[0] == UNLEARNED
    first, behind = runs(whole.labels)[-1]
    last = whole.labels[first:behind]
    stretches = [short.labels[begin:end] for begin, end in runs(short.labels)]
    if whole.length <= most:
        assert (short.input_ids, short.labels, short.cut) == (whole.input_ids, whole.labels, "")
    elif len(last) <= most - least(tokenizer, chat, most):
        assert short.cut == "prompt"
        assert stretches[-1] == last
        assert stretches == [whole.labels[begin:end] for begin, end in runs(whole.labels)][-len(stretches) :]
        assert short.learned == len(stretches)
    else:
        assert (short.cut, short.learned) == ("response", 1)
        assert stretches == [last[: len(stretches[0])]]
        assert len(stretches[0]) >= min(most - most // 4, most - 1)
        assert len(stretches[0]) < len(last)


def least(tokenizer: Any, chat: Chat, most: int) -> int:
    """Tokens that the last question keeps beside its whole answer: an eighth of the room and what asks for an answer,
    but a quarter at most, or all of a shorter one."""
    system = [each for each in chat.messages if each["role"] == "system"]
    alone = Chat((*system, *chat.messages[-2:]))
    encoded = encode_chats(tokenizer, [alone])[0]
    alone = alone if isinstance(encoded, EncodedChat) else chat
    prompt = tokenise(tokenizer, [render(tokenizer, alone.prompt(), ask=True)])[0]
    asking = sum(stop > len(render(tokenizer, alone.prompt(), ask=False)) for stop in prompt.stops)
    return max(min(len(prompt.ids), most // 4, most // 8 + asking), 1)


@pytest.mark.parametrize(
    ("sevens", "cut", "asked"), [(383, "prompt", 127), (443, "prompt", 67), (444, "response", 128)]
)
def test_an_answer_that_fits_stays_whole_beside_a_small_rest_of_its_question(sevens: int, cut: str, asked: int) -> None:
    tokenizer = settled("smollm", "chatml")
    found = encode_chats(tokenizer, [talk("why " * 600, "x" + "7" * sevens)], max_length=512)[0]
    assert isinstance(found, EncodedChat)
    assert (found.cut, runs(found.labels)) == (cut, [(asked, 512)])


def test_a_cut_drops_whole_turns_and_keeps_the_system_message() -> None:
    tokenizer = settled("smollm", "chatml")
    chat = Chat((said("system", "Be kind."), *talk(*(f"{word} words here" for word in "abcdefgh")).messages))
    length = len(encode_chat(tokenizer, chat)["input_ids"])
    found = encode_chats(tokenizer, [chat], max_length=length - 1)[0]
    assert isinstance(found, EncodedChat)
    assert learned_text(tokenizer, found) == "".join(f"{word} words here<|im_end|>" for word in "dfh")
    assert tokenizer.decode(found.input_ids).startswith(
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nc words here<|im_end|>"
    )
    assert (found.cut, found.answers, found.learned) == ("prompt", 4, 3)


def test_a_cut_into_the_last_question_keeps_how_the_chat_begins_and_loses_the_start_of_the_question() -> None:
    tokenizer = settled("llama", "chatml")
    chat = Chat(
        (said("system", "Be kind."), *talk("old", "older", "first words " * 20 + "last words", "Yes.").messages)
    )
    found = encode_chats(tokenizer, [chat], max_length=110)[0]
    assert isinstance(found, EncodedChat)
    text = tokenizer.decode(found.input_ids)
    assert text.startswith("<s><|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n")
    assert text.endswith("last words<|im_end|>\n<|im_start|>assistant\nYes.</s>")
    assert len(found.input_ids) == 110
    assert learned_text(tokenizer, found) == "Yes.</s>"


def test_an_answer_too_long_by_itself_loses_its_end_and_its_end_token() -> None:
    tokenizer = settled("llama", "chatml")
    found = encode_chats(tokenizer, [talk("Hello", "four " * 50)], max_length=60)[0]
    assert isinstance(found, EncodedChat)
    assert found.cut == "response"
    assert tokenizer.eos_token_id not in found.labels
    assert tokenizer.decode(found.input_ids).startswith("<s>")
    assert "<|im_start|>assistant\nfour four" in tokenizer.decode(found.input_ids)


def test_a_cut_to_less_than_two_tokens_is_refused() -> None:
    with pytest.raises(DataError, match="2 tokens or more"):
        encode_chats(settled("smollm", "chatml"), [talk("a", "b")], max_length=1)


@pytest.mark.parametrize("room", [-100, -1, 0, 1, 10])
def test_a_long_answer_is_learned_behind_the_whole_of_its_short_question(room: int) -> None:
    tokenizer = settled("llama", "chatml")
    chat = Chat((said("system", "Be kind."), *talk("What is it, and why?", "four " * 300).messages))
    prompt = encode_prompt(tokenizer, chat)
    whole = encode_chats(tokenizer, [chat])[0]
    assert isinstance(whole, EncodedChat)
    most = whole.length - len(prompt) + room
    found = encode_chats(tokenizer, [chat], max_length=most)[0]
    assert isinstance(found, EncodedChat)
    assert (found.input_ids, found.cut) == (whole.input_ids[:most], "response")
    assert runs(found.labels) == [(len(prompt), most)]
    everything = encode_chats(tokenizer, [chat], max_length=most, train_on="all")[0]
    assert isinstance(everything, EncodedChat)
    assert everything.labels == [UNLEARNED, *whole.input_ids[1:most]]


def test_a_question_keeps_a_quarter_of_the_room_beside_an_answer_that_is_cut_and_less_beside_one_that_is_not() -> None:
    tokenizer = settled("llama", "chatml")
    for words, cut in ((20, "prompt"), (200, "response")):
        chat = talk("question " * 100, "four " * words)
        whole = encode_chats(tokenizer, [chat])[0]
        assert isinstance(whole, EncodedChat)
        answer = len(whole.input_ids) - runs(whole.labels)[-1][0]
        most = 200 if cut == "response" else answer * 4 // 3 + 2
        found = encode_chats(tokenizer, [chat], max_length=most)[0]
        assert isinstance(found, EncodedChat)
        assert found.cut == cut
        assert runs(found.labels)[-1][0] >= most // 4
        if cut == "response":
            assert runs(found.labels) == [(50, 200)]
