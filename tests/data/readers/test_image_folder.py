from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.data.conftest import picture_file, quarantined

from tunesmith.data.load import read_unlabelled
from tunesmith.data.options import DataOptions
from tunesmith.errors import DataError
from tunesmith.types import Dataset

Seen = Callable[..., Dataset]


def _folder(root: Path, classes: tuple[str, ...] = ("cat", "dog"), *, start: int = 0, count: int = 10) -> Path:
    for place, label in enumerate(classes):
        for number in range(count):
            path = root / label / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture_file(start + 100 * place + number))
    return root


def test_folders_are_classes_and_pictures_are_examples(tmp_path: Path, seen: Seen) -> None:
    dataset = seen(_folder(tmp_path / "pets"))
    assert dataset.labels == ("cat", "dog")
    assert dataset.summary.split_sizes == {"train": 16, "validation": 2, "test": 2}
    for example in dataset.train:
        path = Path(example.inputs["image"])
        assert path.is_absolute()
        assert path.parent.name == example.label
        assert example.file.endswith(f"pets/{example.label}/{path.name}")


def test_parts_in_folders_are_kept(tmp_path: Path, seen: Seen) -> None:
    _folder(tmp_path / "pets/train")
    _folder(tmp_path / "pets/val", start=1000, count=3)
    _folder(tmp_path / "pets/test", start=2000, count=4)
    (tmp_path / "pets/notes").mkdir()
    dataset = seen(tmp_path / "pets")
    assert dataset.summary.split_sizes == {"train": 20, "validation": 6, "test": 8}
    assert any("left aside beside the parts are 1 entries, such as notes" in note for note in dataset.summary.notes)


def test_pictures_deeper_down_belong_to_the_class_at_the_top(tmp_path: Path, seen: Seen) -> None:
    root = _folder(tmp_path / "pets")
    (root / "cat/by_day/monday").mkdir(parents=True)
    (root / "cat/by_day/monday/x.PNG").write_bytes(picture_file(999))
    assert seen(root, split={"test": 0, "validation": 0}).summary.class_counts["train"] == {"cat": 11, "dog": 10}


