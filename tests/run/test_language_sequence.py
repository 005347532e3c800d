"""A language model that learns on from an earlier run of its own: merged once, and what is left of the first task."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.forgetting.test_language import settings
from tests.tiny_gguf import write_gguf
from tests.tiny_language_model import write_chats, write_tiny_language_model

from tunesmith.errors import ModelError
from tunesmith.models.causal import read_causal
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.earlier import model_of
from tunesmith.run.fit import fit
from tunesmith.run.sequence import matrix


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished lora run, its data beside it."""
    place = tmp_path_factory.mktemp("first")
    model = write_tiny_language_model(place / "model")
    return fit(Recipe.make(settings(model, write_chats(place / "a.jsonl"), method="lora")), place / "a").folder


def answers(folder: Path | str) -> np.ndarray:
    model, tokenizer = read_causal(Path(folder))
    ids = torch.tensor([tokenizer("The sea is calm today")["input_ids"]])
    with torch.no_grad():
        found: np.ndarray = model(input_ids=ids).logits[0].numpy()
    return found


def test_an_adapter_is_merged_to_learn_on_from(first: Path) -> None:
    whole = model_of(str(first))
    assert whole == str(first / "merged")
    np.testing.assert_allclose(answers(whole), answers(first / "best"), atol=1e-4)
    read = read_causal(Path(whole))[1]
    assert read.chat_template == read_causal(first / "best")[1].chat_template


@pytest.mark.slow
def test_a_second_task_tells_what_is_left_of_the_first(first: Path, tmp_path: Path) -> None:
    data = write_chats(tmp_path / "b.jsonl", seed=4)
    made = settings(first, data, forgetting={"old_tasks": [str(first)]}, retention={"name": "replay", "share": 0.5})
    second = fit(Recipe.make(made), tmp_path / "b")
    told = matrix([second.folder])
    assert told.names == ("a", "b")
    assert [score.name for score in told.scores] == ["loss", "loss"]
    after, before = second.scores["old_tasks"]["a"]["after"]["loss"], second.scores["old_tasks"]["a"]["before"]["loss"]
    assert told.table[1][0] == pytest.approx(after)
    assert told.table[0][0] == pytest.approx(before, rel=1e-4)
    assert told.forgetting[0] == pytest.approx(after - before, abs=1e-4)
    assert told.average_forgetting is not None


@pytest.mark.slow
def test_a_base_out_of_a_gguf_file_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf")
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    file = write_gguf(tmp_path / "tiny.gguf")
    made = settings(file, write_chats(tmp_path / "a.jsonl"), method="lora")
    run = fit(Recipe.make({**made, "task": {**made["task"], "max_length": 64}}), tmp_path / "a").folder
    shutil.rmtree(tmp_path / "cache")
    whole = model_of(str(run))
    np.testing.assert_allclose(answers(whole), answers(run / "best"), atol=1e-4)
    shutil.rmtree(tmp_path / "cache")
    shutil.rmtree(whole)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ModelError):
        model_of(str(run))
