"""A tokenizer is a stranger's file too: no code of it runs, and what panics in it is told in words."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from tunesmith.errors import ModelError
from tunesmith.models.lengths import token_lengths
from tunesmith.models.source import locate
from tunesmith.models.tokenizer import read_tokenizer, try_tokenizer

BROKEN: dict[str, dict[str, Any]] = {
    "pieces of length 0": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    "an empty table": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}},
    "a pattern that does not close": {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}
    },
}


def changed(folder: Path, target: Path, settings: dict[str, Any]) -> Path:
    shutil.copytree(folder, target)
    file = target / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return target


@pytest.mark.parametrize("name", BROKEN)
def test_a_tokenizer_that_panics_is_a_fault_in_words(
    name: str, tiny_folders: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = changed(tiny_folders("bert"), tmp_path / "m", BROKEN[name])
    with pytest.raises(ModelError, match="tokenizer"):
        token_lengths(locate(str(folder)))


@pytest.mark.parametrize("part", ["single", "pair"])
def test_a_special_token_that_is_not_listed_is_a_fault_in_words(
    part: str, tiny_folders: Callable[[str], Path], tmp_path: Path
) -> None:
    told = json.loads((tiny_folders("bert") / "tokenizer.json").read_text())["post_processor"]
    told[part].insert(0, {"SpecialToken": {"id": "[NOPE]", "type_id": 0}})
    folder = changed(tiny_folders("bert"), tmp_path / "m", {"post_processor": told})
    with pytest.raises(ModelError, match="cannot cut a text"):
        read_tokenizer(folder, pairs=True)


def test_being_stopped_is_no_fault_of_the_tokenizer(tmp_path: Path) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        try_tokenizer(stopped, tmp_path)


def test_counting_tokens_never_runs_a_tokenizers_own_code(
    tiny_folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_folders("bert"), folder)
    told = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["e.Own", "e.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "own"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "e.py").write_text(f"open({str(tmp_path / 'MARKER')!r}, 'w')\nclass Own: ...\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ModelError, match="does not run"):
        token_lengths(locate(str(folder)))
    assert not (tmp_path / "MARKER").exists()


def test_a_sound_tokenizer_is_read_as_transformers_reads_it(tiny_folders: Callable[[str], Path]) -> None:
    ours, plain = read_tokenizer(tiny_folders("bert")), PreTrainedTokenizerFast.from_pretrained(tiny_folders("bert"))
    assert ours("a good film", "not bad")["input_ids"] == plain("a good film", "not bad")["input_ids"]
