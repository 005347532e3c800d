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

from tunesmith.data.box_readers.base import registry
from tunesmith.data.load_boxes import load_boxes, read_boxes
from tunesmith.data.options import Columns, DataOptions, SplitOptions
from tunesmith.errors import DataError, RecipeError
from tunesmith.types import Dataset, Examples

PARTS = ("train", "validation", "test")


def picture(number: int, size: tuple[int, int] = (40, 30)) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def coco(
    folder: Path, numbers: list[int], *, name: str = "boxes.json", kinds: tuple[str, ...] = ("cat", "dog")
) -> Path:
    """A COCO file and its pictures; every picture has a cat, every fourth a dog too."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for n in numbers:
        (folder / "images" / f"{n}.png").write_bytes(picture(n))
        images.append({"id": n, "file_name": f"{n}.png", "width": 40, "height": 30})
        for kind in (1, 2) if n % 4 == 0 else (1,):
            box = [kind, 2, 10 + n % 9, 12]
            annotations.append({"id": len(annotations), "image_id": n, "category_id": kind, "bbox": box})
    categories = [{"id": n, "name": kind} for n, kind in enumerate(kinds, start=1)]
    known = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(known), encoding="utf-8")
    return path


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Dataset]:
    def load_it(path: Path | str, **options: Any) -> Dataset:
        return load_boxes(DataOptions(path=str(path), **options), tmp_path / "run")

    return load_it


def names(examples: Examples) -> list[str]:
    return sorted(Path(example.inputs["image"]).stem for example in examples)


def boxes(examples: Examples) -> dict[str, list[Any]]:
    return {Path(e.inputs["image"]).stem: sorted(json.loads(e.inputs["boxes"])) for e in examples}


@pytest.mark.slow
def test_the_three_forms_of_the_blood_cells_give_the_same_boxes_in_the_same_parts(shared: Path, tmp_path: Path) -> None:
    sets = {"coco": "bccd_coco_yolo", "yolo": "bccd_coco_yolo", "voc": "bccd_voc"}
    found = {}
    for form, name in sets.items():
        given = DataOptions(path=str(shared / "detection" / name), format=form)
        dataset = load_boxes(given, tmp_path / form)
        assert dict(dataset.summary.split_sizes) == {"train": 205, "validation": 87, "test": 72}
        assert set(dataset.labels) == {"WBC", "RBC", "Platelets"}
        found[form] = {part: boxes(getattr(dataset, part)) for part in PARTS}
        assert sum(len(b) for part in PARTS for b in found[form][part].values()) == 4886
    assert found["coco"] == found["voc"]
    assert found["coco"] == found["yolo"]
    refused = quarantined(tmp_path / "voc")  # two boxes without area, as published; the other forms lack them
    assert sorted(Path(row["file"]).stem for row in refused) == ["BloodImage_00338", "BloodImage_00343"]


def test_one_file_is_split_by_content_with_every_class_in_every_part(
    tmp_path: Path, load: Callable[..., Dataset]
) -> None:
    path = coco(tmp_path / "set", list(range(40)))
    dataset = load(path, split=SplitOptions(validation=0.2, test=0.2))
    assert dict(dataset.summary.split_sizes) == {"train": 24, "validation": 8, "test": 8}
    assert [dataset.summary.class_counts[part]["dog"] for part in PARTS] == [6, 2, 2]
    again = load(path, split=SplitOptions(validation=0.2, test=0.2))
    assert names(again.test) == names(dataset.test)
    other = load(path, split=SplitOptions(validation=0.2, test=0.2, seed=1))
    assert names(other.test) != names(dataset.test)


def test_copies_of_a_picture_never_straddle_a_split_and_are_told(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    path = coco(tmp_path / "set", list(range(30)))
    for n in range(15, 30):  # the same pixels under another name
        (tmp_path / "set" / "images" / f"{n}.png").write_bytes(picture(n - 15))
    dataset = load(path, split=SplitOptions(validation=0.3, test=0.3))
    for part in PARTS:
        here = {int(name) % 15 for name in names(getattr(dataset, part))}
        assert len(getattr(dataset, part)) == 2 * len(here)
    assert any("15 picture(s) repeat an earlier one" in note for note in dataset.summary.notes)
    assert dataset.summary.notes[0].startswith("CONTRADICTION: 15 picture(s)")


def test_a_picture_in_train_and_in_test_is_called_a_leak(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    train, test = coco(tmp_path / "a", list(range(20))), coco(tmp_path / "b", [18, 19, 20, 21])
    dataset = load(train, test=str(test))
    assert dataset.summary.notes[0].startswith("LEAK: 2 of 4 test pictures are in train too")
    assert dataset.summary.split_sizes["test"] == 4


def test_a_folder_of_coco_files_gives_its_parts_and_tells_pictures_of_one_name_apart(
    tmp_path: Path, load: Callable[..., Dataset]
) -> None:
    folders = {"train": [1, 2, 4], "valid": [1, 8], "test": [1, 12]}
    for seed, (folder, numbers) in enumerate(folders.items(), start=100):
        coco(tmp_path / "set" / folder, numbers, name="_annotations.coco.json")
        (tmp_path / "set" / folder / "images" / "1.png").write_bytes(picture(seed))
    dataset = load(tmp_path / "set")
    for part, folder in zip(PARTS, folders, strict=True):
        assert {Path(e.inputs["image"]).parts[-3] for e in getattr(dataset, part)} == {folder}
    assert not any(note.startswith("LEAK") for note in dataset.summary.notes)


def test_a_class_that_train_lacks_stops_the_load(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    train = coco(tmp_path / "a", [1, 2, 3, 4])
    test = coco(tmp_path / "b", [8], kinds=("cat", "eel"))
    with pytest.raises(DataError, match=r"lack: eel\. Train knows: cat, dog"):
        load(train, test=str(test))


def test_a_listed_class_without_any_box_is_left_out_with_a_note(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    dataset = load(coco(tmp_path / "set", [1, 2, 4, 8], kinds=("cat", "dog", "eel")), split=SplitOptions(test=0))
    assert dataset.labels == ("cat", "dog")
    assert any('left out: "eel"' in note for note in dataset.summary.notes)


def test_the_recipe_may_fix_the_order_of_classes(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    assert load(coco(tmp_path / "set", [1, 2, 4, 8]), labels=("dog", "cat")).labels == ("dog", "cat")


def test_a_limit_keeps_the_shares_of_classes(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    dataset = load(coco(tmp_path / "set", list(range(40))), limit=20, split=SplitOptions(validation=0, test=0))
    assert dataset.summary.class_counts["train"] == {"cat": 20, "dog": 5}
    assert any("20 of 40 usable pictures are left out" in note for note in dataset.summary.notes)


def test_a_picture_that_does_not_decode_goes_to_quarantine_with_its_boxes(
    tmp_path: Path, load: Callable[..., Dataset]
) -> None:
    path = coco(tmp_path / "set", [1, 2, 3, 4])
    (tmp_path / "set" / "images" / "4.png").write_bytes(picture(4)[:200])
    dataset = load(path, max_bad_share=0.5)
    assert (dataset.summary.read, dataset.summary.used, dataset.summary.quarantined) == (4, 3, 1)
    counted = dataset.summary.files[0]["boxes"]
    assert (counted["read"], counted["used"], counted["with_picture"]) == (5, 3, 2)
    assert "4.png" in quarantined(tmp_path / "run")[0]["reason"]


def test_boxes_are_in_pixels_of_the_upright_picture(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    path = coco(tmp_path / "set", [1, 2, 3])
    turned = Image.open(io.BytesIO(picture(3, (30, 40))))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right: upright it is 40 x 30, as the file says
    turned.save(tmp_path / "set" / "images" / "3.png", exif=exif)
    assert load(path, max_bad_share=0.0).summary.used == 3
    turned.save(tmp_path / "set" / "images" / "3.png")
    with pytest.raises(DataError, match="say that the picture is 40 x 30 pixels"):
        load(path)


def test_pictures_may_lie_in_a_folder_that_the_recipe_names(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    path = coco(tmp_path / "set", [1, 2, 3])
    (tmp_path / "set" / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="3 of 3 pictures cannot be used"):
        load(path)
    assert load(path, pictures=str(tmp_path / "elsewhere")).summary.used == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoding": "utf-8"}, "data.encoding"),
        ({"columns": Columns(label="kind")}, "data.columns.label"),
        ({"multi_label": True}, "data.multi_label"),
        ({"split": SplitOptions(group_by="patient")}, "data.split.group_by"),
    ],
)
def test_a_setting_that_means_nothing_for_boxes_is_refused(
    tmp_path: Path, load: Callable[..., Dataset], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        load(coco(tmp_path / "set", [1, 2]), **options)


def test_what_holds_no_boxes_is_refused_with_what_would(tmp_path: Path, load: Callable[..., Dataset]) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "notes.txt").write_text("nothing", encoding="utf-8")
    with pytest.raises(DataError, match="neither COCO JSON files"):
        load(tmp_path / "set")
    with pytest.raises(DataError, match=r"name a folder, or a file that ends in \.json"):
        load(tmp_path / "set" / "notes.txt")
    with pytest.raises(DataError, match="There is no file or folder"):
        load(tmp_path / "sett")
    with pytest.raises(RecipeError, match=r'unknown box_reader "coko".*coco'):
        load(tmp_path / "set", format="coko")


def test_a_finished_model_is_scored_on_every_picture_of_a_file_in_order(tmp_path: Path) -> None:
    path = coco(tmp_path / "set", [5, 4, 8])
    examples = read_boxes(str(path), DataOptions(path="unused.json"), tmp_path / "run")
    assert [Path(example.inputs["image"]).stem for example in examples] == ["5", "4", "8"]
    assert json.loads(examples[1].inputs["boxes"])[1][4] == "dog"


def test_the_same_data_have_the_same_hashes_and_other_pixels_have_others(
    tmp_path: Path, load: Callable[..., Dataset]
) -> None:
    path = coco(tmp_path / "set", [1, 2, 3])
    first, again = load(path).summary.sha256, load(path).summary.sha256
    assert first == again
    (tmp_path / "set" / "images" / "2.png").write_bytes(picture(77))
    assert load(path).summary.sha256 != first


def test_every_reader_says_what_it_reads() -> None:
    assert set(registry.names()) == {"coco", "voc", "yolo", "hugging_face"}
    assert all(len(registry.describe(name)) > 20 for name in registry.names())
