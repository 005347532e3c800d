from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.data.conftest import quarantined

from tunesmith.data.load_boxes import load_boxes
from tunesmith.data.options import DataOptions, SplitOptions
from tunesmith.errors import DataError
from tunesmith.tasks._boxes import targets
from tunesmith.types import Dataset, Examples


def picture(number: int, size: tuple[int, int] = (40, 30)) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Dataset]:
    def load_it(path: Path | str, **options: Any) -> Dataset:
        return load_boxes(DataOptions(path=str(path), **options), tmp_path / "run")

    return load_it


def names(examples: Examples) -> list[str]:
    return sorted(Path(example.inputs["image"]).stem for example in examples)


def boxes(examples: Examples) -> dict[str, list[Any]]:
    return {Path(e.inputs["image"]).stem: sorted(json.loads(e.inputs["boxes"])) for e in examples}


def voc(folder: Path, source: str = "", objects: str = "") -> Path:
    (folder / "Annotations").mkdir(parents=True)
    (folder / "JPEGImages").mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>20</xmax><ymax>15</ymax></bndbox>"
    for n in (1, 2, 3):
        (folder / "JPEGImages" / f"{n}.png").write_bytes(picture(n))
        cat = f"<object><name>cat</name>{box}</object>"
        text = f"<annotation><filename>{n}.jpeg</filename>{source}{cat}{objects}</annotation>"
        (folder / "Annotations" / f"{n}.xml").write_text(text, encoding="utf-8")
    return folder


