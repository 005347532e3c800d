from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.data.conftest import quarantined

from tunesmith.data.labels import ordered, read_label
from tunesmith.errors import DataError
from tunesmith.types import Dataset


def _lines(labels: list[Any]) -> str:
    return "".join(json.dumps({"text": f"text {i}", "label": label}) + "\n" for i, label in enumerate(labels))


@pytest.mark.parametrize(
    ("value", "kind", "name"),
    [
        ("a", "text", "a"),
        ("None", "text", "None"),
        (" a ", "text", "a"),
        (1, "integer", "1"),
        (1.0, "decimal", "1.0"),
        (True, "boolean", "true"),
        (["b", "a", "b"], "list of text", ("b", "a")),
        ([], "list", ()),
        ([1, 2], "list of integer", ("1", "2")),
    ],
)
def test_a_label_keeps_its_kind_and_spelling(value: Any, kind: str, name: Any) -> None:
    assert read_label(value, None)[0] == (kind, name)


@pytest.mark.parametrize("value", ["", "  ", None, float("nan"), [1, "a"], [None], [[]], [""]])
def test_a_label_that_means_nothing_has_a_reason(value: Any) -> None:
    read, reason = read_label(value, None)
    assert read is None
    assert reason


def test_a_separator_makes_lists(written: Callable[..., Path], opened: Callable[..., Dataset]) -> None:
    body = "".join(f"text {i},{['sport|health', 'sport', ' health | home '][i % 3]}\n" for i in range(30))
    dataset = opened(written("a.csv", "text,label\n" + body), label_separator="|")
    assert dataset.multi_label
    assert dataset.labels == ("health", "home", "sport")
    assert {e.label for e in dataset.train} == {("sport", "health"), ("sport",), ("health", "home")}


def test_few_labels_of_another_kind_are_quarantined(
    written: Callable[..., Path], opened: Callable[..., Dataset], tmp_path: Path
) -> None:
    path = written("a.jsonl", _lines(["1", 0, 1] + [0, 1] * 150))
    dataset = opened(path)
    assert dataset.labels == ("0", "1")
    (entry,) = quarantined(tmp_path / "run")
    assert entry["line"] == 1
    assert "type text" in entry["reason"]
    assert "type integer" in entry["reason"]
    assert sum(dataset.summary.class_counts["train"].values()) == dataset.summary.split_sizes["train"]


def test_a_column_without_a_main_kind_is_refused(written: Callable[..., Path], opened: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError, match=r"mixed types \(10 integer, 10 decimal\)"):
        opened(written("a.jsonl", _lines([1, 1.0] * 10)))


def test_class_names_have_one_order() -> None:
    assert ordered({"10", "9", "-1"}) == ("-1", "9", "10")
    assert ordered({"b", "a", "10"}) == ("10", "a", "b")


def test_allowed_labels_fix_the_order_and_refuse_others(
    written: Callable[..., Path], opened: Callable[..., Dataset], tmp_path: Path
) -> None:
    path = written(
        "a.csv", "text,label\n" + "".join(f"t{i},{'pos' if i % 2 else 'neg'}\n" for i in range(20)) + "x,nge\n"
    )
    dataset = opened(path, labels=("pos", "neg", "neutral"), max_bad_share=0.5)
    assert dataset.labels == ("pos", "neg", "neutral")
    assert 'Did you mean "neg"' in quarantined(tmp_path / "run")[0]["reason"]
    assert any(note.startswith("EMPTY") and "neutral" in note for note in dataset.summary.notes)


def test_an_identifier_as_label_is_refused(written: Callable[..., Path], opened: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError, match="200 different labels in 200 rows"):
        opened(written("a.csv", "text,label\n" + "".join(f"t{i},id{i}\n" for i in range(200))))


def test_lists_against_multi_label_false_are_refused_unless_all_are_single(
    written: Callable[..., Path], opened: Callable[..., Dataset]
) -> None:
    single = opened(written("a.jsonl", _lines([["a"], ["b"]] * 10)), multi_label=False)
    assert single.train[0].label in ("a", "b")
    with pytest.raises(DataError, match="multi_label is false"):
        opened(written("b.jsonl", _lines([["a"], ["b", "a"]] * 10)), multi_label=False)
