"""Data that somebody sends: nothing outside the named folder is read, nothing hangs, no row is dropped in silence."""

from __future__ import annotations

import gzip
import json
import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.data.conftest import quarantined

from tunesmith.data.box_readers.base import RawBox, text_of
from tunesmith.data.box_readers.base import registry as box_registry
from tunesmith.data.box_readers.coco import _slim
from tunesmith.data.boxes import settle
from tunesmith.data.labels import Read, not_allowed
from tunesmith.data.options import DataOptions
from tunesmith.data.readers import raw_text, text_folder
from tunesmith.data.readers.base import Row, peek, registry
from tunesmith.data.strict_json import parse
from tunesmith.errors import DataError
from tunesmith.types import Dataset


def _classes(root: Path, count: int = 10) -> Path:
    for label in ("good", "bad"):
        (root / label).mkdir(parents=True)
        for number in range(count):
            (root / label / f"{number:02}.txt").write_text(f"{label} {number}")
    return root


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with a secret in it."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out/secret.txt").write_text("secret")
    return tmp_path / "out"


def test_a_class_folder_that_links_out_is_no_class(
    tmp_path: Path, outside: Path, opened: Callable[..., Dataset]
) -> None:
    root = _classes(tmp_path / "tf")
    (root / "neg").symlink_to("../out")
    dataset = opened(root)
    assert dataset.labels == ("bad", "good")
    assert any("links that lead out" in note and "neg" in note for note in dataset.summary.notes)


def test_a_part_of_classes_that_links_out_is_no_part(
    tmp_path: Path, outside: Path, opened: Callable[..., Dataset]
) -> None:
    _classes(tmp_path / "other")
    _classes(tmp_path / "tf/train")
    (tmp_path / "tf/test").symlink_to("../other")
    dataset = opened(tmp_path / "tf", split={"validation": 0, "test": 0})
    assert dataset.summary.split_sizes == {"train": 20, "validation": 0, "test": 0}
    assert any("links that lead out" in note and "test" in note for note in dataset.summary.notes)


def test_a_class_folder_that_links_to_another_place_inside_is_followed(
    tmp_path: Path, opened: Callable[..., Dataset]
) -> None:
    root = _classes(tmp_path / "tf")
    (root / ".kept").mkdir()
    for number in range(10):
        (root / ".kept" / f"{number}.txt").write_text(f"third {number}")
    (root / "third").symlink_to(".kept")
    assert opened(root).labels == ("bad", "good", "third")


def test_a_part_of_raw_texts_that_links_out_is_not_read(
    tmp_path: Path, outside: Path, heard: Callable[..., Dataset]
) -> None:
    (tmp_path / "rt").mkdir()
    for number in range(10):
        (tmp_path / "rt" / f"{number}.txt").write_text(f"text {number}")
    (tmp_path / "rt/train").symlink_to("../out")
    dataset = heard(tmp_path / "rt")
    assert dataset.summary.read == 10
    assert any("lead out" in note and "train" in note for note in dataset.summary.notes)


def test_texts_in_folders_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a.b/c.txt", "a/b/c.txt", "A.txt", "a.txt", "d/e.md", ".h/x.txt"):
        (tmp_path / "rt" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "rt" / name).write_text("x")
    found = [
        path.relative_to(tmp_path / "rt") for path in raw_text._texts(tmp_path / "rt", (tmp_path / "rt").resolve())
    ]
    assert found == sorted(found)
    assert len(found) == 6


def test_links_in_a_circle_end(tmp_path: Path, opened: Callable[..., Dataset], heard: Callable[..., Dataset]) -> None:
    root = _classes(tmp_path / "tf")
    (root / "round").symlink_to("round")
    (root / "up").symlink_to(".")
    assert opened(root).summary.read == 20
    assert heard(root).summary.read == 20


def test_other_encodings_are_told_once_with_their_number(tmp_path: Path, heard: Callable[..., Dataset]) -> None:
    (tmp_path / "rt").mkdir()
    for number in range(30):
        (tmp_path / "rt" / f"{number:02}.txt").write_bytes(f"a café number {number}".encode("latin-1"))
    notes = [note for note in heard(tmp_path / "rt").summary.notes if "cp1252" in note]
    assert len(notes) == 1
    assert "00.txt" in notes[0]
    assert "30 files in all" in notes[0]


