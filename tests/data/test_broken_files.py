"""Every broken or hostile text file either loads, with what counts, or ends in a DataError that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.data.conftest import SHARED, quarantined

from tunesmith.errors import DataError
from tunesmith.types import Dataset

TEXT = SHARED / "broken/text"

# file -> (read, used, quarantined, blank), the lines in quarantine
LOADS: dict[str, tuple[tuple[int, int, int, int], list[int]]] = {
    "gbk.csv": ((40, 40, 0, 0), []),
    "utf16_le_bom.csv": ((40, 40, 0, 0), []),
    "latin1.csv": ((42, 42, 0, 0), []),
    "one_bad_byte.csv": ((40, 39, 1, 0), [23]),
    "bom_crlf.csv": ((40, 40, 0, 0), []),
    "cr_only.csv": ((40, 40, 0, 0), []),
    "ragged_rows.csv": ((20, 16, 3, 1), [7, 11, 19]),
    "unclosed_quote.csv": ((41, 40, 1, 0), [8]),
    "no_header.csv": ((40, 40, 0, 0), []),
    "semicolon.csv": ((40, 40, 0, 0), []),
    "header_spaces_case.csv": ((40, 40, 0, 0), []),
    "dup_across_splits": ((90, 90, 0, 0), []),
    "conflicting_labels.csv": ((35, 35, 0, 0), []),
    "empty_labels.csv": ((40, 36, 4, 0), [5, 9, 10, 14]),
    "empty_texts.csv": ((40, 37, 3, 0), [4, 8, 11]),
    "one_example_class.csv": ((39, 39, 0, 0), []),
    "nan_values.csv": ((10, 10, 0, 0), []),
    "mixed_label_types.csv": ((24, 24, 0, 0), []),
    "label_gaps.csv": ((25, 25, 0, 0), []),
    "imbalanced_99_1.csv": ((200, 200, 0, 0), []),
    "long_lines.csv": ((24, 24, 0, 0), []),
    "over_field_limit.csv": ((6, 6, 0, 0), []),
    "control_chars.csv": ((18, 18, 0, 0), []),
    "formula.csv": ((8, 8, 0, 0), []),
    "html_script.csv": ((8, 8, 0, 0), []),
    "label_markup.csv": ((12, 12, 0, 0), []),
    "bad_lines.jsonl": ((13, 7, 5, 1), [4, 8, 10, 12, 13]),
    "no_final_newline.jsonl": ((6, 6, 0, 0), []),
    "pretty_object.json": ((8, 8, 0, 0), []),
}

# file -> words of the message
REFUSED: dict[str, tuple[str, ...]] = {
    "one_bad_byte.csv": ("one_bad_byte.csv:23", "0xff", "utf-8", "max_bad_share"),
    "ragged_rows.csv": (":7: 1 fields", ":11: 4 fields", ":19: 3 fields", "max_bad_share"),
    "unclosed_quote.csv": ("unclosed_quote.csv:8", "quote", "never closed"),
    "empty.csv": ("empty.csv", "is empty"),
    "header_only.csv": ("header_only.csv", "no row"),
    "duplicate_header.csv": ("header", '"text"', "more than once"),
    "missing_label_column.csv": ("no label column", '"text"', "data.columns.label="),
    "single_class.csv": ('"negative"', "two classes"),
    "unseen_label": ('"neutral"', "test.csv:12", "Train knows: negative, positive"),
    "mixed_label_types.jsonl": ("mixed types", "4 text", "2 integer", "2 decimal", "2 boolean", "2 object"),
    "empty_labels.csv": (":5: the label is empty", ":9:", ":10:", ":14:"),
    "empty_texts.csv": (":4: the text", ":8:", ":11:"),
    "bad_lines.jsonl": (":4: not valid JSON", ":8:", ":10: a list", '"text" stands twice', "NaN"),
    "deep.json": ("deep.json:1", "nested deeper"),
}


@pytest.mark.parametrize("name", LOADS)
def test_a_broken_file_loads_with_every_row_accounted_for(
    name: str, shared: Path, opened: Callable[..., Dataset], tmp_path: Path
) -> None:
    (read, used, bad, blank), lines = LOADS[name]
    summary = opened(TEXT / name, max_bad_share=0.5).summary
    assert (summary.read, summary.used, summary.quarantined, summary.blank) == (read, used, bad, blank)
    assert [entry["line"] for entry in quarantined(tmp_path / "run")] == lines
    assert all(entry["reason"] and entry["raw"] for entry in quarantined(tmp_path / "run"))


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_file_is_refused_in_words(name: str, shared: Path, opened: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError) as error:
        opened(TEXT / name)
    for word in REFUSED[name]:
        assert word in str(error.value)


def test_every_broken_text_file_is_in_one_of_the_two_tables(shared: Path) -> None:
    assert {path.name for path in TEXT.iterdir()} == LOADS.keys() | REFUSED.keys()


def _texts(dataset: Dataset) -> list[str]:
    examples = [*dataset.train, *dataset.validation, *dataset.test]
    return [e.inputs["text"] for e in sorted(examples, key=lambda e: (e.file, e.line))]


def _labels(dataset: Dataset) -> list[Any]:
    examples = [*dataset.train, *dataset.validation, *dataset.test]
    return [e.label for e in sorted(examples, key=lambda e: (e.file, e.line))]


def test_gb18030_and_utf16_give_the_same_chinese_as_utf8(shared: Path, opened: Callable[..., Dataset]) -> None:
    plain = _texts(opened(TEXT / "bom_crlf.csv"))
    assert _texts(opened(TEXT / "gbk.csv")) == plain == _texts(opened(TEXT / "utf16_le_bom.csv"))


def test_latin1_is_decoded_and_said(shared: Path, opened: Callable[..., Dataset]) -> None:
    dataset = opened(TEXT / "latin1.csv")
    assert any("é" in text for text in _texts(dataset))
    assert any("cp1252" in note for note in dataset.summary.notes)


def test_the_tail_behind_an_unclosed_quote_is_read(shared: Path, opened: Callable[..., Dataset]) -> None:
    texts = _texts(opened(TEXT / "unclosed_quote.csv", max_bad_share=0.5))
    assert "The script is a big flawed mess." in texts
    assert not any("\n" in text for text in texts)


def test_literal_nan_and_null_stay_text_and_class_names(shared: Path, opened: Callable[..., Dataset]) -> None:
    dataset = opened(TEXT / "nan_values.csv")
    assert {"NaN", "nan", "NULL", "None", "N/A"} <= set(_texts(dataset))
    assert set(dataset.labels) == {"negative", "positive", "NA", "null", "nan"}


def test_labels_that_look_alike_are_never_merged(shared: Path, opened: Callable[..., Dataset]) -> None:
    labels = opened(TEXT / "mixed_label_types.csv").labels
    assert set(labels) == {"0", "1", "1.0", "01", "True", "positive", "negative"}


def test_number_labels_are_names_in_the_order_of_numbers(shared: Path, opened: Callable[..., Dataset]) -> None:
    assert opened(TEXT / "label_gaps.csv").labels == ("-100", "0", "2", "5", "99999999999")


def test_leaks_are_counted_exactly_and_normalised(shared: Path, opened: Callable[..., Dataset]) -> None:
    note = next(n for n in opened(TEXT / "dup_across_splits").summary.notes if n.startswith("LEAK"))
    assert "10 of 30 test rows" in note
    assert "8 exactly, 2 but for case" in note


def test_contradictions_imbalance_and_single_rows_are_noted(shared: Path, opened: Callable[..., Dataset]) -> None:
    assert any(n.startswith("CONTRADICTION: 5 text") for n in opened(TEXT / "conflicting_labels.csv").summary.notes)
    assert any(
        n.startswith("IMBALANCE") and "positive" in n for n in opened(TEXT / "imbalanced_99_1.csv").summary.notes
    )
    lonely = opened(TEXT / "one_example_class.csv")
    assert any(n.startswith("RARE") and "mixed" in n for n in lonely.summary.notes)
    assert lonely.summary.class_counts["train"]["mixed"] == 1


def test_control_characters_and_long_fields_come_through_unchanged(
    shared: Path, opened: Callable[..., Dataset]
) -> None:
    texts = _texts(opened(TEXT / "control_chars.csv"))
    assert {"bell\a and null\0 inside", "line\u2028separator and\x85nel", "two\nlines", "tab\tinside"} <= set(texts)
    assert max(map(len, _texts(opened(TEXT / "over_field_limit.csv")))) > 131_072


def test_markup_in_labels_is_kept_as_a_name(shared: Path, opened: Callable[..., Dataset]) -> None:
    assert opened(TEXT / "label_markup.csv").labels == ("../../evil", "<b>x</b>")
    assert "=1+1" in _texts(opened(TEXT / "formula.csv"))


def test_header_and_carriage_returns_leave_no_trace(shared: Path, opened: Callable[..., Dataset]) -> None:
    for name in ("bom_crlf.csv", "cr_only.csv", "semicolon.csv"):
        dataset = opened(TEXT / name)
        assert dataset.labels == ("negative", "positive")
        assert set(_labels(dataset)) == {"negative", "positive"}
