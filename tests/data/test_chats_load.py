"""Every form of chats is recognised, named back, and read into the same messages; every row is accounted for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.data.conftest import chats_of, in_order, quarantined, said

from tunesmith.chats import Chat
from tunesmith.data.load_chats import read_chats
from tunesmith.data.load_for import load_for
from tunesmith.data.options import DataOptions
from tunesmith.errors import DataError
from tunesmith.types import Dataset

TOLD = [("user", "What is 2 + 2?"), ("assistant", "4")]
SYSTEM = ("system", "Be brief.")
ASKED = {"role": "user", "content": "What is 2 + 2?"}
ANSWERED = {"role": "assistant", "content": "4"}

# name of the form -> a row, and who says what in it
FORMS: dict[str, list[tuple[dict[str, Any], list[tuple[str, str]]]]] = {
    "OpenAI messages": [
        ({"messages": [ASKED, ANSWERED]}, TOLD),
        ({"messages": [{"role": "developer", "content": "Be brief."}, ASKED, ANSWERED]}, [SYSTEM, *TOLD]),
        ({"messages": [ASKED, {"role": "assistant", "content": [{"type": "text", "text": "4"}]}]}, TOLD),
        ({"messages": json.dumps([ASKED, ANSWERED])}, TOLD),
        ({"messages": {"role": ["user", "assistant"], "content": ["What is 2 + 2?", "4"]}}, TOLD),
        ({"messages": [ASKED, ANSWERED], "prompt": "What is 2 + 2?", "prompt_id": "x"}, TOLD),
    ],
    "ShareGPT": [
        ({"conversations": [{"from": "human", "value": "What is 2 + 2?"}, {"from": "gpt", "value": "4"}]}, TOLD),
        (
            {"conversations": [{"from": "human", "value": "What is 2 + 2?"}, {"from": "gpt", "value": "4"}],
             "system": "Be brief."},
            [SYSTEM, *TOLD],
        ),
    ],
    "Alpaca": [
        ({"instruction": "What is 2 + 2?", "input": "", "output": "4"}, TOLD),
        ({"instruction": "Add.", "input": "2 + 2", "output": "4"}, [("user", "Add.\n\n2 + 2"), ("assistant", "4")]),
        (
            {"instruction": "And 2 + 3?", "input": "", "output": "5", "history": [["What is 2 + 2?", "4"]]},
            [*TOLD, ("user", "And 2 + 3?"), ("assistant", "5")],
        ),
        ({"instruction": "What is 2 + 2?", "output": "4", "text": "### ...", "system": "Be brief."}, [SYSTEM, *TOLD]),
    ],
    "Dolly": [
        ({"instruction": "Add.", "context": "2 + 2", "response": "4", "category": "x"},
         [("user", "Add.\n\n2 + 2"), ("assistant", "4")]),
    ],
    "Self-Instruct": [
        ({"instruction": "Add.", "instances": [{"input": "2 + 2", "output": "4"}, {"input": "1", "output": "1"}]},
         [("user", "Add.\n\n2 + 2"), ("assistant", "4")]),
    ],
    "prompt and completion": [
        ({"prompt": "What is 2 + 2?", "completion": "4"}, TOLD),
        ({"prompt": [ASKED], "completion": [ANSWERED]}, TOLD),
    ],
    "question and answer": [({"question": "What is 2 + 2?", "answer": "4"}, TOLD)],
    "query and response": [({"query": "What is 2 + 2?", "response": "4", "system": "Be brief."}, [SYSTEM, *TOLD])],
    "input and output": [({"input": "What is 2 + 2?", "output": "4"}, TOLD)],
    "问题 and 回答": [({"问题": "What is 2 + 2?", "回答": "4"}, TOLD)],
}  # fmt: skip


def as_lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.mark.parametrize(("form", "row", "told"), [(f, row, told) for f, found in FORMS.items() for row, told in found])
def test_a_form_is_recognised_named_and_read(
    form: str,
    row: dict[str, Any],
    told: list[tuple[str, str]],
    written: Callable[..., Path],
    heard: Callable[..., Dataset],
) -> None:
    dataset = heard(written("a.jsonl", as_lines(row)))
    assert said(dataset) == [told]
    assert dataset.summary.files[0]["form"] == form
    assert any(f"read as {form}" in note for note in dataset.summary.notes)


def test_tool_calls_of_both_spellings_become_one(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    tool = {"name": "add", "parameters": {"type": "object"}}
    call = {"name": "add", "arguments": {"z": 2, "a": 2}}
    openai = {
        "messages": [
            ASKED,
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"z": 2, "a": 2}'}}]},
            {"role": "tool", "content": "4", "tool_call_id": "1", "name": "add"},
            ANSWERED,
        ],
        "tools": [{"type": "function", "function": tool}],
    }  # fmt: skip
    shared = {
        "conversations": [
            {"from": "human", "value": "What is 2 + 2?"},
            {"from": "function_call", "value": json.dumps(call)},
            {"from": "observation", "value": "4"},
            {"from": "gpt", "value": "4"},
        ],
        "tools": json.dumps([tool]),
    }
    found = chats_of(heard(written("a.jsonl", as_lines(openai)))) + chats_of(
        heard(written("b.jsonl", as_lines(shared)))
    )
    for chat in found:
        assert chat.tools == ({"type": "function", "function": tool},)
        (made,) = chat.messages[1]["tool_calls"]
        assert made["function"] == call
        assert list(made["function"]["arguments"]) == ["z", "a"]  # as they are written: this order is learned
        assert [message["role"] for message in chat.messages] == ["user", "assistant", "tool", "assistant"]
    assert found[0].messages[2] == {"role": "tool", "content": "4", "name": "add", "tool_call_id": "1"}


def test_any_columns_can_be_named(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    path = written("a.csv", "frage,antwort,rolle,id\nWhat is 2 + 2?,4,Be brief.,1\n")
    dataset = heard(path, columns={"prompt": "frage", "response": "antwort", "system": "rolle"})
    assert said(dataset) == [[SYSTEM, *TOLD]]
    assert any("Not used: id." in note for note in dataset.summary.notes)
    assert dataset.summary.files[0]["columns"] == {"prompt": "frage", "response": "antwort", "system": "rolle"}


def test_a_table_of_no_known_form_is_a_question_to_the_person(
    written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    with pytest.raises(DataError) as error:
        heard(written("a.csv", "frage,antwort\nWhat is 2 + 2?,4\n"))
    for word in ('"frage" (What is 2 + 2?)', "Alpaca", "data.columns.prompt=frage", "data.template="):
        assert word in str(error.value)


def test_two_columns_that_could_be_the_answer_are_a_question(
    written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    with pytest.raises(DataError, match="more than one column could be the response: response, answer"):
        heard(written("a.jsonl", as_lines({"question": "q", "answer": "a", "response": "b"})))


def test_of_two_known_columns_the_one_that_rows_fill_counts(
    written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    rows = [{"question": f"q{n}", "answer": "a", "response": ""} for n in range(4)]
    assert [chat[1][1] for chat in said(heard(written("a.jsonl", as_lines(*rows))))] == ["a"] * 4


def test_the_recipes_template_words_the_chat(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    path = written("a.jsonl", as_lines({"body": "Head\n\nFirst.\nLast.\n", "year": 2004, "of": None}))
    words = {"system": "{{x}}", "user": "Headline of {year}:\n{body:rest}", "assistant": "{body:first_line}"}
    dataset = heard(path, template=words)
    assert said(dataset) == [[("system", "{x}"), ("user", "Headline of 2004:\nFirst.\nLast."), ("assistant", "Head")]]
    with pytest.raises(DataError, match=r'data.template.user is "boddy".*Did you mean "body"'):
        heard(path, template={"user": "{boddy}", "assistant": "x"})
    with pytest.raises(DataError, match='no value for "of"'):
        heard(path, template={"user": "{of}", "assistant": "x"})
    with pytest.raises(DataError, match="words no answer"):
        heard(path, template={"user": "{body}"})


def test_a_text_file_is_a_text_to_go_on_with(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    dataset = heard(written("story.txt", "\nOnce upon a time,\r\nthere was a king.\r\n\r\n"))
    assert chats_of(dataset) == [Chat(text="Once upon a time,\nthere was a king.")]
    assert in_order(dataset)[0].line == 2
    assert dataset.summary.files[0]["form"] == "raw text"


def test_a_lone_text_column_is_a_text_to_go_on_with(
    written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    texts = [f"Text number {n}." for n in range(20)]
    dataset = heard(written("a.jsonl", as_lines(*({"text": text, "url": "u"} for text in texts))))
    assert [chat.text for chat in chats_of(dataset)] == texts
    assert [chat.text for chat in chats_of(heard(written("b.csv", "novel\nA b.\n")))] == ["A b."]


def test_parquet_and_saved_data_sets_hold_chats_too(tmp_path: Path, heard: Callable[..., Dataset]) -> None:
    import datasets

    called = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    rows = [[ASKED, ANSWERED], [ASKED, called, {"role": "tool", "content": "4"}, ANSWERED]]
    table = datasets.Dataset.from_list([{"messages": row} for row in rows])
    table.save_to_disk(str(tmp_path / "saved"))
    table.to_parquet(str(tmp_path / "a.parquet"))
    for path in (tmp_path / "saved", tmp_path / "a.parquet"):
        plain, calling = chats_of(heard(path))
        assert plain.messages == (ASKED, ANSWERED)  # the keys that Arrow fills with nulls are gone
        assert calling.messages[1]["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": {}}}]


def test_rows_that_ask_the_same_stay_in_one_part(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    rows = [{"question": f"  Question {n % 20}?".upper() if n % 3 else f"question {n % 20}?", "answer": str(n)}
            for n in range(100)]  # fmt: skip
    dataset = heard(written("a.jsonl", as_lines(*rows)), split={"validation": 0.2, "test": 0.2})
    parts = [{Chat.from_json(e.inputs["chat"]).messages[0]["content"].strip().casefold() for e in part}
             for part in (dataset.train, dataset.validation, dataset.test)]  # fmt: skip
    assert [len(part) for part in parts] == [12, 4, 4]
    assert any("80 row(s) repeat an earlier question (0 with the same answer too)" in n for n in dataset.summary.notes)


def test_a_question_of_the_test_file_that_is_trained_on_is_told(
    written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    written("d/train.jsonl", as_lines(*({"question": f"q{n}", "answer": "a"} for n in range(10))))
    test = written("d/test.jsonl", as_lines({"question": "Q3", "answer": "b"}, {"question": "q30", "answer": "b"}))
    notes = heard(test.parent).summary.notes
    assert notes[0].startswith("LEAK: 1 of 2 test rows have a question that is in train too (0 with the same answer")


def test_groups_limit_and_the_same_split_every_time(
    written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    rows = [{"question": f"q{n}", "answer": "a", "topic": f"t{n % 10}"} for n in range(100)]
    path = written("a.jsonl", as_lines(*rows))
    dataset = heard(path, columns={"group": "topic"})
    topics = [{int(chat.messages[0]["content"][1:]) % 10 for chat in map(_chat, part)}
              for part in (dataset.train, dataset.validation, dataset.test)]  # fmt: skip
    assert sum(map(len, topics)) == 10
    assert not any("Not used" in note for note in dataset.summary.notes)
    few = heard(path, limit=20)
    assert few.summary.split_sizes == {"train": 16, "validation": 2, "test": 2}
    assert [e.line for e in few.train] == [e.line for e in heard(path, limit=20).train]


def _chat(example: Any) -> Chat:
    return Chat.from_json(example.inputs["chat"])


def test_names_in_braces_are_told_and_can_be_filled_in(
    written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    path = written("a.jsonl", as_lines({"question": "Who?", "answer": "I am {{ name }} by {{author}}. ${{ code }}"}))
    (note,) = (note for note in heard(path).summary.notes if note.startswith("UNFILLED"))
    assert "{{name}} (1 rows), {{author}} (1 rows)" in note
    assert "data.fill.name=" in note
    dataset = heard(path, fill={"name": "Ada", "author": "us", "colour": "red"})
    assert said(dataset)[0][1][1] == "I am Ada by us. ${{ code }}"
    (note,) = (note for note in dataset.summary.notes if note.startswith("UNFILLED"))
    assert "colour" in note


def test_marks_of_chat_templates_are_kept_and_told(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    rows = [{"question": "a", "answer": "b"}, {"question": "x <|im_end|> y", "answer": "</s>"}]
    dataset = heard(written("a.jsonl", as_lines(*rows)))
    (note,) = (note for note in dataset.summary.notes if note.startswith("MARKS"))
    assert "a.jsonl:2" in note
    assert "<|im_end|> (1 rows)" in note
    assert said(dataset)[1] == [("user", "x <|im_end|> y"), ("assistant", "</s>")]


def test_what_stands_behind_the_last_answer_is_cut_and_counted(
    written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    dataset = heard(
        written("a.jsonl", as_lines({"messages": [ASKED, ANSWERED, ASKED]}, {"messages": [ASKED, ANSWERED]}))
    )
    assert said(dataset) == [TOLD, TOLD]
    assert any(note.startswith("1 chat(s) do not end with an answer") for note in dataset.summary.notes)


def test_preferences_are_not_learned_as_chats_by_accident(
    written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    pairs = written("a.jsonl", as_lines({"prompt": "q", "chosen": "a", "rejected": "b"}))
    with pytest.raises(DataError, match=r"task preference.*data.columns.response=chosen"):
        heard(pairs)
    assert said(heard(pairs, columns={"response": "chosen"})) == [[("user", "q"), ("assistant", "a")]]
    liked = written("b.jsonl", as_lines({"messages": [ASKED, ANSWERED], "label": False}))
    with pytest.raises(DataError, match="task preference"):
        heard(liked)
    assert said(heard(liked, columns={"messages": "messages"})) == [TOLD]


@pytest.mark.parametrize(
    "setting",
    [
        {"columns": {"label": "x"}},
        {"columns": {"chosen": "x"}},
        {"labels": ["a", "b"]},
        {"multi_label": False},
        {"label_separator": "|"},
        {"pictures": "."},
        {"template": {"user": "q", "chosen": "a", "rejected": "b"}},
    ],
)
def test_a_setting_that_means_nothing_for_chats_is_refused(
    setting: dict[str, Any], written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    with pytest.raises(DataError, match="means nothing"):
        heard(written("a.jsonl", as_lines({"question": "q", "answer": "a"})), **setting)


def test_settings_of_chats_are_refused_for_texts(written: Callable[..., Path], opened: Callable[..., Dataset]) -> None:
    path = written("a.csv", "text,label\na,x\nb,y\n")
    for setting in ({"columns": {"messages": "text"}}, {"fill": {"a": "b"}}, {"template": {"user": "{text}"}}):
        with pytest.raises(DataError, match="takes one text: drop it"):
            opened(path, **setting)


def test_texts_that_are_numbers_or_empty_are_quarantined_with_their_line(
    written: Callable[..., Path], heard: Callable[..., Dataset], tmp_path: Path
) -> None:
    good = [{"question": f"q{n}", "answer": "a"} for n in range(3)]
    bad = [
        {"question": "q", "answer": 4},
        {"question": "q", "answer": " "},
        {"question": "q"},
        {"question": ["q"], "answer": "a"},
    ]
    dataset = heard(written("a.jsonl", as_lines(*good, *bad)), max_bad_share=0.9)
    assert dataset.summary.used == 3
    assert [(entry["line"], entry["reason"]) for entry in quarantined(tmp_path / "run")] == [
        (4, '"answer" is a number, not text'),
        (5, '"answer" is empty'),
        (6, 'no value for "answer"'),
        (7, '"question" is a list, not text'),
    ]
    assert quarantined(tmp_path / "run")[0]["raw"] == bad[0]


def test_half_a_surrogate_pair_is_quarantined(
    written: Callable[..., Path], heard: Callable[..., Dataset], tmp_path: Path
) -> None:
    lines = as_lines({"question": "q", "answer": "a"}) + '{"question": "q \\ud83d", "answer": "a"}\n'
    heard(written("a.jsonl", lines), max_bad_share=0.5)
    assert "half of a surrogate pair" in quarantined(tmp_path / "run")[0]["reason"]


def test_questions_can_be_read_without_answers(written: Callable[..., Path], tmp_path: Path) -> None:
    def read(path: Path, **options: Any) -> list[list[tuple[str, str]]]:
        rows = read_chats(str(path), DataOptions(path=str(path), **options), tmp_path / "new", "chats")
        return [[(m["role"], m["content"]) for m in _chat(row).messages] for row in rows]

    asked = [("user", "What is 2 + 2?")]
    lines = as_lines({"question": "What is 2 + 2?"}, {"question": "What is 2 + 2?", "answer": "4"})
    assert read(written("a.jsonl", lines)) == [asked, TOLD]
    assert read(written("a.csv", "question\nWhat is 2 + 2?\n"), columns={"response": "answer"}) == [asked]
    assert read(written("b.jsonl", as_lines({"messages": [ASKED]}))) == [asked]
    assert read(written("c.jsonl", as_lines({"prompt": "What is 2 + 2?", "chosen": "4", "rejected": "5"}))) == [asked]
    words = {"user": "{a}", "assistant": "{b}"}
    lines = as_lines({"a": "What is 2 + 2?", "b": "4"}, {"a": "What is 2 + 2?", "b": ""}, {"a": "What is 2 + 2?"})
    assert read(written("d.jsonl", lines), template=words) == [TOLD, asked, asked]
    assert read(written("e.jsonl", as_lines({"a": "What is 2 + 2?"})), template=words) == [asked]


def test_load_for_takes_the_road_of_chats(written: Callable[..., Path], tmp_path: Path) -> None:
    path = written("a.jsonl", as_lines(*({"question": f"q{n}", "answer": "a"} for n in range(20))))
    dataset = load_for("chats", DataOptions(path=str(path)), tmp_path / "run", inputs=("chat",))
    assert dataset.summary.split_sizes == {"train": 16, "validation": 2, "test": 2}


def test_nothing_to_train_on_is_an_error(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    written("d/train.jsonl", as_lines({"question": "q", "answer": ""}))
    path = written("d/test.jsonl", as_lines({"question": "q", "answer": "a"}))
    with pytest.raises(DataError, match="no row to train on"):
        heard(path.parent, max_bad_share=0.9)
