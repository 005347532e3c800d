from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tunesmith.data import store
from tunesmith.data.store import ArrowExamples, Store, Writer
from tunesmith.types import Example


def test_rows_come_back_from_disk_over_batch_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BATCH_ROWS", 3)
    with Writer(tmp_path / "a.arrow", ("text", "text_pair")) as writer:
        for i in range(10):
            writer.add([f"t{i}", f"p{i}"] if i % 2 else [f"t{i}\0\u2028"], i % 3 - 1, "a.csv", i + 2)
    examples = ArrowExamples(Store(tmp_path / "a.arrow", ["x", ("y", "z")]), np.array([9, 0, 4]))
    assert len(examples) == 3
    assert examples[0] == examples[-3] == Example({"text": "t9", "text_pair": "p9"}, None, "a.csv", 11)
    assert examples[1].inputs == {"text": "t0\0\u2028"}
    assert [e.label for e in examples] == [None, None, "x"]
    assert [e.line for e in examples[1:]] == [2, 6]
    with pytest.raises(IndexError):
        examples[3]


def test_batches_end_by_size_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BATCH_CHARACTERS", 100)
    with Writer(tmp_path / "a.arrow", ("text",)) as writer:
        for i in range(6):
            writer.add(["x" * 60], 0, "a", i)
    found = Store(tmp_path / "a.arrow", ["x"])
    assert len(found._batches) == 3
    assert len(found) == 6


def test_an_older_store_stays_readable_when_the_file_is_written_anew(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with Writer(tmp_path / "a.arrow", ("text",)) as writer:
            writer.add([text], 0, "a", 1)
        if text == "old":
            before = Store(tmp_path / "a.arrow", ["x"])
    assert before[0].inputs["text"] == "old"
    assert Store(tmp_path / "a.arrow", ["x"])[0].inputs["text"] == "new"


def _stopped(path: Path) -> None:
    with Writer(path, ("text",)) as writer:
        writer.add(["a"], 0, "a", 1)
        raise ValueError("stop")


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"):
        _stopped(tmp_path / "a.arrow")
    assert list(tmp_path.iterdir()) == []


def test_membership_has_a_hash(tmp_path: Path) -> None:
    with Writer(tmp_path / "a.arrow", ("text",)) as writer:
        writer.add(["a"], 0, "a", 1)
    found = Store(tmp_path / "a.arrow", ["x"])
    one, two = ArrowExamples(found, np.array([0])), ArrowExamples(found, np.array([], dtype=np.int64))
    assert one.membership_sha256() != two.membership_sha256()
