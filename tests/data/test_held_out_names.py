"""Files that are held out by their names are never trained on in silence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tunesmith.data.find import find, find_one
from tunesmith.data.options import DataOptions
from tunesmith.errors import DataError


def found(place: Path, names: Sequence[str]) -> list[str | None]:
    for name in names:
        (place / name).write_text("text,label\na,b\n", encoding="utf-8")
    sources, _ = find(DataOptions.model_validate({"path": str(place)}), "texts")
    return [source.part for source in sources]


@pytest.mark.parametrize(
    "names",
    [("imdb_train.csv", "imdb_test.csv"), ("reviews.csv", "test.csv"), ("a.csv", "dev-set.csv"), ("val.csv", "b.csv")],
)
def test_a_held_out_file_beside_others_must_be_named(tmp_path: Path, names: Sequence[str]) -> None:
    with pytest.raises(DataError, match="held out"):
        found(tmp_path, names)


@pytest.mark.parametrize("names", [("a.csv", "b.csv"), ("latest.csv", "contest.csv"), ("my_test.csv",)])
def test_others_are_put_together(tmp_path: Path, names: Sequence[str]) -> None:
    assert found(tmp_path, names) == [None] * len(names)


def test_files_by_their_parts_stay_what_they_are(tmp_path: Path) -> None:
    assert found(tmp_path, ("test.csv", "train.csv", "valid.csv")) == ["test", "train", "validation"]


def test_what_was_named_as_held_out_is_read(tmp_path: Path) -> None:
    for name in ("train-0.csv", "train-1.csv", "test-0.csv", "test-1.csv"):
        (tmp_path / name).write_text("text,label\na,b\n", encoding="utf-8")
    told = {"path": str(tmp_path / "train-*.csv"), "test": str(tmp_path / "test-*.csv")}
    sources, _ = find(DataOptions.model_validate(told), "texts")
    assert [source.part for source in sources] == [None, None, "test", "test"]
    assert len(find_one(str(tmp_path / "test-*.csv"), DataOptions.model_validate(told), "texts")) == 2
