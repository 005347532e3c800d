"""A recipe's own wording: fields are columns' names and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tunesmith.data.chat_faults import ChatFault
from tunesmith.data.chat_template_fields import columns_of, filled, pieces
from tunesmith.data.options import DataOptions


def fill(wording: str, **values: object) -> str:
    return filled(pieces(wording), values, {name: name for name in columns_of(wording)})


@given(st.text())
def test_any_text_can_be_said_with_its_braces_written_twice(text: str) -> None:
    assert fill(text.replace("{", "{{").replace("}", "}}")) == text.strip()


@given(st.text())
def test_any_wording_is_taken_apart_or_refused(wording: str) -> None:
    try:
        found = pieces(wording)
    except ValueError:
        return
    assert all(bool(piece.text) != bool(piece.column) for piece in found)


@given(st.text(), st.text())
def test_a_cell_is_put_in_as_it_is(cell: str, other: str) -> None:
    assert fill("a{x}b{y}c", x=cell, y=other) == f"a{cell}b{other}c"


def test_the_first_line_and_the_rest() -> None:
    assert fill("{x:first_line}|{x:rest}", x="\n\n Head \n\nOne.\nTwo.\n") == "Head|One.\nTwo."
    assert fill("{x:rest}", x="Head alone") == ""


def test_numbers_are_written_as_json_writes_them() -> None:
    assert fill("{a} {b} {c}", a=4, b=0.5, c=True) == "4 0.5 true"


def test_nothing_is_looked_up_in_a_name() -> None:
    assert columns_of("{a.b} {a[0]} {a!r}") == ("a.b", "a[0]", "a!r")
    with pytest.raises(ChatFault, match='no value for "__class__"'):
        fill("{__class__}")


@pytest.mark.parametrize(
    ("wording", "why"),
    [
        ("{a", "has no partner"),
        ("a}", "has no partner"),
        ("{}", "has no name"),
        ("{ :rest}", "has no name"),
        ("{a:firstline}", 'Did you mean "first_line"'),
        ("{a:upper}", "there is no part"),
    ],
)
def test_a_wording_that_is_not_well_formed_is_refused(wording: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        DataOptions(path="x", template={"user": wording})


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ({"assistant": "a"}, "needs user"),
        ({"user": "q", "chosen": "a"}, "belong together"),
        ({"user": "q", "assistant": "a", "chosen": "a", "rejected": "b"}, "the one or the other"),
    ],
)
def test_a_template_is_whole(template: dict[str, str], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        DataOptions(path="x", template=template)
    with pytest.raises(ValidationError, match=r"columns\.prompt means nothing"):
        DataOptions(path="x", template={"user": "q"}, columns={"prompt": "a"})


def test_a_cell_that_is_no_text_is_a_fault() -> None:
    for cell, why in ((None, "no value"), (float("nan"), "no value"), ([1], "is a list"), ({}, "is an object")):
        with pytest.raises(ChatFault, match=why):
            fill("{x}", x=cell)
