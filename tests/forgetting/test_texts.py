"""Loss on held-out text: masked for encoders, next token for decoders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.forgetting.conftest import opened, ready
from tests.run.worker import recipe, write_reviews

from tunesmith.errors import ModelError
from tunesmith.forgetting import language_head
from tunesmith.forgetting.texts import TextLoss, mean_loss

Folders = Callable[[str], Path]


def language_model(kind: str, folder: Path, backbone: Path, *, tied: bool = True) -> Path:
    """A tiny language model on the weights of a tiny backbone, its head with them."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    config = AutoConfig.from_pretrained(backbone)
    config.tie_word_embeddings = tied
    torch.manual_seed(1)
    reader: Any = AutoModelForCausalLM if kind in ("gpt2", "llama") else AutoModelForMaskedLM
    reader.from_pretrained(backbone, config=config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(backbone).save_pretrained(folder)
    return folder


def texts_task(kind: str, folders: Folders, place: Path, **changes: Any) -> tuple[Any, TextLoss]:
    folder = language_model(kind, place / kind, folders(kind), tied=changes.pop("tied", True))
    data = write_reviews(place / "new.csv")
    new = ready(recipe(folder, data, **changes), place / "w")
    (task,) = opened(new, place / "o", {"source": "texts", "data": str(data)})
    assert isinstance(task, TextLoss)
    return new, task


@pytest.mark.parametrize(("kind", "tied"), [("gpt2", True), ("llama", False)])
def test_a_decoders_loss_is_that_of_plain_transformers(
    kind: str, tied: bool, tiny_folders: Folders, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    new, task = texts_task(kind, tiny_folders, tmp_path, tied=tied)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / kind).eval()
    answers = task.answers(new.pretrained.model, "test")
    assert answers.shape == (40, 2)
    held = task._inputs("test").encoded
    for row in (0, 7):
        ids = torch.tensor(np.array(held[row]["input_ids"]), dtype=torch.long)[None]
        with torch.no_grad():
            expected = float(plain(input_ids=ids, labels=ids).loss)
        assert answers[row, 1] == ids.shape[1] - 1
        assert answers[row, 0] / answers[row, 1] == pytest.approx(expected, rel=1e-4)
    found = task.score(answers, "test")
    assert found["perplexity"] == pytest.approx(np.exp(found["loss"]))
    assert task.main.better == "lower"


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "modernbert"])
def test_an_encoders_loss_is_that_of_plain_transformers_on_the_hidden_tokens(
    kind: str, tiny_folders: Folders, tmp_path: Path
) -> None:
    from transformers import AutoModelForMaskedLM

    new, task = texts_task(kind, tiny_folders, tmp_path)
    plain = AutoModelForMaskedLM.from_pretrained(tmp_path / kind).eval()
    answers = task.answers(new.pretrained.model, "test")
    row = task._asked["test"][3]
    ids, wanted = (torch.tensor(row[name])[None] for name in ("input_ids", "wanted"))
    with torch.no_grad():
        expected = float(plain(input_ids=ids, attention_mask=torch.ones_like(ids), labels=wanted).loss)
    assert answers[3, 0] / answers[3, 1] == pytest.approx(expected, rel=1e-4)
    assert (ids[wanted != -100] == new.pretrained.processor.mask_token_id).all()
    assert 1 <= answers[3, 1] <= 0.15 * ids.shape[1] + 1


def test_the_same_tokens_are_hidden_every_time(tiny_folders: Folders, tmp_path: Path) -> None:
    new, task = texts_task("bert", tiny_folders, tmp_path)
    first = task.answers(new.pretrained.model, "test")
    task._asked.clear()
    np.testing.assert_array_equal(task.answers(new.pretrained.model, "test"), first)
    change = task.forgetting(first, first, "test")
    assert (change.value, change.low, change.high) == (0, 0, 0)


def test_a_tied_head_follows_the_embeddings_that_learn(tiny_folders: Folders, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    new, task = texts_task("gpt2", tiny_folders, tmp_path)
    model, plain = new.pretrained.model, AutoModelForCausalLM.from_pretrained(tmp_path / "gpt2").eval()
    first = task.answers(model, "test")
    with torch.no_grad():
        for own in (model, plain):
            own.get_input_embeddings().weight.mul_(-3)
    last = task.answers(model, "test")
    ids = torch.tensor(np.array(task._inputs("test").encoded[5]["input_ids"]), dtype=torch.long)[None]
    with torch.no_grad():
        expected = float(plain(input_ids=ids, labels=ids).loss)
    assert last[5, 0] / last[5, 1] == pytest.approx(expected, rel=1e-4)
    assert last[5, 0] != pytest.approx(first[5, 0], rel=1e-3)
    change = task.forgetting(first, last, "test")
    assert change.value == pytest.approx(mean_loss(last, last) - mean_loss(first, first))
    assert change.low <= change.value <= change.high
    turned = task.forgetting(last, first, "test")
    assert turned.value == pytest.approx(-change.value)


@pytest.mark.parametrize("method", ["lora", "prompt_tuning"])
def test_loss_on_text_is_taken_through_a_method(method: str, tiny_folders: Folders, tmp_path: Path) -> None:
    new, task = texts_task("bert", tiny_folders, tmp_path, method=method)
    before = task.answers(new.pretrained.model, "test")
    torch.manual_seed(0)
    model = new.recipe.method.prepare(new.pretrained)
    after = task.answers(model, "test")
    np.testing.assert_array_equal(after[:, 1], before[:, 1])
    if method == "lora":
        np.testing.assert_allclose(after, before, rtol=1e-5)
    assert task.outputs(model, task.batch(1, 2)).shape == (2, 32)


def test_memory_does_not_change_the_loss(
    tiny_folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, task = texts_task("gpt2", tiny_folders, tmp_path)
    whole = task.answers(new.pretrained.model, "test")
    monkeypatch.setattr(language_head, "AT_ONCE", 3)
    np.testing.assert_allclose(task.answers(new.pretrained.model, "test"), whole, rtol=1e-5)


def test_a_model_without_a_language_model_head_is_told(tiny_folders: Folders, new_data: Path, tmp_path: Path) -> None:
    new = ready(recipe(tiny_folders("bert"), new_data), tmp_path / "w")
    with pytest.raises(ModelError, match="hold no language-model head"):
        opened(new, tmp_path / "o", {"source": "texts", "data": str(new_data)})
