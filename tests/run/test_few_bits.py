"""Learning beside a language model in few bits: every method that can, what a fresh reader finds, and merged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.run.test_language_fit import settings
from tests.run.test_preference import settings as preferring
from tests.run.worker import killed_and_whole
from tests.tasks.talking import write_pairs, write_talker
from tests.tiny_language_model import write_chats, write_tiny_language_model

from tunesmith.deploy.evaluation import evaluate_run
from tunesmith.deploy.predictor import Predictor
from tunesmith.errors import ModelError, RecipeError
from tunesmith.methods.base import registry
from tunesmith.models.causal import find_causal, read_causal
from tunesmith.models.quantised import bits_of
from tunesmith.models.quantised_copy import quantised
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.earlier import model_of
from tunesmith.run.fit import fit
from tunesmith.run.fitting import fitting

ABLE = [name for name in registry.names() if registry.get(name).beside_few_bits]
UNMERGED = {"prefix_tuning", "prompt_tuning", "p_tuning", "llama_adapter"}


@pytest.fixture(scope="session")
def chat_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {kind: write_tiny_language_model(tmp_path_factory.mktemp(kind), kind) for kind in ("llama", "gpt2")}
    return made | {"wide": write_tiny_language_model(tmp_path_factory.mktemp("wide"), width=64)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def few(model: Path, place: Path, /, bits: int = 4, **changes: Any) -> dict[str, Any]:
    data = place / "chats.jsonl"
    told = settings(model, data if data.exists() else write_chats(data), **changes)
    return {**told, "model": {"name": str(model), "bits": bits}}


DORA, RSLORA = ({"name": "lora", "variant": variant} for variant in ("dora", "rslora"))
QUICK = {("lora", 4), ("lora", 8), ("oft", 4), ("adalora", 8), ("prefix_tuning", 4)}
TRIED = [
    *(pytest.param(method, "llama", bits, marks=() if (method, bits) in QUICK else pytest.mark.slow)
      for bits in (4, 8) for method in ABLE),
    ("lora", "gpt2", 4), pytest.param("lora", "gpt2", 8, marks=pytest.mark.slow),
    pytest.param("ia3", "gpt2", 4, marks=pytest.mark.slow), pytest.param(RSLORA, "llama", 8, marks=pytest.mark.slow),
    (DORA, "wide", 4), pytest.param(DORA, "llama", 8, marks=pytest.mark.slow),
]  # fmt: skip


@pytest.mark.parametrize(("method", "kind", "bits"), TRIED)
def test_what_is_learned_beside_few_bits_is_what_is_read_and_merged(
    method: Any, kind: str, bits: int, chat_models: dict[str, Path], tmp_path: Path
) -> None:
    run = fit(
        Recipe.make(
            few(
                chat_models[kind],
                tmp_path,
                bits,
                method=method,
                train={"precision": "bfloat16" if bits == 4 else "float32"},
            )
        ),
        tmp_path / "run",
    )
    known = json.loads((run.folder / "manifest.json").read_text())
    assert known["model"]["bits"] == bits
    assert re.search(rf"bits\W*<b>{bits}</b>", (run.folder / "report.html").read_text(encoding="utf-8"))
    assert run.scores["after"]["loss"] < run.scores["before"]["loss"]
    held = [json.loads(line) for line in (run.folder / "predictions/test_after.jsonl").read_text().splitlines()]
    (tmp_path / "held.jsonl").write_text("".join(row["chat"] + "\n" for row in held))
    again = evaluate_run(run.folder, str(tmp_path / "held.jsonl"), tmp_path / "work")
    assert again.scores["loss"] == pytest.approx(run.scores["after"]["loss"], rel=1e-6)
    model, _ = read_causal(run.folder / "best")
    assert bits_of(model) == bits
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
    with torch.no_grad():
        ours = model(ids).logits
    if (method if isinstance(method, str) else method["name"]) in UNMERGED:
        with pytest.raises(ModelError, match=r"no whole model|cannot be merged"):
            model_of(str(run.folder))
        return
    merged, _ = read_causal(Path(model_of(str(run.folder))))
    assert not bits_of(merged)
    assert not json.loads((run.folder / "merged/config.json").read_text()).get("quantization_config")
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, ours, atol=1e-4)


def test_what_cannot_learn_beside_few_bits_is_refused_before_any_work(
    chat_models: dict[str, Path], tmp_path: Path
) -> None:
    for method in ("full", "bitfit", "last_blocks", "norm_tuning", "adapter", "loha", "lokr"):
        with pytest.raises(RecipeError, match=rf"method: {method} would learn, deliver.*stored in 4 bits.*lora"):
            fit(Recipe.make(few(chat_models["llama"], tmp_path, method=method)), tmp_path / method)
    for variant, words in (
        ("pissa", "begins by lowering"),
        ("olora", "begins by lowering"),
        ("dora", "a multiple of 64"),
    ):
        with pytest.raises(ModelError, match=words):
            fit(
                Recipe.make(few(chat_models["llama"], tmp_path, method={"name": "lora", "variant": variant})),
                tmp_path / variant,
            )
    texts = tmp_path / "texts.csv"
    texts.write_text("text,label\n" + "".join(f"a word {n},{n % 2}\n" for n in range(40)))
    told = {"task": "text_classification", "model": {"name": str(chat_models["llama"]), "bits": 4}, "data": str(texts)}
    with pytest.raises(RecipeError, match=r"model\.bits: text_classification learns with all bits"):
        fit(Recipe.make(told), tmp_path / "texts")
    with pytest.raises(ModelError, match="stores its layers' weights turned"):
        fit(Recipe.make(few(chat_models["gpt2"], tmp_path, method="oft")), tmp_path / "oft")
    for wrong in (2, 5, 16):
        with pytest.raises(RecipeError, match=r"model\.bits: must be 4 or 8, or null; found"):
            Recipe.make(told | {"model": {"name": "a/b", "bits": wrong}})


@pytest.mark.parametrize(
    ("method", "retention"),
    [("lora", "lwf"), ("ia3", "wise_ft"), pytest.param("lora", "ewc", marks=pytest.mark.slow)],
)
def test_the_base_in_few_bits_is_what_an_old_task_is_held_by(
    method: str, retention: str, chat_models: dict[str, Path], tmp_path: Path
) -> None:
    old = tmp_path / "old.jsonl"
    old.write_text("".join(json.dumps({"text": f"The sea is blue, the name is {n}."}) + "\n" for n in range(60)))
    asked = {"old_tasks": [{"source": "texts", "name": "old", "data": str(old)}]}
    told = few(chat_models["llama"], tmp_path, method=method, retention=retention, forgetting=asked)
    run = fit(Recipe.make(told), tmp_path / "run")
    assert run.scores["old_tasks"]


@pytest.mark.parametrize("bits", [4, 8])
def test_the_reference_of_preferences_is_the_model_in_few_bits(bits: int, tmp_path: Path) -> None:
    model, pairs = write_talker(tmp_path / "talker"), write_pairs(tmp_path / "pairs.jsonl")
    told = preferring(model, pairs, precision="float32") | {"model": {"name": str(model), "bits": bits}}
    run = fit(Recipe.make(told), tmp_path / "run")
    assert run.scores["before"]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert run.scores["after"]["loss"] < 0.68
    assert bits_of(Predictor(run.folder).untouched.model) == bits


def test_what_fits_a_folder_in_few_bits_is_told(chat_models: dict[str, Path]) -> None:
    folder = quantised(find_causal(str(chat_models["llama"])), 4).path
    found = dict(fitting(folder, None, 3))
    assert {name for name, learned in found.items() if isinstance(learned, int)} == set(ABLE)
    assert "stored in 4 bits" in str(found["full"])


@pytest.mark.slow
@pytest.mark.parametrize(("method", "bits"), [("lora", 4), ("oft", 8)])
def test_a_run_beside_few_bits_killed_three_times_ends_as_if_it_had_not_been(
    method: str, bits: int, chat_models: dict[str, Path], tmp_path: Path
) -> None:
    killed_and_whole(few(chat_models["llama"], tmp_path, bits, method=method), tmp_path, steps=12)
