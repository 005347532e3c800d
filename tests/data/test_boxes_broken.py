"""Every file of ../shared/data/broken/detection ends as its README says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.data.conftest import quarantined

from tunesmith.data.load_boxes import load_boxes
from tunesmith.data.options import DataOptions, SplitOptions
from tunesmith.errors import DataError
from tunesmith.types import Dataset, Examples

WHOLE = SplitOptions(validation=0, test=0)
Opened = Callable[..., tuple[Dataset, list[dict[str, Any]]]]


@pytest.fixture
def broken(shared: Path) -> Path:
    return shared / "broken" / "detection"


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Loads everything into train, whatever share is bad, and holds both laws."""

    def open_it(path: Path, **options: Any) -> tuple[Dataset, list[dict[str, Any]]]:
        given = {"split": WHOLE, "max_bad_share": 1.0, **options}
        dataset = load_boxes(DataOptions(path=str(path), **given), tmp_path / "run")
        rows, summary = quarantined(tmp_path / "run"), dataset.summary
        assert summary.read == summary.used + summary.quarantined + summary.blank
        boxes = [file["boxes"] for file in summary.files]
        for one in boxes:
            assert one["read"] == one["used"] + one["quarantined"] + one["with_picture"]
        lost = sum(one["quarantined"] + one["clipped"] for one in boxes)
        assert len(rows) == summary.quarantined + lost
        assert all(set(row) == {"file", "line", "reason", "raw"} for row in rows)
        return dataset, rows

    return open_it


def boxes_of(examples: Examples) -> dict[str, list[Any]]:
    return {Path(e.inputs["image"]).name: json.loads(e.inputs["boxes"]) for e in examples}


SOUND = {"1.jpg": [[10, 10, 50, 40, "thing", 0]], "2.jpg": [[5, 5, 35, 65, "other", 0]], "3.jpg": []}


def test_a_sound_file_keeps_its_background_picture_and_names_its_classes(broken: Path, opened: Opened) -> None:
    dataset, rows = opened(broken / "coco_ok.json", max_bad_share=0.0)
    assert boxes_of(dataset.train) == SOUND
    assert dataset.labels == ("thing", "other")
    assert dataset.summary.class_counts["train"] == {"thing": 1, "other": 1}
    assert any("1 picture(s) have no box" in note for note in dataset.summary.notes)
    assert not rows


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("coco_missing_image.json", ["image 4:", "does not exist"]),
        (
            "coco_boxes_outside.json",
            ["annotation 3: clipped", "annotation 4:", "wholly outside", "annotation 5: clipped"],
        ),
        (
            "coco_zero_area.json",
            ["annotation 3:", "annotation 4:", "no area", "annotation 5:", "negative", "annotation 6:"],
        ),
        (
            "coco_nan.json",
            ["annotation 3:", "nan", "annotation 4:", "inf", "annotation 5:", "'1'", "annotation 6:", "3 num"],
        ),
        (
            "coco_bad_refs.json",
            ["annotation 3:", "image 77", "annotation 4:", "class 5", "annotation id 1", "image id 1"],
        ),
        ("coco_wrong_size.json", ["90 x 120", "120 x 90"]),
        ("coco_traversal.json", ["image 4:", "image 5:", "leads out of the data folder"]),
        ("coco_string_ids.json", []),
        ("coco_crowd.json", []),
    ],
)
def test_what_is_wrong_in_a_coco_file_is_quarantined_by_its_id(
    broken: Path, opened: Opened, name: str, expected: list[str]
) -> None:
    dataset, rows = opened(broken / name)
    reasons = " | ".join(row["reason"] for row in rows)
    assert [word for word in expected if word not in reasons] == []
    assert bool(rows) == bool(expected)
    kept = boxes_of(dataset.train)
    assert kept["2.jpg"][0] == SOUND["2.jpg"][0]
    assert kept["3.jpg"] == []
    if name != "coco_wrong_size.json":  # that picture itself cannot be trusted
        assert kept["1.jpg"][0] == SOUND["1.jpg"][0]


def test_boxes_outside_are_clipped_to_the_picture(broken: Path, opened: Opened) -> None:
    dataset, _ = opened(broken / "coco_boxes_outside.json")
    kept = boxes_of(dataset.train)
    assert kept["1.jpg"][1:] == [[100, 70, 120, 90, "thing", 0]]
    assert kept["2.jpg"][1:] == [[0, 0, 20, 20, "thing", 0]]


