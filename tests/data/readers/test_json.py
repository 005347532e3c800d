from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data.options import DataOptions
from tunesmith.data.readers import json as json_reader
from tunesmith.data.readers.base import Row
from tunesmith.errors import DataError
from tunesmith.types import Dataset

Write = Callable[..., Path]


def _rows(path: Path) -> list[Row]:
    table = next(iter(json_reader.Json().tables(path, DataOptions(path=str(path)), shown=path.name)))
    return list(table.rows)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda v: st.lists(v, max_size=3)
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=3), max_size=6)


@settings(max_examples=100, deadline=None)
@given(objects=OBJECTS, indent=st.none() | st.integers(0, 2), piece=st.integers(1, 9), wrapped=st.booleans())
def test_objects_come_back_whatever_pieces_the_file_is_read_in(
    objects: list[Any], indent: int | None, piece: int, wrapped: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "a.json"
    value = {"about": [{"x": "]}"}], "data": objects, "end": 1} if wrapped else objects
    path.write_text(json.dumps(value, indent=indent), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_reader, "_CHUNK", piece)
        assert [row.values for row in _rows(path)] == objects


def test_each_row_has_the_line_it_starts_on(written: Write) -> None:
    path = written("a.json", '[\n {"text": "a"},\n\n {\n  "text": "b"}, {"text": "c"}\n]')
    assert [row.line for row in _rows(path)] == [2, 4, 5]


def test_a_bad_element_costs_itself_only(written: Write) -> None:
    deep = "[" * 101 + "]" * 101
    path = written("a.json", f'[{{"text": "a"}}, {deep}, 3, {{"a": NaN}}, {{"a": 1, "a": 2}}, {{"text": "b"}}]')
    rows = _rows(path)
    assert [row.values is not None for row in rows] == [True, False, False, False, False, True]
    for word, row in zip(("nested", "a number", "NaN", "twice"), rows[1:5], strict=True):
        assert word in row.reason


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ('[{"text": "a"}, {"text": "b', "does not end"),
        ('[{"text": "a"}', "not closed"),
        ('[{"text": "a"} {"text": "b"}]', "comma"),
        ('{"data": [{"text": "a"}]', "not closed"),
        ('{"text": ["a"], "label": ["x"]}', "Keys found: text, label"),
        ('[{"text": "a"}] x', "text follows"),
        ("hello", 'starts with "h"'),
        ("", "is empty"),
        ('["', "does not end"),
        ("[}", "stands where a row should start"),
    ],
)
def test_a_broken_structure_is_an_error_with_its_line(content: str, word: str, written: Write) -> None:
    with pytest.raises(DataError, match=word):
        _rows(written("a.json", content))


def test_a_json_file_with_an_object_a_line_is_read_as_lines(written: Write, opened: Callable[..., Dataset]) -> None:
    lines = "".join(json.dumps({"text": f"t{i}", "label": "ab"[i % 2]}) + "\n" for i in range(10))
    assert opened(written("a.json", lines)).summary.used == 10


def test_half_a_surrogate_pair_is_quarantined(written: Write, opened: Callable[..., Dataset]) -> None:
    lines = "".join(json.dumps({"text": f"t{i}", "label": "ab"[i % 2]}) + "\n" for i in range(10))
    path = written("a.jsonl", lines + '{"text": "\\ud83d", "label": "a"}\n')
    assert opened(path, max_bad_share=0.5).summary.quarantined == 1
