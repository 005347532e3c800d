from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import DataError
from tunesmith.types import Dataset


@pytest.fixture(scope="module")
def datasets() -> Any:
    return pytest.importorskip("datasets")


def _rows(datasets: Any, count: int, prefix: str = "t") -> Any:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    rows = {"text": [f"{prefix}{i}" for i in range(count)], "label": [i % 2 for i in range(count)]}
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_saved_data_set_keeps_its_parts_and_class_names(
    datasets: Any, tmp_path: Path, opened: Callable[..., Dataset]
) -> None:
    parts = {"train": _rows(datasets, 20), "test": _rows(datasets, 6, "u"), "unsupervised": _rows(datasets, 3, "v")}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    dataset = opened(tmp_path / "saved")
    assert dataset.labels == ("neg", "pos")
    assert dataset.summary.split_sizes == {"train": 18, "validation": 2, "test": 6}
    assert any("unsupervised" in note for note in dataset.summary.notes)


def test_a_single_saved_table_is_split_and_lists_are_several_labels(
    datasets: Any, tmp_path: Path, opened: Callable[..., Dataset]
) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "labels": datasets.List(datasets.ClassLabel(names=["a", "b"]))}
    )
    rows = {"text": [f"t{i}" for i in range(20)], "labels": [[0], [0, 1], [1], []] * 5}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "one"))
    dataset = opened(tmp_path / "one")
    assert dataset.multi_label
    assert dataset.labels == ("a", "b")
    assert dataset.summary.split_sizes == {"train": 16, "validation": 2, "test": 2}


def test_a_folder_that_only_looks_saved_is_refused(
    datasets: Any, tmp_path: Path, opened: Callable[..., Dataset]
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="cannot be loaded by datasets"):
        opened(tmp_path / "broken")
