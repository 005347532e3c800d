"""Special tokens behind the last embedding row are tolerated until a text holds one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.test_causal import WORDS, load, write
from tests.models.test_causal import tokenizer as plain_tokenizer

from tunesmith.errors import DataError, ModelError

TOKEN = "<image_soft_token>"


def written(folder: Path, tokenizer: Any) -> Path:
    """As Gemma 3's text models: as many rows as the vocabulary has tokens but for what was added."""
    write(folder, "llama")
    tokenizer.save_pretrained(folder)
    return folder


def with_added(**more: Any) -> Any:
    found = plain_tokenizer(**more)
    found.add_special_tokens({"additional_special_tokens": [TOKEN]})
    return found


def test_a_special_token_without_a_row_is_tolerated_and_a_text_with_it_refused(tmp_path: Path) -> None:
    found = load(written(tmp_path / "m", with_added()))
    assert found.processor.convert_tokens_to_ids(TOKEN) == len(WORDS)
    for model in (found.model, copy.deepcopy(found.model)):
        ids = torch.tensor([found.processor("hello")["input_ids"]])
        assert model(input_ids=ids).logits.isfinite().all()
        ids = torch.tensor([found.processor(f"hello {TOKEN}")["input_ids"]])
        with pytest.raises(DataError, match=rf'"{TOKEN}" \(id {len(WORDS)}\).*Take it out of the data'):
            model(input_ids=ids)


@pytest.mark.parametrize("what", ["padding", "in the template", "a plain word"])
def test_a_token_that_texts_bring_is_refused_at_once(tmp_path: Path, what: str) -> None:
    tokenizer = with_added()
    if what == "padding":
        tokenizer.pad_token = TOKEN
    elif what == "in the template":
        tokenizer.chat_template = "{% for m in messages %}" + TOKEN + "{{ m.content + eos_token }}{% endfor %}"
    else:
        tokenizer.add_tokens(["anotherword"])
    with pytest.raises(ModelError, match=f"1 tokens beyond the {len(WORDS)} rows"):
        load(written(tmp_path / "m", tokenizer))