def test_a_crowd_is_kept_and_marked(broken: Path, opened: Opened) -> None:
    dataset, _ = opened(broken / "coco_crowd.json")
    assert boxes_of(dataset.train)["1.jpg"][1] == [0, 0, 120, 90, "thing", 1]
    assert dataset.summary.class_counts["train"]["thing"] == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("coco_no_categories.json", "has no categories"),
        ("coco_empty.json", "no training picture has a box"),
        ("coco_truncated.json", "not valid JSON"),
    ],
)
def test_a_coco_file_of_no_use_stops_with_what_to_do(broken: Path, opened: Opened, name: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        opened(broken / name)


def test_more_bad_boxes_than_allowed_stop_with_the_reasons(broken: Path, opened: Opened) -> None:
    with pytest.raises(DataError, match=r"4 of 6 boxes cannot be used(.|\n)*annotation 3") as fault:
        opened(broken / "coco_nan.json", max_bad_share=0.01)
    assert "data.max_bad_share=0.667" in str(fault.value)
    opened(broken / "coco_nan.json", max_bad_share=0.667)


def test_more_bad_pictures_than_allowed_stop_with_the_reasons(broken: Path, opened: Opened) -> None:
    with pytest.raises(DataError, match=r"1 of 4 pictures cannot be used(.|\n)*4\.jpg"):
        opened(broken / "coco_missing_image.json", max_bad_share=0.01)


@pytest.fixture
def yolo(broken: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "yolo"
    shutil.copytree(broken / "images", folder / "images")
    shutil.copytree(broken / "yolo_labels", folder / "labels")
    (folder / "data.yaml").write_text("path: .\ntrain: images\nnames: [thing, other]\n", encoding="utf-8")
    return folder


def test_faults_in_yolo_labels_are_quarantined_by_file_and_line(yolo: Path, opened: Opened) -> None:
    dataset, rows = opened(yolo)
    where = {(Path(row["file"]).name, row["line"]): row["reason"] for row in rows}
    expected = {
        ("1.txt", 2): "class 7 is not among the 2 classes",
        ("2.txt", 1): "4 numbers",
        ("2.txt", 2): "1.4 is no share",
        ("2.txt", 3): "class -1",
        ("2.txt", 4): "numbers with blanks between them",
        ("2.txt", 5): "no area",
        ("2.txt", 6): "nan",
        ("99.txt", 1): "no picture for 99.txt",
    }
    assert where.keys() == expected.keys()
    assert [place for place, words in expected.items() if words not in where[place]] == []
    assert boxes_of(dataset.train) == {"1.jpg": [[42, 31.5, 78, 58.5, "thing", 0]], "2.jpg": [], "3.jpg": []}


@pytest.fixture
def voc(broken: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A Pascal VOC folder of one sound XML file and one of the broken ones."""

    def build(name: str) -> Path:
        folder = tmp_path / "voc"
        shutil.copytree(broken / "images", folder / "JPEGImages")
        (folder / "Annotations").mkdir()
        shutil.copy(broken / "voc" / name, folder / "Annotations")
        sound = (broken / "voc" / "floats.xml").read_text(encoding="utf-8").replace("1.jpg", "2.jpg")
        sound = sound.replace("<width>120", "<width>90").replace("<height>90", "<height>120")
        (folder / "Annotations" / "sound.xml").write_text(sound, encoding="utf-8")
        return folder

    return build


@pytest.mark.parametrize(
    ("name", "reason", "kept"),
    [
        ("swapped.xml", "swapped", []),
        ("floats.xml", "", [[10.5, 10.2, 40.7, 30.1, "thing", 0]]),
        ("missing_bndbox.xml", "no bndbox", []),
        ("missing_size.xml", "", [[1, 1, 5, 5, "thing", 0]]),
        ("no_objects.xml", "", []),
        ("traversal.xml", "leads out of the data folder", None),
        ("unclosed.xml", "not usable XML", None),
        ("entities.xml", "document type or entities", None),
        ("xxe.xml", "document type or entities", None),
    ],
)
def test_each_voc_file_is_used_or_quarantined_with_its_name(
    voc: Callable[[str], Path], opened: Opened, name: str, reason: str, kept: list[Any] | None
) -> None:
    dataset, rows = opened(voc(name))
    assert boxes_of(dataset.train).get("1.jpg") == kept
    assert dataset.labels == ("thing",)
    assert bool(rows) == bool(reason)
    if reason:
        assert Path(rows[0]["file"]).name == name
        assert reason in rows[0]["reason"]
