from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from tunesmith.data.inspect import inspect
from tunesmith.types import Dataset


def _words(texts: Sequence[str], pairs: Sequence[str] | None) -> list[int]:
    assert pairs is None
    return [len(text.split()) for text in texts]


def test_figures_and_what_is_done_about_them(written: Callable[..., Path], opened: Callable[..., Dataset]) -> None:
    rows = [f"{'word ' * (i + 1)}{i},{'x' if i % 4 else 'y'}" for i in range(20)]
    rows += ["Again,x", "Again,x", "again,y", ",x"]
    train = written("d/train.csv", "text,label\n" + "\n".join(rows) + "\n")
    written("d/test.csv", "text,label\nagain,x\nnew one,y\n")
    dataset = opened(train.parent, max_bad_share=0.5, split={"validation": 0})
    found = inspect(dataset, _words, 10)
    assert (found.read, found.used, found.quarantined) == (26, 25, 1)
    assert found.classes == {
        "x": {"train": 17, "validation": 0, "test": 1},
        "y": {"train": 6, "validation": 0, "test": 1},
    }
    assert (found.lengths or {})["longest"] == 21
    assert (found.lengths or {})["shortest"] == 1
    assert found.cut == 11  # texts of 11 to 21 words
    assert found.cut_share == 11 / 25
    assert (found.exact_duplicates, found.near_duplicates) == (2, 3)
    assert found.leaks == {"validation in train": 0, "test in train": 1, "test in validation": 0}
    assert found.contradictions == 1
    assert round(found.imbalance, 3) == round(17 / 6, 3)
    text = "\n".join(found.lines())
    for words in ("26 read = 25 used + 1 quarantined", "11 texts (44.0%)", "1 rows of test in train", "all copies"):
        assert words in text
    assert json.loads(json.dumps(found.as_dict()))["cut"] == 11


def test_without_a_tokenizer_lengths_are_left_out(written: Callable[..., Path], opened: Callable[..., Dataset]) -> None:
    dataset = opened(written("a.csv", "text,label\n" + "".join(f"t{i},{i % 2}\n" for i in range(20))))
    found = inspect(dataset, None, 128)
    assert found.lengths is None
    assert not any("Tokens" in line for line in found.lines())