def test_only_pascal_voc_itself_counts_pixels_from_one(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    plain = load(voc(tmp_path / "a"), split=SplitOptions(validation=0, test=0))
    assert boxes(plain.train)["1"] == [[1, 1, 20, 15, "cat", 0]]
    source = "<source><database>The VOC2007 Database</database></source>"
    own = load(voc(tmp_path / "b", source), split=SplitOptions(validation=0, test=0))
    assert boxes(own.train)["1"] == [[0, 0, 20, 15, "cat", 0]]
    assert any("1 is taken off" in note for note in own.summary.notes)


def test_a_difficult_object_is_neither_learned_nor_counted(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    box = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    hard = f"<object><name>cat</name><difficult>1</difficult>{box}</object>"
    dataset = load(voc(tmp_path / "set", objects=hard), split=SplitOptions(validation=0, test=0))
    assert boxes(dataset.train)["2"] == [[1, 1, 20, 15, "cat", 0], [5, 5, 9, 9, "cat", 1]]
    assert dataset.summary.class_counts["train"] == {"cat": 3}


def test_a_class_of_difficult_objects_alone_is_no_class(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    box = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    hard = f"<object><name>dog</name><difficult>1</difficult>{box}</object>"
    dataset = load(voc(tmp_path / "set", objects=hard), split=SplitOptions(validation=0, test=0))
    assert dataset.labels == ("cat",)
    table = targets(dataset.train, dataset.labels)
    assert table[:, :, 4].tolist() == [[0]] * 3


def test_voc_lists_give_the_parts_and_a_listed_name_without_a_file_is_told(
    tmp_path: Path, load: Callable[..., Dataset]
) -> None:
    lists = voc(tmp_path / "set") / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("1\n9\n", encoding="utf-8")
    (lists / "val.txt").write_text("2\n", encoding="utf-8")
    dataset = load(tmp_path / "set", max_bad_share=0.5, split=SplitOptions(test=0))
    assert (names(dataset.train), names(dataset.validation)) == (["1"], ["2"])
    assert "9 stands in the list" in quarantined(tmp_path / "run")[0]["reason"]
    assert any("1 XML files stand in no list" in note for note in dataset.summary.notes)


def yolo(folder: Path, yaml: str, labels: str = "0 0.5 0.5 0.5 0.5\n", part: str = "train") -> Path:
    for name in ("images", "labels"):
        (folder / part / name).mkdir(parents=True)
    for n in (1, 2, 3):
        (folder / part / "images" / f"{n}.png").write_bytes(picture(n))
    (folder / part / "labels" / "1.txt").write_text(labels, encoding="utf-8")
    (folder / "data.yaml").write_text(yaml, encoding="utf-8")
    return folder


def test_a_data_yaml_of_roboflow_is_read_with_its_odd_paths(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    folder = yolo(tmp_path / "set", "train: ../train/images\nnc: 2\nnames: ['no', '1.0']\n")
    dataset = load(folder / "data.yaml", split=SplitOptions(validation=0, test=0))
    assert dataset.labels == ("no",)
    assert boxes(dataset.train) == {"1": [[10, 7.5, 30, 22.5, "no", 0]], "2": [], "3": []}


def test_an_outline_becomes_the_box_around_it(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    folder = yolo(tmp_path / "set", "train: train/images\nnames: {0: cat}\n", "0 0.1 0.2 0.5 0.1 0.4 0.6\n")
    dataset = load(folder, split=SplitOptions(validation=0, test=0))
    assert boxes(dataset.train)["1"] == [[4, 3, 20, 18, "cat", 0]]
    assert any("1 lines hold outlines" in note for note in dataset.summary.notes)


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("path: /etc\ntrain: .\nnames: [cat]\n", "leads out of the folder"),
        ("train: ../../else\nnames: [cat]\n", "leads out of the folder"),
        ("train: nowhere\nnames: [cat]\n", "there is no nowhere"),
        ("train: train/images\nnames: {1: cat, 2: dog}\n", "must number the classes 0, 1, 2"),
        ("train: train/images\nnames: [cat, cat]\n", "a class twice"),
        ("train: train/images\nnames: []\n", "lists no classes"),
        ("train: train/images\nnames: [cat, '']\n", "a text or a list of texts"),
        ("a: &a [x, x]\nb: &b [*a, *a]\ntrain: train/images\nnames: [*b]\n", "a text or a list of texts"),
        ("names: [cat]\n", "must have"),
        ("train: [\n", "not valid YAML"),
        ("train: train/images\nnames: !!python/object/apply:os.getcwd []\n", "lists no classes"),
    ],
)
def test_a_data_yaml_of_no_use_stops_with_what_to_do(
    tmp_path: Path, load: Callable[..., Dataset], yaml: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        load(yolo(tmp_path / "set", yaml) / "data.yaml")


def test_pictures_without_any_label_file_are_refused(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    folder = yolo(tmp_path / "set", "train: train/images\nnames: [cat]\n")
    (folder / "train" / "labels" / "1.txt").unlink()
    with pytest.raises(DataError, match="not one picture has a label file"):
        load(folder)


@pytest.mark.parametrize("as_list", [False, True])
def test_a_hugging_face_set_is_read_from_disk_and_from_parquet(
    tmp_path: Path, load: Callable[..., Dataset], as_list: bool
) -> None:
    import datasets

    kind, box = datasets.ClassLabel(names=["cat", "dog"]), datasets.List(datasets.Value("float32"), length=4)
    one = {"bbox": box, "category": kind}
    objects = datasets.List(one) if as_list else {key: datasets.List(value) for key, value in one.items()}
    features = datasets.Features({"image": datasets.Image(), "objects": objects})
    rows = [[([1, 2, 10, 12], 0), ([3, 3, 9, 9], 1)], [], [([5, 5, 500, 10], 0)]]
    wide = [[{"bbox": b, "category": c} for b, c in row] for row in rows]
    long = [{"bbox": [b for b, _ in row], "category": [c for _, c in row]} for row in rows]
    images = [{"bytes": picture(n), "path": None} for n in range(3)]
    made = datasets.Dataset.from_dict({"image": images, "objects": wide if as_list else long}, features=features)
    made.save_to_disk(str(tmp_path / "disk"))
    made.to_parquet(str(tmp_path / "rows.parquet"))
    for path in (tmp_path / "disk", tmp_path / "rows.parquet"):
        dataset = load(path, split=SplitOptions(validation=0, test=0))
        found = [json.loads(example.inputs["boxes"]) for example in dataset.train]
        assert found == [[[1, 2, 11, 14, "cat", 0], [3, 3, 12, 12, "dog", 0]], [], [[5, 5, 40, 15, "cat", 0]]]
        assert dataset.labels == ("cat", "dog")
        assert dataset.summary.files[0]["corners"] == "[x, y, width, height]"
        assert "pictures.bin#bytes=" in dataset.train[0].inputs["image"]


@pytest.mark.parametrize("by_path", [False, True])
def test_corners_are_told_from_widths_by_what_stays_in_the_picture(
    by_path: bool, tmp_path: Path, load: Callable[..., Dataset]
) -> None:
    import datasets

    rows = [{"bbox": [[20.0, 15.0, 38.0, 28.0]], "category": ["cat"]} for _ in range(120)]
    rows[7]["bbox"] = [[20.0, 15.0, 20.0, 28.0]]  # one without width is somebody's slip, and no other form
    if by_path:
        (tmp_path / "disk").mkdir()
        for n in range(120):
            (tmp_path / "disk" / f"{n}.png").write_bytes(picture(n))
    images = [{"bytes": None if by_path else picture(n), "path": f"{n}.png" if by_path else None} for n in range(120)]
    features = datasets.Features({"image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
                                  "objects": {"bbox": [[datasets.Value("float64")]],
                                              "category": [datasets.Value("string")]}})  # fmt: skip
    made = datasets.Dataset.from_dict({"image": images, "objects": rows}, features=features)
    made.save_to_disk(str(tmp_path / "disk"))
    dataset = load(tmp_path / "disk", split=SplitOptions(validation=0, test=0), max_bad_share=0.1)
    assert json.loads(dataset.train[0].inputs["boxes"]) == [[20, 15, 38, 28, "cat", 0]]
    assert dataset.summary.files[0]["corners"] == "[x1, y1, x2, y2]"
