"""Preferences of every form: two answers to a question, or one that is liked or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.data.conftest import in_order, quarantined
from tests.data.test_chats_load import as_lines

from tunesmith.chats import Chat
from tunesmith.data.inspect import inspect
from tunesmith.errors import DataError
from tunesmith.types import Dataset, Example

ASKED, SYSTEM = {"role": "user", "content": "Hi?"}, {"role": "system", "content": "Be kind."}
GOOD, BAD = {"role": "assistant", "content": "Hello!"}, {"role": "assistant", "content": "What?"}
EARLIER = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]

PAIRS: list[tuple[dict[str, Any], list[dict[str, str]]]] = [
    ({"prompt": "Hi?", "chosen": "Hello!", "rejected": "What?"}, [ASKED]),
    ({"system": "Be kind.", "question": "Hi?", "chosen": "Hello!", "rejected": "What?"}, [SYSTEM, ASKED]),
    ({"instruction": "Hi?", "input": "", "chosen": "Hello!", "rejected": "What?"}, [ASKED]),
    ({"prompt": [SYSTEM, ASKED], "chosen": [GOOD], "rejected": [BAD]}, [SYSTEM, ASKED]),
    ({"prompt": "Hi?", "chosen": json.dumps([GOOD]), "rejected": json.dumps([BAD])}, [ASKED]),
    ({"prompt": json.dumps([SYSTEM, ASKED]), "chosen": "Hello!", "rejected": "What?"}, [SYSTEM, ASKED]),
    ({"chosen": [*EARLIER, ASKED, GOOD], "rejected": [*EARLIER, ASKED, BAD]}, [*EARLIER, ASKED]),
    ({"prompt": "Hi?", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD], "messages": [ASKED, GOOD]}, [ASKED]),
    (
        {
            "conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Hi?"}],
            "chosen": {"from": "gpt", "value": "Hello!"},
            "rejected": {"from": "gpt", "value": "What?"},
        },
        [SYSTEM, ASKED],
    ),
]
TEXTS = '[{"from": "Berlin", "to": "Rome"}]', '[{"role": "admin", "content": "x"}]'
"""Answers that are JSON, and no messages."""
SINGLE: list[dict[str, Any]] = [
    {"messages": [ASKED, GOOD], "label": True},
    {"prompt": "Hi?", "completion": "Hello!", "label": True},
    {"prompt": "Hi?", "answer": "Hello!", "liked": 1},
    {"prompt": "Hi?", "answer": "Hello!", "liked": "True"},
    {"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello!"}], "kto_tag": "yes"},
]


def one(dataset: Dataset) -> Example:
    (example,) = in_order(dataset)
    return example  # type: ignore[no-any-return]


@pytest.mark.parametrize(("row", "asked"), PAIRS)
def test_pairs_of_every_form(
    row: dict[str, Any], asked: list[dict[str, str]], written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    dataset = heard(written("a.jsonl", as_lines(row)), kind="preferences")
    inputs = one(dataset).inputs
    assert set(inputs) == {"chat", "chosen", "rejected"}
    assert list(Chat.from_json(inputs["chat"]).messages) == asked
    assert (inputs["chosen"], inputs["rejected"]) == ("Hello!", "What?")
    assert dataset.summary.files[0]["form"] == "chosen and rejected"


@pytest.mark.parametrize("row", SINGLE)
def test_single_answers_of_every_form(
    row: dict[str, Any], written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    dataset = heard(written("a.jsonl", as_lines(row)), kind="preferences")
    inputs = one(dataset).inputs
    assert {**inputs, "chat": json.loads(inputs["chat"])} == {
        "chat": {"messages": [ASKED]},
        "answer": "Hello!",
        "liked": "true",
    }


def test_columns_and_templates_say_which_is_which(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    path = written("a.csv", "frage,gut,schlecht\nHi?,Hello!,What?\n")
    named = heard(path, kind="preferences", columns={"prompt": "frage", "chosen": "gut", "rejected": "schlecht"})
    words = {"user": "{frage}", "chosen": "{gut}", "rejected": "{schlecht}"}
    worded = heard(path, kind="preferences", template=words)
    for dataset in (named, worded):
        inputs = one(dataset).inputs
        assert (inputs["chosen"], inputs["rejected"]) == ("Hello!", "What?")
        assert Chat.from_json(inputs["chat"]).messages == (ASKED,)
    path = written("b.csv", "frage,antwort,daumen\nHi?,What?,0\n")
    words = {"user": "{frage}", "assistant": "{antwort}"}
    inputs = one(heard(path, kind="preferences", template=words, columns={"liked": "daumen"})).inputs
    assert (inputs["answer"], inputs["liked"]) == ("What?", "false")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "p", "chosen": "same", "rejected": " same "}, "are the same"),
        ({"prompt": "p", "chosen": "a"}, 'no value for "rejected"'),
        ({"prompt": "p", "chosen": "a", "rejected": ""}, '"rejected" is empty'),
        ({"prompt": "p", "chosen": ["a"], "rejected": "b"}, "message 1 is text, not an object"),
        ({"prompt": "p", "chosen": [ASKED], "rejected": [BAD]}, "chosen is from the user"),
        ({"prompt": "p", "chosen": [ASKED, GOOD], "rejected": [BAD]}, "differ before the last answer"),
        ({"prompt": "p", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]}, "does not begin with the prompt"),
        ({"prompt": EARLIER, "chosen": "a", "rejected": "b"}, "ends with an answer"),
        (
            {"prompt": "p", "chosen": {"from": "function_call", "value": '{"name": "f"}'}, "rejected": "b"},
            "calls a tool",
        ),
        ({"chosen": "a", "rejected": "b"}, 'no value for "prompt"'),
    ],
)
def test_a_pair_that_says_nothing_is_quarantined(
    row: dict[str, Any], why: str, written: Callable[..., Path], heard: Callable[..., Dataset], tmp_path: Path
) -> None:
    path = written("a.jsonl", as_lines({"prompt": "Hi?", "chosen": "Hello!", "rejected": "What?"}, row))
    heard(path, kind="preferences", max_bad_share=0.5)
    (entry,) = quarantined(tmp_path / "run")
    assert why in entry["reason"]
    assert entry["line"] == 2


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "p", "answer": "a", "liked": "maybe"}, "'maybe', not true or false"),
        ({"prompt": "p", "answer": "a", "liked": None}, "empty, not true or false"),
        ({"prompt": "p", "answer": "a"}, 'no value for "liked"'),
        ({"prompt": "p", "answer": "", "liked": True}, '"answer" is empty'),
    ],
)
def test_an_answer_of_which_it_is_not_plain_whether_it_is_liked_is_quarantined(
    row: dict[str, Any], why: str, written: Callable[..., Path], heard: Callable[..., Dataset], tmp_path: Path
) -> None:
    path = written("a.jsonl", as_lines({"prompt": "Hi?", "answer": "Hello!", "liked": True}, row))
    heard(path, kind="preferences", max_bad_share=0.5)
    assert why in quarantined(tmp_path / "run")[0]["reason"]


def test_data_without_preferences_are_a_question_to_the_person(
    written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    with pytest.raises(DataError, match="a chosen and a rejected answer, or an answer that is liked or not"):
        heard(written("a.jsonl", as_lines({"question": "q", "answer": "a"})), kind="preferences")
    with pytest.raises(DataError, match="belong together"):
        heard(written("b.jsonl", as_lines({"q": "q", "a": "a"})), kind="preferences", columns={"chosen": "a"})


def test_one_data_set_is_of_one_sort(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    written("d/a.jsonl", as_lines({"prompt": "Hi?", "chosen": "Hello!", "rejected": "What?"}))
    path = written("d/b.jsonl", as_lines({"prompt": "Hi?", "answer": "Hello!", "liked": True}))
    with pytest.raises(DataError, match="one data set is of one sort"):
        heard(path.parent, kind="preferences")


def test_both_answers_to_a_question_stay_in_one_part(
    written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    rows = [{"prompt": f"q{n // 2}", "answer": f"a{n}", "liked": n % 2 == 0} for n in range(60)]
    dataset = heard(written("a.jsonl", as_lines(*rows)), kind="preferences", split={"validation": 0.2, "test": 0.2})
    for part in (dataset.train, dataset.validation, dataset.test):
        asked = [example.inputs["chat"] for example in part]
        assert len(asked) == 2 * len(set(asked))
    found = inspect(dataset, None, None)
    assert "Preferences: liked 30, disliked 30" in found.lines()
    assert not any("Classes" in line for line in found.lines())


def test_an_answer_in_json_that_is_no_message_stays_a_text(
    written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    row = {"prompt": "Hi?", "chosen": TEXTS[0], "rejected": TEXTS[1]}
    found = one(heard(written("a.jsonl", as_lines(row)), kind="preferences"))
    assert (found.inputs["chosen"], found.inputs["rejected"]) == TEXTS
