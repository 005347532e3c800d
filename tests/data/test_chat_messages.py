"""Keys of messages beside role and content, marks of what is learned, and rows that only look out of order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.conftest import chats_of, in_order, quarantined, said

from tunesmith.data import chat_messages, strict_json
from tunesmith.data.chat_messages import keys_not_read, without_nulls
from tunesmith.types import Dataset

ASKED, ANSWERED = {"role": "user", "content": "Well?"}, {"role": "assistant", "content": "Yes."}
Heard = Callable[..., Dataset]


def lines(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def told(dataset: Dataset, words: str) -> bool:
    return any(words in note for note in dataset.summary.notes)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_beside_an_answer_are_read(key: str, tmp_path: Path, heard: Heard) -> None:
    dataset = heard(lines(tmp_path, {"messages": [ASKED, {**ANSWERED, key: "hm"}]}))
    assert chats_of(dataset)[0].messages[-1] == {**ANSWERED, "reasoning_content": "hm"}
    assert not told(dataset, "not used")


@pytest.mark.parametrize(
    ("parts", "thoughts"),
    [
        ([{"type": "thinking", "thinking": "h"}, {"type": "text", "text": "m"}], "hm"),
        ([{"type": "reasoning.encrypted", "data": "x"}], None),
        ([{"type": "thinking", "thinking": "hm"}, {"type": "redacted_thinking", "data": "x"}], None),
    ],
)
def test_thoughts_in_parts_are_read_where_all_are_texts(
    parts: list[Any], thoughts: str | None, tmp_path: Path, heard: Heard
) -> None:
    dataset = heard(lines(tmp_path, {"messages": [ASKED, {**ANSWERED, "reasoning": parts}]}))
    assert chats_of(dataset)[0].messages[-1].get("reasoning_content") == thoughts
    assert told(dataset, "keys that are not used: reasoning") is (thoughts is None)


def test_messages_in_json_text_are_parsed_once(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    monkeypatch.setattr(chat_messages, "parse", lambda cell: parsed.append(cell) or strict_json.parse(cell))
    rows = [json.dumps([{**ASKED, "content": word, "mood": "x"}, ANSWERED]) for word in ("once?", "only once?")]
    path = tmp_path / "rows.csv"
    path.write_text("messages\n" + "".join('"{}"\n'.format(row.replace('"', '""')) for row in rows), encoding="utf-8")
    assert told(heard(path), "Messages have keys that are not used: mood (2 rows).")
    assert parsed == rows


def test_keys_of_messages_that_are_not_read_are_told(tmp_path: Path, heard: Heard) -> None:
    row = {"messages": [{**ASKED, "weight": 0, "id": None}, {**ANSWERED, "score": 3, "weight": 1, "refusal": None}]}
    dataset = heard(lines(tmp_path, row, {"messages": [{**ASKED, "content": "And?"}, ANSWERED]}))
    assert told(dataset, "Messages have keys that are not used: score (1 rows).")
    assert keys_not_read(json.dumps(row["messages"])) == {"score"}
    assert keys_not_read({"role": ["user"], "content": ["a"], "mood": ["b"]}) == {"mood"}
    assert keys_not_read({**ANSWERED, "weight": 0.5, "thinking": True}) == {"weight", "thinking"}
    assert keys_not_read({**ASKED, "train": True, "thinking": "hm"}) == {"train", "thinking"}
    assert keys_not_read({**ANSWERED, "train": 0}) == keys_not_read({**ASKED, "train": 0}) == set()
    assert keys_not_read("[not messages") == keys_not_read(None) == keys_not_read([{"name": "a"}]) == set()


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"train": 0}])
def test_an_answer_that_is_marked_as_not_to_be_learned_keeps_its_mark(
    mark: dict[str, Any], tmp_path: Path, heard: Heard
) -> None:
    bad, more = {"role": "assistant", "content": "bad", **mark}, {"role": "user", "content": "more"}
    rows = [
        {"messages": [ASKED, bad, more, {**ANSWERED, "weight": 1}]},
        {"messages": [more, ANSWERED, ASKED, bad]},
        {"messages": [more, bad]},
    ]
    dataset = heard(lines(tmp_path, *rows), max_bad_share=1.0)
    first = chats_of(dataset)[0]
    assert [message.get("learned") for message in first.messages] == [None, False, None, None]
    assert said(dataset)[1:] == [
        [("user", "more"), ("assistant", "Yes."), ("user", "Well?"), ("assistant", "bad")],
        [("user", "more"), ("assistant", "bad")],
    ]
    assert [chat.answer() for chat in chats_of(dataset)] == ["Yes.", "Yes.", "bad"]
    assert told(dataset, "3 answer(s) are read, not learned")
    assert not told(dataset, "do not end with an answer")
    assert quarantined(tmp_path / "run") == []


def test_a_called_function_can_be_marked_too(tmp_path: Path, heard: Heard) -> None:
    call = {"from": "function_call", "value": '{"name": "f", "arguments": {}}', "weight": 0, "reasoning_content": "hm"}
    turns = [
        {"from": "human", "value": "q"},
        call,
        {"from": "observation", "value": "o"},
        {"from": "gpt", "value": "a"},
    ]
    found = chats_of(heard(lines(tmp_path, {"conversations": turns})))[0].messages[1]
    assert (found["learned"], found["reasoning_content"]) == (False, "hm")


def test_answers_inside_a_prompt_are_read_and_those_of_the_completion_learned(tmp_path: Path, heard: Heard) -> None:
    earlier = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    dataset = heard(lines(tmp_path, {"prompt": [*earlier, ASKED], "completion": [ANSWERED, ASKED, ANSWERED]}))
    assert [message.get("learned") for message in chats_of(dataset)[0].messages] == [None, False, *[None] * 4]
    assert told(dataset, 'answers inside "prompt" are read, not learned (unless task.train_on is all)')
    plain = heard(lines(tmp_path, {"prompt": "Well?", "completion": "Yes."}))
    assert not told(plain, "not learned")


def test_preferences_carry_no_marks_and_refuse_thoughts_they_would_lose(tmp_path: Path, heard: Heard) -> None:
    other = {**ANSWERED, "content": "No."}
    asked = [{"role": "user", "content": "Hi."}, {**ANSWERED, "weight": 0}, ASKED]
    rows = [
        {"prompt": asked, "chosen": [ANSWERED], "rejected": [other]},
        {"prompt": [ASKED], "chosen": [{**ANSWERED, "reasoning_content": "hm"}], "rejected": [other]},
    ]
    dataset = heard(lines(tmp_path, *rows), kind="preferences", max_bad_share=1.0)
    assert all("learned" not in message for message in chats_of(dataset)[0].messages)
    assert "chosen has thoughts beside its words" in quarantined(tmp_path / "run")[0]["reason"]


def test_the_judged_answer_is_the_last_whatever_its_weight(tmp_path: Path, heard: Heard) -> None:
    turns = [{"role": "user", "content": "Hi."}, ANSWERED, ASKED, {"role": "assistant", "content": "bad", "weight": 0}]
    dataset = heard(lines(tmp_path, {"messages": turns, "label": False}), kind="preferences")
    assert in_order(dataset)[0].inputs["answer"] == "bad"


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"instruction": "Add.", "input": " \n", "output": "4"}, "Add."),
        ({"instruction": "", "input": "2 + 2", "output": "4"}, "2 + 2"),
        ({"instruction": None, "input": "2 + 2", "output": "4"}, "2 + 2"),
    ],
)
def test_of_instruction_and_input_the_filled_ones_are_asked(
    row: dict[str, Any], asked: str, tmp_path: Path, heard: Heard
) -> None:
    assert said(heard(lines(tmp_path, row)))[0][0] == ("user", asked)


def test_an_instruction_and_input_without_words_are_left_out(tmp_path: Path, heard: Heard) -> None:
    rows = [{"instruction": "", "input": " ", "output": "4"}, {"instruction": "Add.", "input": "", "output": "4"}]
    heard(lines(tmp_path, *rows, {"input": "2 + 2", "output": "4"}), max_bad_share=1.0)
    reasons = [row["reason"] for row in quarantined(tmp_path / "run")]
    assert reasons == ['"instruction" is empty', 'no value for "instruction"']


def test_a_history_in_a_csv_file_is_its_json_text(tmp_path: Path, heard: Heard) -> None:
    path = tmp_path / "rows.csv"
    history = '"[[""Hi."", ""Hello.""]]"'
    path.write_text(f"instruction,output,history\na,b,{history}\nc,d,[]\ne,f,\ng,h,[x\n", encoding="utf-8")
    dataset = heard(path, max_bad_share=1.0)
    found = said(dataset)
    assert found[0] == [("user", "Hi."), ("assistant", "Hello."), ("user", "a"), ("assistant", "b")]
    assert [len(turns) for turns in found[1:]] == [2, 2]
    assert '"history" is not valid JSON' in quarantined(tmp_path / "run")[0]["reason"]


def test_a_tool_may_answer_a_call_in_plain_words(tmp_path: Path, heard: Heard) -> None:
    turns = [("human", "Rain?"), ("gpt", '<tool_call>{"name": "w"}</tool_call>'), ("tool", "no"), ("gpt", "No.")]
    row = {"conversations": [{"from": role, "value": text} for role, text in turns]}
    assert [role for role, _ in said(heard(lines(tmp_path, row)))[0]] == ["user", "assistant", "tool", "assistant"]


def test_keys_that_only_the_columns_types_bring_are_not_learned(tmp_path: Path, heard: Heard) -> None:
    def row(arguments: dict[str, Any], word: str) -> dict[str, Any]:
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
        asked = {"role": "user", "content": word}
        answers = [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "s"},
            ANSWERED,
        ]
        properties = {key: {"type": "string"} for key in arguments}
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"properties": properties}}}]
        return {"messages": [asked, *answers], "tools": tools}

    rows = [row({"n": 3}, "a"), row({"city": "x"}, "b")]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    for chat, arguments in zip(chats_of(heard(path)), ({"n": 3}, {"city": "x"}), strict=True):
        assert chat.messages[1]["tool_calls"][0]["function"]["arguments"] == arguments
        assert list(chat.tools[0]["function"]["parameters"]["properties"]) == list(arguments)
    written = chats_of(heard(lines(tmp_path, row({"n": None}, "a"))))[0]
    assert written.messages[1]["tool_calls"][0]["function"]["arguments"] == {"n": None}
    assert without_nulls({"a": [None, {"b": None, "c": 1}], "d": None}) == {"a": [None, {"c": 1}]}
