"""A data set in the cache of the Hugging Face hub: a folder of links, `snapshots/HASH`, to files in `blobs`."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tunesmith.data.box_readers.base import registry as box_registry
from tunesmith.data.load import load
from tunesmith.data.options import DataOptions
from tunesmith.data.readers._walk import leads_out, lies_inside
from tunesmith.data.readers.base import registry
from tunesmith.errors import DataError
from tunesmith.types import Dataset


def _snapshot(made: Path, repository: str = "datasets--x") -> Path:
    """The folder as `hf download` would have left it."""
    root = made.parent / repository
    snapshot = root / "snapshots" / "0123abcd"
    (root / "blobs").mkdir(parents=True)
    for number, file in enumerate(sorted(p for p in made.rglob("*") if p.is_file())):
        blob = root / "blobs" / f"{number:040x}"
        shutil.move(file, blob)
        link = snapshot / file.relative_to(made)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(*[".."] * len(link.parent.relative_to(root).parts), "blobs", blob.name))
    shutil.rmtree(made)
    return snapshot


def _boxes(name: str, path: Path) -> list[Any]:
    tables = box_registry.get(name)().tables(path, DataOptions(path=str(path)), shown="d")
    return [one for table in tables for one in table.pictures]


def _objects() -> pa.Table:
    objects = pa.array([[{"bbox": [1.0, 1.0, 5.0, 5.0], "category": "cat"}]] * 3)
    return pa.table({"image": pa.array([b"x"] * 3), "objects": objects})


def test_what_lies_inside_a_snapshot(tmp_path: Path) -> None:
    (tmp_path / "made/in").mkdir(parents=True)
    (tmp_path / "made/in/a.txt").write_text("a")
    (tmp_path / "secret.txt").write_text("secret")
    home = _snapshot(tmp_path / "made").resolve()
    (home / "out.txt").symlink_to("../../../secret.txt")
    (home / "refs.txt").symlink_to("../../refs")
    assert not leads_out(home / "in/a.txt", home)
    assert lies_inside(home / "in/a.txt", home / "in")
    assert leads_out(home / "out.txt", home)
    assert leads_out(home / "refs.txt", home)


def test_blobs_that_are_themselves_a_link_are_outside(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_text("secret")
    home = (tmp_path / "datasets--x/snapshots/1").resolve()
    home.mkdir(parents=True)
    (tmp_path / "datasets--x/blobs").symlink_to("../out")
    (home / "a.txt").symlink_to("../../blobs/a")
    assert leads_out(home / "a.txt", home)


def test_a_folder_called_otherwise_is_no_snapshot(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made/a.txt").write_text("a")
    home = _snapshot(tmp_path / "made", "other").resolve()
    assert leads_out(home / "a.txt", home)


def test_texts_of_a_snapshot_are_read(tmp_path: Path, heard: Callable[..., Dataset]) -> None:
    (tmp_path / "made/deep").mkdir(parents=True)
    for number in range(10):
        (tmp_path / f"made/deep/{number}.txt").write_text(f"text {number}")
    dataset = heard(_snapshot(tmp_path / "made"))
    assert dataset.summary.used == 10
    assert not any("left aside" in note for note in dataset.summary.notes)


def test_class_folders_of_texts_in_a_snapshot_are_read(tmp_path: Path, opened: Callable[..., Dataset]) -> None:
    for label in ("good", "bad"):
        (tmp_path / "made" / label).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "made" / label / f"{number}.txt").write_text(f"{label} {number}")
    dataset = opened(_snapshot(tmp_path / "made"))
    assert (dataset.labels, dataset.summary.used) == (("bad", "good"), 20)


def test_parquet_files_of_a_snapshot_are_read(tmp_path: Path, opened: Callable[..., Dataset]) -> None:
    (tmp_path / "made").mkdir()
    table = pa.table({"text": [f"t{number}" for number in range(20)], "label": ["a", "b"] * 10})
    pq.write_table(table, tmp_path / "made/train.parquet")
    assert opened(_snapshot(tmp_path / "made")).summary.used == 20


@pytest.mark.parametrize("saved", [False, True])
def test_boxes_of_a_snapshot_are_read(saved: bool, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = tmp_path / "made"
    if saved:
        datasets.Dataset(_objects()).save_to_disk(str(made))
    else:
        (made / "data").mkdir(parents=True)
        pq.write_table(_objects(), made / "data/train-0.parquet")
    path = _snapshot(made)
    assert box_registry.get("hugging_face")().recognises(path)
    assert [len(one.boxes) for one in _boxes("hugging_face", path)] == [1, 1, 1]
    assert box_registry.get("hugging_face")().sha256(path)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_a_yolo_snapshot_is_read(listed: bool, named: bool, tmp_path: Path) -> None:
    root = tmp_path / "made"
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    (root / "data.yaml").write_text(f"train: {'train.txt' if listed else 'images'}\nnames: [cat]\n")
    (root / "images/a.jpg").write_bytes(b"")
    (root / "labels/a.txt").write_text("0 0.5 0.5 0.1 0.1")
    (root / "train.txt").write_text("" if listed else "unused")
    path = _snapshot(root)
    found = _boxes("yolo", path / "data.yaml" if named else path)
    assert [len(one.boxes) for one in found] == ([] if listed else [1])
    assert box_registry.get("yolo")().sha256(path / "data.yaml" if named else path)


def test_labels_of_other_formats_in_a_snapshot_are_read(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made/a.xml").write_text(
        "<annotation><filename>a.jpg</filename><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin>"
        "<xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>"
    )
    assert [len(one.boxes) for one in _boxes("voc", _snapshot(tmp_path / "made"))] == [1]


def _idx_pair(root: Path) -> Path:
    root.mkdir()
    (root / "train-images-idx3-ubyte").write_bytes(struct.pack(">HBB3I", 0, 8, 3, 1, 2, 2) + bytes(4))
    (root / "train-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 1) + bytes(1))
    return root


def _idx(path: Path) -> Any:
    return list(registry.get("idx")().tables(path, DataOptions(path=str(path)), shown="d"))


def test_idx_files_of_a_snapshot_keep_their_labels(tmp_path: Path) -> None:
    (table,) = _idx(_snapshot(_idx_pair(tmp_path / "made")))
    assert table.columns == ("image", "label")
    assert not table.notes


def test_idx_labels_that_link_out_are_an_error_and_pictures_a_note(tmp_path: Path) -> None:
    root = _idx_pair(tmp_path / "d")
    shutil.copy(root / "train-images-idx3-ubyte", tmp_path / "out")
    (root / "t10k-images-idx3-ubyte").symlink_to(tmp_path / "out")
    (table,) = _idx(root)
    assert any("1 links that lead out" in note and "t10k" in note for note in table.notes)
    (root / "train-labels-idx1-ubyte").rename(tmp_path / "labels")
    (root / "train-labels-idx1-ubyte").symlink_to(tmp_path / "labels")
    with pytest.raises(DataError, match="the labels of train-images-idx3-ubyte, is a link that leads out"):
        _idx(root)


def test_deep_links_beside_raw_texts_are_told_once(tmp_path: Path, heard: Callable[..., Dataset]) -> None:
    for part in ("train", "test"):
        (tmp_path / "d" / part / "in").mkdir(parents=True)
        for number in range(10):
            (tmp_path / "d" / part / f"in/{number}.txt").write_text(f"{part} {number}")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "d/train/in/x.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "d/train/in/up").symlink_to("..")
    (tmp_path / "d/test/gone.txt").symlink_to("nowhere.txt")
    dataset = heard(tmp_path / "d")
    assert dataset.summary.used == 20
    notes = [note for note in dataset.summary.notes if "left aside" in note]
    assert len(notes) == 2
    assert any("1 links that lead out of it, such as train/in/x.txt" in note for note in notes)
    assert any("2 links to folders or to nothing" in note for note in notes)


def test_parquet_files_with_boxes_that_link_out_are_noted_or_refused(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "d").mkdir()
    pq.write_table(_objects(), tmp_path / "out.parquet")
    (tmp_path / "d/b.parquet").symlink_to(tmp_path / "out.parquet")
    assert box_registry.get("hugging_face")().recognises(tmp_path / "d")
    with pytest.raises(DataError, match="lead out"):
        _boxes("hugging_face", tmp_path / "d")
    pq.write_table(_objects(), tmp_path / "d/a.parquet")
    reader = box_registry.get("hugging_face")()
    (table,) = reader.tables(tmp_path / "d", DataOptions(path="d"), shown="d")
    assert any("1 links that lead out" in note and "b.parquet" in note for note in table.notes)


def test_coco_files_that_link_out_are_noted(tmp_path: Path) -> None:
    from tunesmith.data.box_readers._coco_files import coco_files

    (tmp_path / "d").mkdir()
    for name in ("out.json", "d/train.json"):
        (tmp_path / name).write_text('{"images": [], "annotations": [], "categories": []}')
    (tmp_path / "d/test.json").symlink_to(tmp_path / "out.json")
    files, notes = coco_files(tmp_path / "d")
    assert [file.name for file, _ in files] == ["train.json"]
    assert any("lead out" in note and "test.json" in note for note in notes)


def test_pictures_in_a_snapshot_are_read_and_others_behind_links_are_not(tmp_path: Path) -> None:
    for number in range(8):
        file = tmp_path / "made" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 30, 0, 0)).save(file)
    Image.new("RGB", (8, 8), (0, 255, 0)).save(tmp_path / "other.png")
    home = _snapshot(tmp_path / "made")
    (home / "a" / "out.png").symlink_to(tmp_path / "other.png")
    options = DataOptions.model_validate(
        {"path": str(home), "split": {"validation": 0, "test": 0}, "max_bad_share": 0.5}
    )
    found = load(options, tmp_path / "work", inputs=("image",), kind="images")
    assert len(found.train) == 8
    assert "out.png" not in {Path(example.inputs["image"]).name for example in found.train}


def test_a_list_of_pictures_in_a_snapshot_finds_their_labels(tmp_path: Path) -> None:
    for number in range(3):
        for folder in ("images", "labels"):
            (tmp_path / "made" / folder).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / f"made/images/{number}.png")
        (tmp_path / f"made/labels/{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "made/train.txt").write_text("".join(f"./images/{number}.png\n" for number in range(3)))
    (tmp_path / "made/data.yaml").write_text("path: .\ntrain: train.txt\nnames: [cat]\n")
    found = _boxes("yolo", _snapshot(tmp_path / "made"))
    assert [len(one.boxes) for one in found] == [1, 1, 1]
    assert not any(one.reason for one in found)
