"""A model that cannot generate is fitted all the same; only who asks for answers in words is told that it cannot."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from tests.run.tiny_speaker import fit_speaker, write_questions, write_speaker

from tunesmith.errors import ModelError
from tunesmith.run.folder import open_run

SHORT = ("train.steps=1", "train.evaluate_every=1", "method=bitfit", "task=causal_lm")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A model of the first GPT's kind, which transformers gives no cache, and questions."""
    import torch
    from transformers import OpenAIGPTConfig, OpenAIGPTLMHeadModel

    folder = write_speaker(tmp_path / "model")
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    config = OpenAIGPTConfig(vocab_size=rows, n_embd=32, n_layer=2, n_head=4, n_positions=256, pad_token_id=0)
    OpenAIGPTLMHeadModel(config).save_pretrained(folder)
    write_questions(tmp_path / "questions.jsonl")
    return tmp_path


def test_by_default_it_is_passed_over_with_a_note(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        folder = fit_speaker(root, root / "run", "task={name: causal_lm}", *SHORT)
    assert any("task.answers.rows=0" in each.getMessage() for each in caplog.records)
    kept = json.loads((folder / "predictions" / "answers.json").read_text(encoding="utf-8"))
    assert kept["rows"] == []
    assert "keeps no keys and values" in kept["skipped"]
    assert "rouge_l" not in open_run(folder).scores["after"]
    assert (folder / "report.html").is_file()


def test_who_asks_for_answers_is_told_the_setting(root: Path) -> None:
    with pytest.raises(ModelError, match=r"task\.answers: .*keeps no keys and values.*task\.answers\.rows=0"):
        fit_speaker(root, root / "run", *SHORT)