def test_a_text_file_too_large_for_one_example_is_quarantined(
    tmp_path: Path, opened: Callable[..., Dataset], heard: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _classes(tmp_path / "tf")
    (root / "good/large.txt").write_text("x" * 2000)
    monkeypatch.setattr(text_folder, "LONGEST_LINE", 1000)
    monkeypatch.setattr(raw_text, "LONGEST_LINE", 1000)
    assert opened(root, max_bad_share=0.5).summary.quarantined == 1
    assert "2,000 bytes" in quarantined(tmp_path / "run")[0]["reason"]
    dataset = heard(root, max_bad_share=0.5, template={"user": "say", "assistant": "{text}"})
    assert dataset.summary.quarantined == 1


def test_an_object_of_many_keys_with_one_twice_is_refused_at_once() -> None:
    text = "{" + ", ".join(f'"{number}": 0' for number in range(60_000)) + ', "59999": 1}'
    began = time.perf_counter()
    assert 'the key "59999" stands twice' in parse(text)[1]
    with pytest.raises(ValueError, match='the key "59999" stands twice'):
        _slim(json.loads(text, object_pairs_hook=list))
    assert time.perf_counter() - began < 4  # quadratic: over 60 s


def test_a_header_of_many_columns_is_checked_at_once(written: Callable[..., Path]) -> None:
    names = ",".join(f"c{number}" for number in range(60_000))
    path = written("a.csv", f"{names},c59999\n")
    began = time.perf_counter()
    with pytest.raises(DataError, match='"c59999" stands there more than once'):
        list(registry.get("csv")().tables(path, DataOptions(path=str(path), header=True), shown="a.csv"))
    assert time.perf_counter() - began < 5  # quadratic: over 30 s


def test_labels_are_looked_up_among_many_at_once() -> None:
    allowed = tuple(f"class {number}" for number in range(100_000))
    began = time.perf_counter()
    for number in range(80_000, 83_000):
        assert not not_allowed(Read("text", f"class {number}"), allowed)
        assert not_allowed(Read("text", f"no {number}"), allowed)
    for number in range(1000):
        boxes = [RawBox("1", "class 99999", (1, 1, 9, 9)), RawBox("2", f"no {number}", (1, 1, 9, 9))]
        done = settle(boxes, 20, 20, allowed)
        assert (len(done.boxes), len(done.refused)) == (1, 1)
    assert time.perf_counter() - began < 4  # one by one: over 10 s, with near names hours
    assert "Did you mean" in not_allowed(Read("text", "kat"), ("cat", "dog"))
    assert not not_allowed(Read("text", "dog"), ("cat", "dog"))


def test_the_rows_that_are_looked_at_first_are_few_where_they_are_long() -> None:
    rows = (Row(number, {"text": "x" * (1 << 22)}) for number in range(1000))
    sample, again = peek(rows)
    assert len(sample) < 10
    assert next(again).line == 0


def test_labels_that_a_header_counts_but_that_are_not_there_are_not_waited_for(tmp_path: Path) -> None:
    many = 2**32 - 1
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb") as stream:
        stream.write(struct.pack(">HBB3I", 0, 8, 3, many, 2, 2) + bytes(12))
    with gzip.open(tmp_path / "train-labels-idx1-ubyte.gz", "wb", compresslevel=1) as stream:
        stream.write(struct.pack(">HBBI", 0, 8, 1, many))
        for _ in range(64):
            stream.write(bytes(1 << 20))
    (table,) = registry.get("idx")().tables(tmp_path, DataOptions(path=str(tmp_path)), shown="d")
    tracemalloc.start()
    rows = iter(table.rows)
    assert [next(rows).values for _ in range(3)][2] == {"image": b"P5\n2 2\n255\n" + bytes(4), "label": 0}
    with pytest.raises(DataError, match="cut off"):
        next(rows)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_idx_files_that_link_out_are_not_read(tmp_path: Path, outside: Path) -> None:
    (outside / "a").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 1, 2, 2) + bytes(4))
    (tmp_path / "d").mkdir()
    (tmp_path / "d/train-images-idx3-ubyte").symlink_to(outside / "a")
    assert not registry.get("idx")().recognises(tmp_path / "d")


def _yolo(root: Path) -> Path:
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    (root / "data.yaml").write_text("train: images\nnames: [cat]\n")
    (root / "images/a.jpg").write_bytes(b"")
    (root / "labels/a.txt").write_text("0 0.5 0.5 0.1 0.1")
    return root


def _read(name: str, path: Path) -> list[Any]:
    tables = box_registry.get(name)().tables(path, DataOptions(path=str(path)), shown="d")
    return [one for table in tables for one in table.pictures]


def test_a_picture_that_links_out_is_quarantined_not_dropped(tmp_path: Path, outside: Path) -> None:
    root = _yolo(tmp_path / "yolo")
    (outside / "b.jpg").write_bytes(b"")
    (root / "images/b.jpg").symlink_to(outside / "b.jpg")
    first, second = _read("yolo", root)
    assert first.picture == (root / "images/a.jpg").resolve()
    assert second.picture is None
    assert "leads out" in second.reason


def test_a_data_yaml_and_lists_that_link_out_are_not_read(tmp_path: Path, outside: Path) -> None:
    root = _yolo(tmp_path / "yolo")
    (outside / "data.yaml").write_text("train: images\nnames: [dog]\n")
    (root / "data.yaml").unlink()
    (root / "data.yaml").symlink_to(outside / "data.yaml")
    assert not box_registry.get("yolo")().recognises(root)
    (root / "data.yaml").unlink()
    (root / "classes.txt").symlink_to(outside / "secret.txt")
    with pytest.raises(DataError, match="leads out"):
        _read("yolo", root)
    (root / "classes.txt").unlink()
    (root / "classes.txt").write_text("cat")
    (root / "images").rename(outside / "images")
    (root / "images").symlink_to(outside / "images")
    with pytest.raises(DataError, match="leads out"):
        _read("yolo", root)


def test_a_list_that_is_no_file_or_too_large_is_refused_unread(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(DataError, match="is no file"):
        text_of(tmp_path / "pipe.txt", tmp_path)
    with (tmp_path / "large.txt").open("wb") as stream:
        stream.truncate(1 << 40)  # a hole, which takes no room on the disk
    with pytest.raises(DataError, match="at most"):
        text_of(tmp_path / "large.txt", tmp_path)
    root = _yolo(tmp_path / "yolo")
    with (root / "labels/a.txt").open("wb") as stream:
        stream.truncate(1 << 40)
    assert "at most" in _read("yolo", root)[0].reason


def test_an_xml_file_too_large_for_labels_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "a.xml").open("wb") as stream:
        stream.truncate(1 << 40)
    (one,) = _read("voc", tmp_path)
    assert "too many for the labels" in one.reason
