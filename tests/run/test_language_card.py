"""The card of a language model: front matter that the hub reads, and lines that load the model and ask it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from tests.run.language_sample import write_language_run
from tests.run.sample import write_json
from tests.run.test_card import head_and_page, run_code

from tunesmith.evaluate.generation import answer
from tunesmith.methods.base import registry
from tunesmith.types import Pretrained

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} [SEP] {% endfor %}"
    "{% if add_generation_prompt %}assistant{% endif %}"
)


def test_the_card_says_what_the_model_does_and_how_well(tmp_path: Path) -> None:
    folder = write_language_run(tmp_path / "identity")
    head, page = head_and_page(folder)
    assert head["pipeline_tag"] == "text-generation"
    assert head["library_name"] == "peft"
    assert head["metrics"] == ["perplexity", "accuracy", "rouge"]
    assert "fine-tuned by `lora` to answer" in page
    assert "Not meant as a source of facts" in page
    assert "1 of 7 generated answers did not end within 96 tokens" in page
    assert "0 classes" not in page
    assert {r.metric_type for r in ModelCard.load(folder / "best" / "README.md").data.eval_results} >= {"perplexity"}


def deliver(pretrained: Pretrained, folder: Path, method: str) -> Any:
    """Write best/ as a run does: the method's files, configuration and tokenizer. Returns the model."""
    torch.manual_seed(5)
    chosen = registry.make({"name": method, **({"length": 4} if method == "prompt_tuning" else {})})
    model = chosen.prepare(pretrained)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    chosen.save(model.eval(), folder, pretrained)
    plain: Any = pretrained.model
    plain.config.save_pretrained(folder)
    plain.generation_config.save_pretrained(folder)
    pretrained.processor.save_pretrained(folder)
    return model


@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize("method", ["full", "lora", "prompt_tuning"])
def test_the_cards_lines_give_the_answer_of_ours(
    tiny: Callable[..., Pretrained],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    method: str,
    texts: bool,
) -> None:
    folder = write_language_run(tmp_path / "run", adapter=False)
    if texts:
        kept = {"rows": [{"chat": {"text": "a film"}, "before": {}, "after": {}}]}
        write_json(folder / "predictions" / "answers.json", kept)
    pretrained = tiny("llama_lm")
    pretrained.processor.chat_template = TEMPLATE
    model = deliver(pretrained, folder / "best", method)
    _, page = head_and_page(folder)
    space = run_code(page, folder, monkeypatch)
    prompt = space["prompt"]["input_ids"][0].tolist()
    assert ("chat" in space) != texts
    (own,) = answer(model, pretrained.processor, [prompt], most_tokens=200, stop=[3])
    assert len(own.tokens) > 8
    assert capsys.readouterr().out.startswith(own.text)  # ours keeps to the places that the model knows


def test_a_base_that_is_not_told_is_taken_from_the_manifest(tmp_path: Path) -> None:
    folder = write_language_run(tmp_path / "run")
    write_json(folder / "best" / "adapter_config.json", {"peft_type": "LORA"})
    assert json.loads((folder / "manifest.json").read_text())["model"]["name"] in head_and_page(folder)[1]
