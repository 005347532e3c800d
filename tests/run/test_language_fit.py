"""A language model from its file to its report: what is learned, packed, cut, split, killed and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.run.worker import killed_and_whole
from tests.tiny_language_model import write_chats, write_tiny_language_model

from tunesmith.errors import RecipeError
from tunesmith.methods.base import registry
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.fit import fit

CANNOT = {"visual_prompt", "head", "linear_probe_then_full"}
"""Methods that want pictures, or a head of classes."""


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_language_model(tmp_path_factory.mktemp("chat-model"))


def settings(model: Path, data: Path, /, **changes: Any) -> dict[str, Any]:
    train = {"steps": 12, "batch_size": 8, "micro_batch_size": 3, "evaluate_every": 5, "checkpoint_every": 2,
             "threads": 1, "seed": 3, "learning_rate": 0.01}  # fmt: skip
    found: dict[str, Any] = {
        "task": {"name": "causal_lm", "answers": {"rows": 3, "most_tokens": 12}},
        "model": str(model),
        "data": {"path": str(data)},
        "method": "lora",
        "forgetting": {"old_tasks": []},
        "train": train,
    }
    for key, value in changes.items():
        found[key] = {**found[key], **value} if key in ("train", "task", "data") else value
    return found


def made(folder: Path, /, **changes: Any) -> Any:
    data = write_chats(folder / "chats.jsonl")
    return fit(Recipe.make(settings(changes.pop("model"), data, **changes)), folder / "run")


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def test_answers_are_learned_and_all_scores_stand_in_the_run(chat_model: Path, tmp_path: Path) -> None:
    run = made(tmp_path, model=chat_model, method="full", train={"steps": 60, "evaluate_every": 30})
    scores = run.scores
    assert scores["main_score"] == {"name": "loss", "better": "lower"}
    assert scores["after"]["loss"] < 0.6 * scores["before"]["loss"]
    assert scores["after"]["perplexity"] == pytest.approx(np.exp(scores["after"]["loss"]), rel=1e-6)
    low, high = scores["intervals"]["after"]["loss"]
    assert low <= scores["after"]["loss"] <= high
    assert (run.folder / "report.html").is_file()
    lines = (run.folder / "predictions" / "test_after.jsonl").read_text(encoding="utf-8").splitlines()
    assert {"chat", "loss", "tokens", "right", "file", "line"} <= json.loads(lines[0]).keys()


def test_packing_changes_the_rows_and_not_the_run(chat_model: Path, tmp_path: Path) -> None:
    losses = {}
    for packing in (True, False):
        place = tmp_path / str(packing)
        place.mkdir()
        # One batch an epoch: then the order within it is all that packing changes.
        run = made(place, model=chat_model, task={"packing": packing},
                   train={"batch_size": 60, "micro_batch_size": 60, "steps": 4, "precision": "float32"})  # fmt: skip
        losses[packing] = [e["loss"] for e in events(run.folder) if "loss" in e and "step" in e]
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


def test_packing_is_off_by_itself_with_learned_tokens_and_refused_when_asked_for(
    chat_model: Path, tmp_path: Path
) -> None:
    run = made(tmp_path, model=chat_model, method="prompt_tuning", train={"steps": 2})
    assert run.recipe["task"]["packing"] is False
    (tmp_path / "asked").mkdir()
    with pytest.raises(RecipeError, match="learned tokens before each example"):
        made(tmp_path / "asked", model=chat_model, method="prompt_tuning", task={"packing": True})


def test_over_long_chats_are_dropped_and_counted_where_the_recipe_says_so(chat_model: Path, tmp_path: Path) -> None:
    data = write_chats(tmp_path / "chats.jsonl", 40)
    long = [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "It is blue."}]
    with data.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"messages": long}) + "\n")
    chosen = settings(chat_model, data, task={"max_length": 96, "overlong": "drop"}, train={"steps": 2})
    run = fit(Recipe.make(chosen), tmp_path / "run")
    summary = json.loads((run.folder / "manifest.json").read_text(encoding="utf-8"))["data"]["summary"]
    assert summary["read"] == 41 == summary["used"] + summary["quarantined"] + summary["blank"]
    assert summary["quarantined"] == 1
    line = json.loads((run.folder / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert line["line"] == 41
    assert "more than task.max_length=96" in line["reason"]


def test_long_texts_are_split_so_that_every_word_is_learned(chat_model: Path, tmp_path: Path) -> None:
    texts = [" ".join(f"word{n}-{m}" for m in range(40)) for n in range(20)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")
    chosen = settings(chat_model, tmp_path / "texts.jsonl", task={"max_length": 64}, train={"steps": 2})
    run = fit(Recipe.make(chosen), tmp_path / "run")
    summary = json.loads((run.folder / "manifest.json").read_text(encoding="utf-8"))["data"]["summary"]
    assert summary["used"] == 20
    assert sum(summary["split_sizes"].values()) > 40
    assert any("were split" in note for note in summary["notes"])


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in registry.names() if name not in CANNOT])
def test_a_run_killed_three_times_ends_as_if_it_had_not_been(method: str, chat_model: Path, tmp_path: Path) -> None:
    data = write_chats(tmp_path / "chats.jsonl")
    # Llama has no biases.
    model = write_tiny_language_model(tmp_path / "model", "gpt2") if method == "bitfit" else chat_model
    killed_and_whole(settings(model, data, method=method, train={"steps": 13}), tmp_path, steps=13)


@pytest.mark.parametrize("packing", [True, False])
def test_killed_packed_or_not_a_run_goes_on_exactly(packing: bool, chat_model: Path, tmp_path: Path) -> None:
    data = write_chats(tmp_path / "chats.jsonl")
    chosen = settings(chat_model, data, task={"packing": packing}, train={"steps": 9})
    killed_and_whole(chosen, tmp_path, steps=9)


def test_texts_as_long_as_learned_tokens_leave_room_for_are_learned(tmp_path: Path) -> None:
    model = write_tiny_language_model(tmp_path / "gpt2", "gpt2")
    long = [{"text": f"{number} " + "word " * 400} for number in range(12)]
    (tmp_path / "long.jsonl").write_text("\n".join(map(json.dumps, long)), encoding="utf-8")
    recipe = settings(model, tmp_path / "long.jsonl", method={"name": "prompt_tuning", "length": 20})
    recipe["task"] |= {"overlong": "cut", "answers": {"rows": 0}}
    run = fit(Recipe.make(recipe | {"train": recipe["train"] | {"steps": 2}}), tmp_path / "run")
    assert run.recipe["task"]["max_length"] == 236
