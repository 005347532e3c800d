"""Figures on chats: forms, roles, turns, lengths in characters and in tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.data.test_chats_load import as_lines

from tunesmith.data.inspect import inspect
from tunesmith.types import Dataset


def _words(texts: Sequence[str], pairs: Sequence[str] | None) -> list[int]:
    assert pairs is None
    return [len(text.split()) for text in texts]


def test_chats_show_forms_roles_turns_and_lengths(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    turns = [{"role": "user", "content": "one two"}, {"role": "assistant", "content": "three"}]
    rows = [{"messages": turns * (1 + n % 2)} for n in range(20)] + [{"messages": turns}, {"messages": [turns[0]]}]
    dataset = heard(written("a.jsonl", as_lines(*rows)), max_bad_share=0.1)
    found = inspect(dataset, _words, 5)
    assert found.chats is not None
    assert found.chats.messages == {"user": 31, "assistant": 31}
    assert found.chats.turns == {"least": 1, "p50": 1, "p90": 2, "p99": 2, "most": 2}
    assert found.chats.answered == {"least": 5, "p50": 5, "p90": 5, "p99": 5, "most": 5}
    assert (found.lengths or {})["longest"] == 6
    assert found.cut == 10  # two turns are six words
    text = "\n".join(found.lines())
    for words in ("Forms: OpenAI messages", "10 rows (47.6%)", "task.overlong", "19 rows repeat an earlier question"):
        assert words in text
    assert json.loads(json.dumps(found.as_dict()))["chats"]["texts"] == 0


def test_texts_to_go_on_with_show_their_length(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    dataset = heard(written("a.jsonl", as_lines(*({"text": "x" * (n + 1)} for n in range(10)))))
    lines = inspect(dataset, None, None).lines()
    assert "Texts to go on with: 10" in lines
    assert "Characters a text: least 1, p50 5, p90 9, p99 10, most 10" in lines
    assert any(line.startswith("Duplicates: 0 rows repeat an earlier text") for line in lines)
