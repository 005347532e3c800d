"""Text files to go on with: whole or in pieces, never a word lost."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.conftest import chats_of, in_order

from tunesmith.data.readers.raw_text import SHORTEST, RawText, _pieces
from tunesmith.types import Dataset


def texts(dataset: Dataset) -> list[str]:
    return [str(chat.text) for chat in chats_of(dataset)]


def test_a_folder_is_a_text_a_file_at_any_depth(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    for name in ("a", "b", "sub/c", "sub/deep/d"):
        written(f"d/{name}.txt", f"The text {name}.")
    written("d/README.txt", "About.")
    written("d/.hidden.txt", "No.")
    written("d/picture.jpg", b"no")
    dataset = heard(written("d/empty.txt", " \n").parent)
    assert sorted(texts(dataset)) == [f"The text {name}." for name in ("a", "b", "sub/c", "sub/deep/d")]
    assert (dataset.summary.used, dataset.summary.blank) == (4, 1)
    assert any(example.file.endswith("d/sub/deep/d.txt") for example in in_order(dataset))


def test_folders_called_train_and_test_are_the_parts(
    written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    for part in ("train", "test"):
        for number in range(5):
            written(f"d/{part}/{number}.txt", f"{part} {number}")
    dataset = heard(written("d/train/x/y.txt", "train y").parents[2], split={"validation": 0})
    assert dataset.summary.split_sizes == {"train": 6, "validation": 0, "test": 5}


def test_a_long_file_is_divided_at_blank_lines(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    paragraphs = [f"Paragraph {n}. " + "word " * 60 for n in range(100)]
    dataset = heard(written("book.txt", "\n\n".join(paragraphs)))
    found = texts(dataset)
    assert all(text.startswith("Paragraph") for text in found)
    assert max(map(len, found)) <= SHORTEST
    assert "".join("".join(found).split()) == "".join("".join(paragraphs).split())
    assert min(dataset.summary.split_sizes.values()) > 0
    lines = [example.line for example in in_order(dataset)]
    assert lines == sorted(set(lines))
    assert any("the file is divided into pieces" in note for note in dataset.summary.notes)


def test_with_a_template_every_file_is_whole(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    path = written("d/news/a.txt", "Head\n\n" + "word " * 5000)
    written("d/sport/b.txt", "Kopf\n\nShort.")
    words = {"user": "{folder}: {text:rest}", "assistant": "{text:first_line}"}
    found = chats_of(heard(path.parents[1], template=words))
    assert [chat.answer() for chat in found] == ["Head", "Kopf"]
    assert found[1].messages[0]["content"] == "sport: Short."
    assert len(found[0].messages[0]["content"]) > 24_000


@given(st.lists(st.text("ab \t", max_size=60), max_size=60), st.integers(1, 80))
def test_pieces_hold_every_word_in_order_and_know_their_line(rows: list[str], longest: int) -> None:
    with NamedTemporaryFile("w", suffix=".txt", newline="") as file:
        file.write("\n".join(rows))
        file.flush()
        found = list(_pieces(Path(file.name), "utf-8", longest))
    assert "".join("".join(text for _, text in found).split()) == "".join("".join(rows).split())
    assert [line for line, _ in found] == sorted(line for line, _ in found)
    for line, text in found:
        assert text.partition("\n")[0].rstrip() in rows[line - 1]
        assert 0 < len(text) <= longest


@pytest.mark.parametrize(
    ("content", "raw"),
    [
        ("Once upon a time.", True),
        ('{"question": "q", "answer": "a"}\n{"question": "q", "answer": "a"}\n', False),
        ("question\tanswer\nq\ta\n", False),
        ("instruction,input,output\nq,,a\n", False),
        ("A question, and an answer.\n", True),
    ],
)
def test_a_table_that_is_called_txt_is_no_text(content: str, raw: bool, written: Callable[..., Path]) -> None:
    assert RawText().recognises(written("a.txt", content)) is raw


def test_tables_called_txt_are_read_as_tables(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    lines = '{"question": "q", "answer": "a"}\n{"question": "q", "answer": "a"}\n'
    assert heard(written("a.txt", lines)).summary.files[0]["form"] == "question and answer"
    assert heard(written("b.txt", "question\tanswer\nq\ta\n")).summary.files[0]["form"] == "question and answer"


def test_encodings_are_found_and_wrong_bytes_quarantined(
    written: Callable[..., Path], heard: Callable[..., Dataset]
) -> None:
    written("d/a.txt", "Grüße aus Köln, schöne Grüße.".encode("cp1252"))
    written("d/b.txt", "plain")
    dataset = heard(written("d/c.txt", ("é" * 500).encode() + b"\xff" + ("é" * 500).encode()).parent, max_bad_share=0.5)
    assert texts(dataset) == ["Grüße aus Köln, schöne Grüße.", "plain"]
    assert dataset.summary.quarantined == 1


def test_a_link_out_of_the_folder_is_not_followed(written: Callable[..., Path], heard: Callable[..., Dataset]) -> None:
    outside = written("secret.txt", "secret")
    path = written("d/a.txt", "plain")
    (path.parent / "link.txt").symlink_to(outside)
    (path.parent / "loop").symlink_to(path.parent)
    assert texts(heard(path.parent)) == ["plain"]


def test_the_hash_follows_every_file(written: Callable[..., Path]) -> None:
    path = written("d/a.txt", "one").parent
    first = RawText().sha256(path)
    written("d/b/c.txt", "two")
    assert RawText().sha256(path) != first


def test_the_hash_is_of_names_sizes_and_bytes_as_in_runs_of_old(written: Callable[..., Path]) -> None:
    path = written("d/a.txt", "one").parent
    written("d/b/c.txt", "two!")
    assert RawText().sha256(path) == hashlib.sha256(b"a.txt\x003\x00one" + b"b/c.txt\x004\x00two!").hexdigest()
