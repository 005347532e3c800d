from __future__ import annotations

from typing import Any

import pytest

from tunesmith.data.columns import Chosen, choose
from tunesmith.data.options import DataOptions
from tunesmith.errors import DataError


def _choose(
    *columns: str, inputs: tuple[str, ...] = ("text", "text_pair"), needs_label: bool = True, **o: Any
) -> Chosen:
    sample = o.pop("sample", ())
    named = o.pop("named", True)
    options = DataOptions(path="a.csv", **o)
    return choose(columns, options, inputs=inputs, needs_label=needs_label, file="a.csv", sample=sample, named=named)


@pytest.mark.parametrize(
    ("columns", "text", "label"),
    [
        (("text", "label"), "text", "label"),
        ((" Text ", "LABEL"), " Text ", "LABEL"),
        (("id", "Review-Text", "Sentiment"), "Review-Text", "Sentiment"),
        (("title", "text", "label", "source"), "text", "label"),
        (("标签", "文本"), "文本", "标签"),
        (("内容", "类别"), "内容", "类别"),
        (("sentiment", "confidence", "text"), "text", "sentiment"),
    ],
)
def test_well_known_names_are_recognised(columns: tuple[str, ...], text: str, label: str) -> None:
    chosen = _choose(*columns)
    assert (chosen.inputs, chosen.label) == ({"text": text}, label)


@pytest.mark.parametrize(
    "pair", [("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("Text", "Text Pair")]
)
def test_a_sentence_pair_is_recognised(pair: tuple[str, str]) -> None:
    assert list(_choose(*pair, "label").inputs.values()) == list(pair)


def test_a_pair_for_a_task_of_one_text_is_a_question() -> None:
    with pytest.raises(DataError, match="more than one column could be the text: sentence1, sentence2"):
        _choose("sentence1", "sentence2", "label", inputs=("text",))


def test_two_candidates_are_a_question_not_a_guess() -> None:
    with pytest.raises(DataError, match=r"more than one.*title, body.*data\.columns\.text=title"):
        _choose("title", "body", "label")
    with pytest.raises(DataError, match="more than one column could be the label: category, topic"):
        _choose("text", "category", "topic")


def test_the_recipe_settles_it_but_for_case_and_blanks() -> None:
    chosen = _choose("Title", "body", "stars", columns={"text": "title", "label": "stars"})
    assert (chosen.inputs, chosen.label) == ({"text": "Title"}, "stars")


def test_a_wrong_name_lists_the_columns_and_a_suggestion() -> None:
    with pytest.raises(DataError, match=r'data.columns.label is "lable".*Did you mean "label".*"text", "label"'):
        _choose("text", "label", columns={"label": "lable"})


def test_one_column_cannot_be_two_things() -> None:
    with pytest.raises(DataError, match="both text and label"):
        _choose("text", "label", columns={"label": "text", "text": "Text"})


def test_without_a_header_a_column_of_few_values_is_the_label() -> None:
    sample = [{"column_1": "ab"[i % 2], "column_2": f"a text {i}"} for i in range(10)]
    chosen = _choose("column_1", "column_2", sample=sample, named=False)
    assert (chosen.inputs, chosen.label) == ({"text": "column_2"}, "column_1")
    assert "no header" in chosen.note
    with pytest.raises(DataError, match=r"no header.*not plain"):
        _choose("column_1", "column_2", sample=sample[:2], named=False)
    with pytest.raises(DataError, match="no header"):
        _choose("column_1", "column_2", "column_3", sample=[], named=False)


def test_for_predictions_the_label_is_optional() -> None:
    assert _choose("text", needs_label=False).label is None
    assert _choose("text", needs_label=False, columns={"label": "stars"}).label is None
    assert _choose("text", "label", needs_label=False).label == "label"
    assert _choose("column_1", needs_label=False, named=False).inputs == {"text": "column_1"}
