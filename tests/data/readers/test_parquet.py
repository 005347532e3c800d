from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunesmith.errors import DataError
from tunesmith.types import Dataset


def test_whole_numbers_become_names_and_lists_become_several_labels(
    tmp_path: Path, opened: Callable[..., Dataset]
) -> None:
    texts = [f"text {i}" for i in range(30)]
    pq.write_table(pa.table({"text": texts, "label": [i % 3 for i in range(30)]}), tmp_path / "a.parquet")
    assert opened(tmp_path / "a.parquet").labels == ("0", "1", "2")
    lists = [["a"], ["a", "b"], []] * 10
    pq.write_table(pa.table({"text": texts, "labels": lists}), tmp_path / "b.parquet")
    dataset = opened(tmp_path / "b.parquet")
    assert dataset.multi_label
    assert dataset.labels == ("a", "b")
    assert {example.label for example in dataset.train} == {("a",), ("a", "b"), ()}


def test_a_text_that_is_not_utf8_costs_its_own_row(tmp_path: Path, opened: Callable[..., Dataset]) -> None:
    raw = pa.array([b"good", b"bad \xff", b"fine", b"ok"] * 5, pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    pq.write_table(pa.table({"text": text, "label": ["x", "y"] * 10}), tmp_path / "a.parquet")
    summary = opened(tmp_path / "a.parquet", max_bad_share=0.5).summary
    assert (summary.used, summary.quarantined) == (15, 5)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path, opened: Callable[..., Dataset]) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match="Parquet"):
        opened(tmp_path / "a.parquet")


def test_a_number_as_text_is_quarantined_with_its_kind(tmp_path: Path, opened: Callable[..., Dataset]) -> None:
    pq.write_table(pa.table({"text": [1, 2], "label": ["x", "y"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="is a number, not text"):
        opened(tmp_path / "a.parquet")
