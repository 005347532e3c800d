from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.conftest import picture_file, quarantined

from tunesmith.data import images
from tunesmith.data.inspect import inspect
from tunesmith.errors import DataError
from tunesmith.pictures.decode import read_picture
from tunesmith.types import Dataset

Seen = Callable[..., Dataset]


def _table(root: Path, rows: list[tuple[int, str]], name: str = "labels.csv", folder: str = "img") -> Path:
    """A CSV of paths and labels, and the pictures of those numbers beside it."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    for number, _ in rows:
        (root / folder / f"{number}.png").write_bytes(picture_file(number))
    body = "".join(f"{folder}/{number}.png,{label}\n" for number, label in rows)
    (root / name).write_text("filename,label\n" + body)
    return root / name


def test_a_table_of_paths_is_read_and_split(tmp_path: Path, seen: Seen) -> None:
    path = _table(tmp_path / "d", [(i, "ab"[i % 2]) for i in range(20)])
    dataset = seen(path)
    assert dataset.labels == ("a", "b")
    assert dataset.summary.split_sizes == {"train": 16, "validation": 2, "test": 2}
    assert dataset.summary.files[0]["columns"] == {"image": "filename", "label": "label"}
    example = dataset.train[0]
    assert example.inputs["image"] == str((tmp_path / f"d/img/{example.line - 2}.png").resolve())
    assert not (tmp_path / "run/pictures.bin").exists()


def test_the_same_data_give_the_same_hashes_and_a_changed_picture_another(tmp_path: Path, seen: Seen) -> None:
    path = _table(tmp_path / "d", [(i, "ab"[i % 2]) for i in range(20)])
    one, two = (seen(path).summary.sha256 for _ in range(2))
    (tmp_path / "d/img/3.png").write_bytes(picture_file(99))
    three = seen(path).summary.sha256
    assert one == two
    assert one["pictures"] != three["pictures"]


def test_each_picture_is_decoded_exactly_once(tmp_path: Path, seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def counted(source: Any) -> np.ndarray:
        decoded.append(str(source))
        return read_picture(source)

    monkeypatch.setattr(images, "read_picture", counted)
    dataset = seen(_table(tmp_path / "d", [(i, "ab"[i % 2]) for i in range(20)]))
    inspect(dataset, None, None)
    assert len(decoded) == len(set(decoded)) == 20


def test_pictures_may_lie_in_a_folder_that_the_recipe_names(tmp_path: Path, seen: Seen) -> None:
    rows = [(i, "ab"[i % 2]) for i in range(20)]
    path = _table(tmp_path / "pictures", rows)
    (tmp_path / "lists").mkdir()
    path = path.rename(tmp_path / "lists/labels.csv")
    with pytest.raises(DataError, match="does not exist"):
        seen(path)
    assert seen(path, pictures=str(tmp_path / "pictures")).summary.used == 20
    with pytest.raises(DataError, match=r"data\.pictures.*no folder"):
        seen(path, pictures=str(tmp_path / "nowhere"))


def test_settings_that_mean_nothing_are_refused(
    tmp_path: Path, seen: Seen, opened: Callable[..., Dataset], written: Callable[..., Path]
) -> None:
    text = written("t.csv", "text,label\na,x\nb,y\n")
    with pytest.raises(DataError, match=r"data\.pictures is given, but means nothing for texts"):
        opened(text, pictures=str(tmp_path))
    with pytest.raises(DataError, match=r"data\.columns\.image is given, but this task takes one text"):
        opened(text, columns={"image": "text"})
    path = _table(tmp_path / "d", [(i, "ab"[i % 2]) for i in range(20)])
    with pytest.raises(DataError, match=r"data\.columns\.text is given, but this task takes pictures"):
        seen(path, columns={"text": "filename"})


def test_parts_in_files_leaks_and_contradictions_are_said_in_words_of_pictures(tmp_path: Path, seen: Seen) -> None:
    _table(tmp_path / "d", [*((i, "ab"[i % 2]) for i in range(20)), (1, "a")], "train.csv")
    _table(tmp_path / "d", [(0, "a"), (30, "b"), (31, "a")], "test.csv", folder="other")
    notes = seen(tmp_path / "d", format="csv").summary.notes
    assert any(note.startswith("LEAK: 1 of 3 test rows have a picture that is in train too (pixel") for note in notes)
    assert any(note.startswith("CONTRADICTION: 1 picture(s) stand with more") for note in notes)
    assert not any("text" in note for note in notes)


def test_bytes_in_parquet_become_places_in_one_file(tmp_path: Path, seen: Seen) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = [picture_file(i) for i in range(20)]
    files[7] = files[7][:-30]
    for name, cells in (("plain", files), ("hub", [{"bytes": f, "path": f"{i}.png"} for i, f in enumerate(files)])):
        table = pa.table({"image": cells, "label": [i % 2 for i in range(20)]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        dataset = seen(tmp_path / f"{name}.parquet", max_bad_share=0.1, split={"validation": 0, "test": 0})
        assert dataset.labels == ("0", "1")
        assert (dataset.summary.used, dataset.summary.quarantined) == (19, 1)
        (row,) = quarantined(tmp_path / "run")
        assert row["line"] == 8
        assert "\\x89PNG" in str(row["raw"]["image"])
        for example in dataset.train:
            assert (read_picture(example.inputs["image"]) == read_picture(files[example.line - 1])).all()


def test_a_hugging_face_data_set_of_pictures_keeps_bytes_and_class_names(tmp_path: Path, seen: Seen) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    rows = {"image": [{"bytes": picture_file(i), "path": None} for i in range(20)], "label": [0, 1] * 10}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    dataset = seen(tmp_path / "saved", split={"validation": 0, "test": 0})
    assert dataset.labels == ("cat", "dog")
    assert (read_picture(dataset.train[5].inputs["image"]) == read_picture(picture_file(5))).all()


def test_a_hub_picture_is_read_from_the_librarys_cache_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    from huggingface_hub import constants

    from tunesmith.data.readers.hugging_face import _from_cache

    (tmp_path / "cache").mkdir()
    for name in ("cache/in.png", "out.png"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert _from_cache({"bytes": None, "path": str(tmp_path / "cache/in.png")})["bytes"] == b"x"
    for path in (tmp_path / "out.png", tmp_path / "cache/../out.png"):
        assert _from_cache({"bytes": None, "path": str(path)})["bytes"] is None


def test_several_labels_a_picture_by_lists_or_by_a_separator(
    tmp_path: Path, seen: Seen, written: Callable[..., Path]
) -> None:
    path = _table(tmp_path / "d", [(i, ["a", "b", "a|b", "b"][i % 4]) for i in range(20)])
    listed = [{"image": f"img/{i}.png", "labels": [["a"], ["b"], ["a", "b"], []][i % 4]} for i in range(20)]
    lines = written("d/rows.jsonl", "".join(json.dumps(row) + "\n" for row in listed))
    for dataset in (seen(path, label_separator="|"), seen(lines)):
        assert dataset.multi_label
        assert dataset.labels == ("a", "b")
        assert ("a", "b") in {e.label for part in (dataset.train, dataset.validation, dataset.test) for e in part}


def test_a_file_without_header_is_understood_by_the_endings(tmp_path: Path, seen: Seen) -> None:
    path = _table(tmp_path / "d", [(i, "ab"[i % 2]) for i in range(20)])
    path.write_text(path.read_text().partition("\n")[2])
    dataset = seen(path)
    assert dataset.summary.used == 20
    assert any("column_1 is taken as picture and column_2 as label" in note for note in dataset.summary.notes)


def test_inspection_gives_sides_instead_of_tokens(tmp_path: Path, seen: Seen) -> None:
    rows = [(i, "ab"[i % 2]) for i in range(20)]
    path = _table(tmp_path / "d", rows, "train.csv")
    _table(tmp_path / "d", [(1, "b"), (50, "a"), (50, "a")], "test.csv")
    (tmp_path / "d/img/4.png").write_bytes(picture_file(4, size=(40, 3)))
    (tmp_path / "d/img/9.png").write_bytes(b"\x89PNG broken")
    found = inspect(seen(path.parent, max_bad_share=0.1, split={"validation": 0}), None, None)
    assert (found.read, found.used, found.quarantined) == (23, 22, 1)
    assert found.sides == {"smallest": 3, "median": 6, "largest": 40}
    assert found.exact_duplicates == found.near_duplicates == 2
    assert found.leaks == {"validation in train": 0, "test in train": 1, "test in validation": 0}
    assert found.contradictions == 0
    text = "\n".join(found.lines())
    assert "Sides of a picture in pixels: smallest 3, median 6, largest 40" in text
    assert "2 rows repeat an earlier picture pixel by pixel" in text
    assert "text" not in text.lower().replace("context", "")
    assert json.loads(json.dumps(found.as_dict()))["sides"]["largest"] == 40
