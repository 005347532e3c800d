"""A delivered classifier answers many texts side by side as it was scored, and takes what it learned to take."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.run.worker import recipe, write_reviews

from tunesmith.deploy.evaluation import evaluate_run
from tunesmith.deploy.predictor import Predictor
from tunesmith.errors import DataError, ModelError, RunError
from tunesmith.metrics.classification import softmax
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.fit import fit
from tunesmith.types import Example


@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning"])
def test_a_decoder_behind_learned_tokens_reads_each_texts_own_end(
    method: str, tiny_folders: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = recipe(tiny_folders("gpt2"), write_reviews(tmp_path / "reviews.csv"), method=method, train={"steps": 4})
    run = fit(Recipe.make(settings), tmp_path / "run")
    lines = (run.folder / "predictions" / "test_after.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len({len(row["text"]) for row in rows}) > 1
    predictor = Predictor(run.folder)
    found = softmax(predictor.logits([Example({"text": row["text"]}) for row in rows]))
    for chances, row in zip(found, rows, strict=True):
        assert chances.tolist() == pytest.approx(row["probabilities"], abs=1e-4)


def test_a_run_on_pairs_is_asked_pairs(tiny_folders: Callable[[str], Path], tmp_path: Path) -> None:
    with (tmp_path / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["text", "text_pair", "label"])
        table.writerows([f"a good film {n}", f"a bad plot {n}", "yn"[n % 2]] for n in range(40))
    run = fit(Recipe.make(recipe(tiny_folders("bert"), tmp_path / "pairs.csv", train={"steps": 2})), tmp_path / "run")
    predictor = Predictor(run.folder)
    assert len(predictor.predict_texts([("a good film", "a bad plot")])) == 1
    with pytest.raises(DataError, match="one text, and this run learned pairs"):
        predictor.predict_texts(["a good film"])
    with pytest.raises(DataError, match="no second text"):
        predictor.task.encode([Example({"text": "a", "text_pair": "b"}), Example({"text": "a"})], predictor.processor)
    (tmp_path / "single.csv").write_text("text,label\na good film,y\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"single.csv:2: one text"):
        evaluate_run(run.folder, str(tmp_path / "single.csv"), tmp_path / "work")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_run_whose_files_are_broken_is_a_fault_in_words(
    method: str, tiny_folders: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = recipe(tiny_folders("bert"), write_reviews(tmp_path / "reviews.csv"), method=method, train={"steps": 2})
    best = fit(Recipe.make(settings), tmp_path / "run").folder / "best"
    predictor = Predictor(best.parent)
    assert predictor.predict_texts(["a good film"])
    weights = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    for name in ("tunesmith.json", "config.json", "tokenizer.json", weights):
        whole = (best / name).read_bytes()
        for content in (None, b"", b"{", b"[]", b"{}", whole[: len(whole) // 2]):
            (best / name).unlink()
            if content is not None:
                (best / name).write_bytes(content)
            with pytest.raises((RunError, ModelError)):
                Predictor(best.parent)
            (best / name).write_bytes(whole)
    facts = json.loads((best / "tunesmith.json").read_text())
    for told in ({"labels": 3}, {"thresholds": ["high"]}, {"temperature": "warm"}, {"multi_label": None}):
        (best / "tunesmith.json").write_text(json.dumps(facts | told))
        with pytest.raises(RunError, match=r"tunesmith\.json"):
            Predictor(best.parent)
