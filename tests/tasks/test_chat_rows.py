"""What became of the answers stands in the encoded rows and is told; a window has something to learn."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.chat_examples import said, settled, talk
from tests.chat_tokenizers import tokenizer_named
from tests.models.test_chat_thoughts import QWEN3

from tunesmith.chats import UNLEARNED, Chat
from tunesmith.data.encoded import encode_to_disk
from tunesmith.models import chat_tokens
from tunesmith.models.chat_templates import settle_template
from tunesmith.models.chat_tokens import EncodedChat
from tunesmith.run.preflight import _cut
from tunesmith.tasks.causal_lm import CausalLm
from tunesmith.types import Example


def examples(*chats: Chat) -> list[Example]:
    return [Example({"chat": chat.to_json()}) for chat in chats]


def told(tokenizer: Any, task: CausalLm, *chats: Chat) -> list[str]:
    part = SimpleNamespace(encoded=task.encode(examples(*chats), tokenizer))
    return [words for name, ok, words in task.examine(part, tokenizer) if name == "answers" and ok]


def test_answers_that_are_read_and_not_learned_are_told() -> None:
    tokenizer = tokenizer_named("smollm", QWEN3)
    settle_template(tokenizer, "auto")
    call = {"type": "function", "function": {"name": "weather", "arguments": {}}}
    called = (
        said("user", "Rain?"),
        said("assistant", "", tool_calls=[call]),
        said("tool", "no"),
        said("assistant", "No."),
    )
    (words,) = told(tokenizer, CausalLm(), Chat(called), talk("One?", "1.", "Two?", "2."), talk("Three?", "3."))
    assert words.startswith("2 of 5 answers (1 of them calls of tools) are read, not learned")
    assert told(tokenizer, CausalLm(train_on="all"), Chat(called)) == []


def test_thoughts_that_are_left_out_and_answers_that_lose_their_end_are_told() -> None:
    tokenizer = settled("smollm", "chatml")
    thought = Chat((said("user", "Well?"), said("assistant", "Yes.", reasoning_content="hm")))
    long = talk("Well?", "words " * 200)
    thoughts, cut = told(tokenizer, CausalLm(max_length=100), thought, long)
    assert thoughts.startswith("the thoughts (reasoning_content) of 1 of 2 answers are not learned")
    assert cut == "1 of 2 rows lose the end of their last answer to task.max_length"


def test_answers_of_a_chat_that_was_split_are_counted_once() -> None:
    tokenizer = tokenizer_named("smollm", QWEN3)
    settle_template(tokenizer, "auto")
    chat = talk("One?", "1.", "Two?", "2 " * 40).to_json()
    windows = [Example({"chat": chat, "part": f"{n}/2"}) for n in (1, 2)]
    rows = CausalLm(max_length=64, overlong="split").encode(windows, tokenizer)
    assert [list(row["answers"]) for row in rows] == [[2, 1, 0, 0, 0], [0] * 5]


def test_a_window_whose_only_label_is_its_first_token_is_no_example(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = list(range(24))
    labels = [ids[n] if n in (3, 8, 17) else UNLEARNED for n in ids]
    monkeypatch.setattr(chat_tokens, "encode_chats", lambda *_, **__: [EncodedChat(ids, labels, 24)])
    assert CausalLm(max_length=8, overlong="split").sift(examples(talk("a", "b")), None) == [(0, 2)]


def test_what_became_of_answers_stands_in_the_first_window_that_is_kept() -> None:
    tokenizer, task = settled("smollm", "chatml"), CausalLm(max_length=64, overlong="split")
    (example,) = examples(Chat((said("user", "why " * 300), said("assistant", "so " * 100, reasoning_content="hm"))))
    (kept,) = task.sift([example], tokenizer)
    assert isinstance(kept, tuple)
    assert kept[0] > 0
    windows = [Example({**example.inputs, "part": f"{n + 1}/{kept[-1] + 1}"}) for n in kept]
    facts = [list(row["answers"]) for row in task.encode(windows, tokenizer)]
    assert facts == [[1, 0, 0, 1, 0], *[[0] * 5] * (len(kept) - 1)]


def test_what_is_told_of_rows_on_disk_is_what_is_told_of_rows_in_memory(tmp_path: Path) -> None:
    tokenizer, task = settled("smollm", "chatml"), CausalLm(max_length=100)
    rows = examples(talk("Well?", "words " * 200), talk("Why?", "So."))
    part = SimpleNamespace(
        encoded=encode_to_disk(rows, lambda some: task.encode(some, tokenizer), tmp_path / "rows")  # type: ignore[arg-type]
    )
    assert [words for name, _, words in task.examine(part, tokenizer) if name == "answers"] == told(
        tokenizer, task, talk("Well?", "words " * 200), talk("Why?", "So.")
    )


@pytest.mark.parametrize("train_on", ["responses", "all"])
def test_a_chat_whose_every_answer_is_marked_is_left_out_unless_all_is_learned(train_on: Any) -> None:
    marked = Chat((said("user", "One?"), said("assistant", "bad", learned=False)))
    (found,) = CausalLm(train_on=train_on).sift(examples(marked), settled("smollm", "chatml"))
    assert found == (0,) if train_on == "all" else "all are only to be read" in str(found)


def test_the_hint_of_cut_texts_names_the_length_that_keeps_nearly_all_whole() -> None:
    lengths = np.array([600] * 90 + [1_500] * 9 + [9_000])
    for longest, told in ((None, "1500 would keep 99%"), (1_024, "1024 would keep 90%")):
        recipe = SimpleNamespace(task=CausalLm(max_length=512))
        ready: Any = SimpleNamespace(recipe=recipe, lengths=lengths, longest_input=longest)
        assert f"longest seen 9000; task.max_length={told} whole" in _cut(ready).seen
