"""Examples encoded in lots, and windows of one text that share it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data import encoded
from tunesmith.data.encoded import encode_to_disk, lots
from tunesmith.data.sifted import SiftedExamples
from tunesmith.types import Example


def example(text: str, line: int = 1) -> Example:
    return Example({"text": text}, file="a.csv", line=line)


class Whole:
    """Counts how often a text is fetched; each time it is a new string, as from a file."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts, self.fetched = texts, 0

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Example:
        self.fetched += 1
        return example("".join(list(self.texts[index])), index)


def test_lots_are_small_in_rows_and_in_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "LETTERS", 100)
    found = list(lots((example("x" * 30) for _ in range(10)), most=3))
    assert [len(some) for some in found] == [3, 3, 3, 1]
    assert [len(some) for some in lots(example(f"{n}" + "x" * 60) for n in range(5))] == [2, 2, 1]
    assert list(lots([])) == []


def test_windows_of_one_text_share_it_and_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "LETTERS", 100)
    whole = Whole(["x" * 90, "y" * 90])
    windows = SiftedExamples(whole, [(0, n, 50) for n in range(50)] + [(1, n, 2) for n in range(2)])
    rows = [windows[i] for i in range(len(windows))]
    assert whole.fetched == 2
    assert [row.inputs["part"] for row in rows[49:51]] == ["50/50", "1/2"]
    assert [len(some) for some in lots(rows)] == [51, 1]


def test_rows_of_one_width_are_summed_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "ROWS", 2)

    def encode(rows: Sequence[Example]) -> list[dict[str, Any]]:
        return [{"input_ids": [1], "answers": [len(str(row.inputs["text"])), 1, 2**30]} for row in rows]

    found = encode_to_disk(Whole(["a", "bb", "ccc", "d", "e"]), encode, tmp_path / "rows")  # type: ignore[arg-type]
    assert found.summed("answers", 3).tolist() == [8, 5, 5 * 2**30]


def test_what_is_encoded_does_not_hang_on_the_lots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["ab" * n for n in range(1, 30)]
    sizes: list[int] = []

    def encode(rows: Sequence[Example]) -> list[dict[str, Any]]:
        sizes.append(len(rows))
        return [{"input_ids": [ord(c) for c in str(row.inputs["text"])]} for row in rows]

    one = encode_to_disk(Whole(texts), encode, tmp_path / "one")  # type: ignore[arg-type]
    monkeypatch.setattr(encoded, "LETTERS", 50)
    two = encode_to_disk(Whole(texts), encode, tmp_path / "two")  # type: ignore[arg-type]
    assert sizes[0] == 29
    assert len(sizes) > 10
    assert [found["input_ids"].tolist() for found in (one[i] for i in range(29))] == [
        found["input_ids"].tolist() for found in (two[i] for i in range(29))
    ]