def test_junk_hidden_folders_and_links_to_folders_are_left_aside_and_counted(tmp_path: Path, seen: Seen) -> None:
    root = _folder(tmp_path / "pets")
    for name in ("cat/Thumbs.db", "cat/.DS_Store", ".git/1.png", "__MACOSX/1.png", "notes.txt", "README.md"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(picture_file(5000))
    (root / "cat/loop").symlink_to("../cat")
    (root / "all").symlink_to(".")
    dataset = seen(root)
    assert dataset.summary.read == 20
    note = next(note for note in dataset.summary.notes if "left aside are" in note)
    for words in ("2 file(s) that are no pictures", "1 hidden file(s)", "2 hidden folder(s)", "2 link(s)"):
        assert words in note


def test_a_link_out_of_the_folder_is_quarantined_and_one_inside_is_followed(tmp_path: Path, seen: Seen) -> None:
    (tmp_path / "secret.png").write_bytes(picture_file(1))
    root = _folder(tmp_path / "pets")
    (root / "cat/out.png").symlink_to(tmp_path / "secret.png")
    (root / "cat/inside.png").symlink_to("../dog/01.png")
    dataset = seen(root, max_bad_share=0.5)
    assert (dataset.summary.read, dataset.summary.used) == (22, 21)
    (row,) = quarantined(tmp_path / "run")
    assert "leads out of the data folder" in row["reason"]
    assert row["file"].endswith("cat/out.png")


def test_unicode_spellings_of_a_name_are_one_class_and_case_makes_two(tmp_path: Path, seen: Seen) -> None:
    root = _folder(tmp_path / "pets", ("caf\u00e9", "cafe\u0301", "Cat", "cat"), count=4)
    dataset = seen(root)
    assert dataset.labels == ("Cat", "café", "cat")
    assert any("2 folders spell" in note for note in dataset.summary.notes)
    assert any('"Cat" and "cat" differ only in case' in note for note in dataset.summary.notes)


def test_an_empty_class_is_noted_and_makes_no_class(tmp_path: Path, seen: Seen) -> None:
    root = _folder(tmp_path / "pets")
    (root / "cow").mkdir()
    (root / "cow/.gitkeep").write_text("")
    dataset = seen(root)
    assert dataset.labels == ("cat", "dog")
    assert any("no picture in cow" in note for note in dataset.summary.notes)


def test_a_name_that_is_not_utf8_is_quarantined(tmp_path: Path, seen: Seen) -> None:
    root = _folder(tmp_path / "pets")
    os.rename(os.fsencode(root / "cat/00.png"), os.fsencode(root / "cat") + b"/\xff.png")
    dataset = seen(root, max_bad_share=0.5)
    assert dataset.summary.quarantined == 1
    assert "0xff" in quarantined(tmp_path / "run")[0]["reason"]
    assert "\\xff.png" in quarantined(tmp_path / "run")[0]["file"]


def test_copies_never_straddle_a_split_whatever_their_names(tmp_path: Path, seen: Seen) -> None:
    root = _folder(tmp_path / "pets")
    for number in range(10):
        (root / f"cat/copy{number}.png").write_bytes((root / f"cat/{number:02}.png").read_bytes())
        (root / f"dog/copy{number}.bmp").write_bytes(picture_file(100 + number, form="BMP"))
    dataset = seen(root, split={"test": 0.3, "validation": 0.3})
    parts = [
        {Path(e.inputs["image"]).stem.removeprefix("copy").lstrip("0") + str(e.label) for e in part}
        for part in (dataset.train, dataset.validation, dataset.test)
    ]
    assert sum(map(len, parts)) == 20
    assert all(parts)
    assert any("20 row(s) repeat an earlier picture (pixel by pixel)" in note for note in dataset.summary.notes)


def test_loose_pictures_cannot_be_trained_on_but_predicted(tmp_path: Path, seen: Seen) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for number, name in enumerate(("b.png", "a.png", "train.png")):
        (root / name).write_bytes(picture_file(number))
    (root / "notes.txt").write_text("seen in the garden\n")
    with pytest.raises(DataError, match=r"holds pictures but no labels.*a folder of its own"):
        seen(root)
    options = DataOptions(path="x")
    for path in (root, root / "*.png"):
        examples = read_unlabelled(str(path), options, tmp_path / "p", ("image",), kind="images")
        assert [Path(e.inputs["image"]).name for e in examples] == ["a.png", "b.png", "train.png"]
        assert {e.label for e in examples} == {None}
    (one,) = read_unlabelled(str(root / "a.png"), options, tmp_path / "p", ("image",), kind="images")
    assert one.inputs["image"] == str((root / "a.png").resolve())


def test_pictures_beside_class_folders_have_no_label_and_are_quarantined(tmp_path: Path, seen: Seen) -> None:
    root = _folder(tmp_path / "pets")
    (root / "stray.png").write_bytes(picture_file(77))
    dataset = seen(root, max_bad_share=0.5)
    assert dataset.summary.quarantined == 1
    assert "no value for the label" in quarantined(tmp_path / "run")[0]["reason"]


def test_folders_called_train_and_test_of_loose_pictures_are_no_classes(tmp_path: Path, seen: Seen) -> None:
    for part in ("train", "test"):
        (tmp_path / "d" / part).mkdir(parents=True)
        (tmp_path / "d" / part / "1.png").write_bytes(picture_file(len(part)))
    with pytest.raises(DataError, match="holds pictures but no labels"):
        seen(tmp_path / "d")


def test_a_table_of_labels_wins_over_one_folder_of_pictures(tmp_path: Path, seen: Seen) -> None:
    root = _folder(tmp_path / "d", ("images",), count=20)
    rows = "".join(f"images/{i:02}.png,{'ab'[i % 2]}\n" for i in range(20))
    (root / "labels.csv").write_text("file_name,label\n" + rows)
    assert seen(root).labels == ("a", "b")


def test_a_table_beside_folders_that_could_be_classes_is_a_question(tmp_path: Path, seen: Seen) -> None:
    root = _folder(tmp_path / "d", ("train_images", "test_images"))
    rows = "".join(f"train_images/{i:02}.png,{'ab'[i % 2]}\n" for i in range(10))
    (root / "train.csv").write_text("image,label\n" + rows)
    with pytest.raises(DataError, match=r"folders of pictures and train.csv: .*data.format=image_folder.*data.path="):
        seen(root)
    assert seen(root, format="image_folder").labels == ("test_images", "train_images")
    assert seen(root / "train.csv").labels == seen(root, format="csv").labels == ("a", "b")


def test_metadata_files_in_part_folders_are_read(tmp_path: Path, seen: Seen) -> None:
    for part, start in (("train", 0), ("test", 50)):
        folder = tmp_path / "d" / part
        folder.mkdir(parents=True)
        for number in range(10):
            (folder / f"{number}.png").write_bytes(picture_file(start + number))
        rows = "".join(f"{i}.png,{'ab'[i % 2]}\n" for i in range(10))
        (folder / "metadata.csv").write_text("file_name,label\n" + rows)
    sizes = seen(tmp_path / "d", split={"validation": 0.2}).summary.split_sizes
    assert sizes == {"train": 8, "validation": 2, "test": 10}


def test_a_text_task_makes_nothing_of_pictures_and_the_other_way_round(
    tmp_path: Path, seen: Seen, opened: Callable[..., Dataset]
) -> None:
    with pytest.raises(DataError, match=r"holds no data.*\.txt files"):
        opened(_folder(tmp_path / "pets"))
    for label in ("good", "bad"):
        (tmp_path / "texts" / label).mkdir(parents=True)
        (tmp_path / "texts" / label / "1.txt").write_text(label)
    with pytest.raises(DataError, match=r"holds no data.*pictures"):
        seen(tmp_path / "texts")
    with pytest.raises(DataError, match='"text_folder", which holds no images'):
        seen(tmp_path / "texts", format="text_folder")
