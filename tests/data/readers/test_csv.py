from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.data.delimited import records
from tunesmith.data.options import DataOptions
from tunesmith.data.readers.base import Row, Table
from tunesmith.data.readers.csv import Csv
from tunesmith.errors import DataError

Write = Callable[..., Path]


def _table(path: Path, **options: object) -> Table:
    return next(iter(Csv().tables(path, DataOptions(path=str(path), **options), shown=path.name)))


def _good(table: Table) -> list[tuple[int, list[str]]]:
    return [(row.line, list(row.values.values())) for row in table.rows if row.values is not None]


CELLS = st.text(st.characters(codec="utf-8"), max_size=12)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8), end=st.sampled_from(["\n", "\r\n"])
)
def test_what_the_csv_module_writes_comes_back_field_by_field(rows: list[list[str]], end: str) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    lines = io.StringIO(buffer.getvalue(), newline="\n")
    found = list(records(iter(lines), ",", quoted=True, width=3))
    assert [record.fields for record in found] == rows


@settings(max_examples=150, deadline=None)
@given(text=st.text(st.sampled_from('a",\n\r;\t"'), min_size=1, max_size=60))
def test_whatever_stands_in_a_file_every_line_is_accounted_for_once(text: str) -> None:
    lines = list(io.StringIO(text, newline="\n"))
    starts = [record.line for record in records(iter(lines), ",", quoted=True, width=2)]
    assert starts == sorted(set(starts))
    covered = list(records(iter(lines), ",", quoted=True, width=2))
    following = [*[record.line for record in covered[1:]], len(lines) + 1]
    spans = [end - record.line for record, end in zip(covered, following, strict=True)]
    assert sum(spans) == len(lines)
    for record, span in zip(covered, spans, strict=True):
        assert record.fields is not None or span == 1  # a bad record costs its first line only


def test_two_unclosed_quotes_cost_their_own_rows_only(written: Write) -> None:
    path = written("a.csv", 'text,label\n"one,x\ntwo,y\n"three,x\n"four",y\n"five\nsix",x\n')
    rows = list(_table(path).rows)
    assert [(row.line, row.values is not None) for row in rows] == [
        (2, False),
        (3, True),
        (4, False),
        (5, True),
        (6, True),
    ]
    assert rows[-1].values == {"text": "five\nsix", "label": "x"}


def test_a_quote_that_closes_by_chance_in_a_later_row_costs_one_row(written: Write) -> None:
    path = written("a.csv", 'text,label\na,x\n"open,y\nb,x\nc,"y"\nd,x\n')
    rows = list(_table(path).rows)
    assert [row.line for row in rows if row.values is None] == [3]
    assert [row.values["text"] for row in rows if row.values is not None] == ["a", "b", "c", "d"]


def test_text_behind_a_closing_quote_is_a_bad_row(written: Write) -> None:
    rows = list(_table(written("a.csv", 'text,label\n"Great" film,x\n"ok",y\n')).rows)
    assert rows[0] == Row(2, None, rows[0].reason, '"Great" film,x')
    assert "doubled" in rows[0].reason


@pytest.mark.parametrize(("separator", "name"), [(",", "comma"), (";", "semicolon"), ("\t", "tab"), ("|", "bar")])
def test_the_separator_is_found_whatever_else_stands_in_the_texts(separator: str, name: str, written: Write) -> None:
    body = "".join(f'"well, {i}; so | on"{separator}{"pos" if i % 2 else "neg"}\n' for i in range(20))
    if separator == "\t":
        body = body.replace('"', "")
    table = _table(written("a.csv", f"text{separator}label\n{body}"))
    assert table.facts["separator"] == name
    assert _good(table)[3] == (5, ["well, 3; so | on", "pos"])


def test_a_file_of_one_column_is_not_cut_at_commas(written: Write) -> None:
    table = _table(written("a.csv", "text\na, b\nc\n" * 1 + '"d, e"\n'))
    assert _good(table) == [(2, ["a, b"]), (3, ["c"]), (4, ["d, e"])]


def test_quotes_in_tabs_are_plain_characters(written: Write) -> None:
    path = written("a.tsv", 'label\ttext\nx\t"Hi" she said\ny\t5" disk\nx\t"all of it"\n')
    assert [fields[1] for _, fields in _good(_table(path))] == ['"Hi" she said', '5" disk', '"all of it"']


def test_quotes_in_tabs_count_where_the_file_plainly_quotes(written: Write) -> None:
    path = written("a.tsv", 'label\ttext\nx\t"say ""hi"""\ny\tplain\nx\t"two\nlines"\n')
    assert [fields[1] for _, fields in _good(_table(path))] == ['say "hi"', "plain", "two\nlines"]


def test_a_tab_file_written_by_the_csv_module_comes_back(written: Write) -> None:
    buffer = io.StringIO(newline="")
    rows = [["x", 'a "quoted" word'], ["y", "plain"], ["x", "tab\tinside"]]
    csv.writer(buffer, delimiter="\t", lineterminator="\n").writerows([["label", "text"], *rows])
    assert [fields for _, fields in _good(_table(written("a.tsv", buffer.getvalue())))] == rows


def test_the_header_is_found_or_settled(written: Write) -> None:
    body = "".join(f"text {i},{'x' if i % 2 else 'y'}\n" for i in range(10))
    assert not _table(written("a.csv", body)).named
    assert _table(written("b.csv", "review,label\n" + body)).columns == ("review", "label")
    assert _table(written("c.csv", "review,label\n" + body), header=False).columns == ("column_1", "column_2")
    assert len(_good(_table(written("d.csv", body), header=True))) == 9


def test_blank_lines_are_told_from_rows_with_empty_cells(written: Write) -> None:
    rows = list(_table(written("a.csv", "text,label\n\na,x\n , \n,\n,x\nb,y\n\n")).rows)
    assert [row.line for row in rows if row.values is None and not row.reason] == [2, 4, 5, 8]
    assert [row.line for row in rows if row.values is not None] == [3, 6, 7]


def test_a_line_that_never_ends_is_refused(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.data.encoding.LONGEST_LINE", 1000)
    table = _table(written("a.csv", "text,label\na,x\n" + "b" * 2000))
    with pytest.raises(DataError, match="line 3"):
        list(table.rows)


def test_columns_without_a_name_get_one(written: Write) -> None:
    assert _table(written("a.csv", ",text,label\n0,a,x\n1,b,y\n")).columns == ("column_1", "text", "label")
