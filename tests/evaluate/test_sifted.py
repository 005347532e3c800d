"""What a model cannot learn of the data is counted and kept; the law holds before and after."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data.load import load
from tunesmith.data.options import DataOptions
from tunesmith.data.sifted import SiftedExamples
from tunesmith.errors import DataError
from tunesmith.evaluate.sifted import sifted
from tunesmith.tasks.base import Task
from tunesmith.types import Dataset, Example


class Sieve:
    """Splits texts at ten letters and leaves out those that say no."""

    sifts = True

    def sift(self, examples: Sequence[Example], _pretrained: Any) -> list[tuple[int, ...] | str]:
        return ["it says no" if "no" in e.inputs["text"] else tuple(range(-(-len(e.inputs["text"]) // 10)))
                for e in examples]  # fmt: skip


def data(place: Path, texts: Sequence[str]) -> Dataset:
    lines = "".join(json.dumps({"text": text, "label": "ab"[n % 2]}) + "\n" for n, text in enumerate(texts))
    (place / "data.jsonl").write_text(lines, encoding="utf-8")
    split = {"validation": 0.0, "test": 0.2}
    options = DataOptions.model_validate({"path": str(place / "data.jsonl"), "split": split})
    return load(options, place / "work", inputs=("text",))


def test_rows_that_are_left_out_are_in_quarantine_and_the_law_holds(tmp_path: Path) -> None:
    given = data(tmp_path, [f"text {n}" if n % 5 else f"no {n}" for n in range(30)])
    found = sifted(cast_task(Sieve()), given, None)  # type: ignore[arg-type]
    summary = found.summary
    assert summary.read == 30 == summary.used + summary.quarantined + summary.blank
    assert summary.quarantined == 6
    assert sum(summary.split_sizes.values()) == 24 == len(found.train) + len(found.test)
    assert summary.files[0]["used"] == 24
    lines = (tmp_path / "work" / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["it says no"] * 6
    assert any("cannot be learned from" in note for note in summary.notes)


def test_a_long_text_becomes_windows_that_say_which_they_are(tmp_path: Path) -> None:
    given = data(tmp_path, [f"{n} is a text of {'many ' * (n % 3)}words" for n in range(10)])
    found = sifted(cast_task(Sieve()), given, None)  # type: ignore[arg-type]
    assert isinstance(found.train, SiftedExamples)
    parts = [example.inputs.get("part") for example in found.train]
    assert {"1/2", "2/2"} <= set(parts)
    assert len(found.train) == sum(-(-len(example.inputs["text"]) // 10) for example in given.train)
    assert found.train.membership_sha256() != given.train.membership_sha256()  # type: ignore[attr-defined]


def test_nothing_is_changed_where_all_can_be_learned(tmp_path: Path) -> None:
    given = data(tmp_path, [f"text {n}" for n in range(10)])
    found = sifted(cast_task(Sieve()), given, None)  # type: ignore[arg-type]
    assert found.train is given.train
    assert found.summary == given.summary


def test_nothing_left_is_an_error_with_the_reason(tmp_path: Path) -> None:
    given = data(tmp_path, [f"no {n}" for n in range(10)])
    with pytest.raises(DataError, match="it says no"):
        sifted(cast_task(Sieve()), given, None)  # type: ignore[arg-type]


def cast_task(sieve: Sieve) -> Task:
    return sieve  # type: ignore[return-value]
