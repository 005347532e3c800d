"""Old tasks of a language model: loss on text, what an earlier run taught, and its next tokens without labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.forgetting.conftest import opened, ready
from tests.tiny_language_model import write_chats, write_tiny_language_model
from torch import nn

from tunesmith.errors import DataError, ModelError, RunError
from tunesmith.forgetting import next_tokens
from tunesmith.forgetting.asked import asked, next_token_logits
from tunesmith.forgetting.next_tokens import NextTokens
from tunesmith.forgetting.spoken import Spoken
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.fit import fit
from tunesmith.run.setup import Ready
from tunesmith.types import Batch

WORDS = ("sea", "wind", "boat", "is", "the", "calm", "today", "and", "no", "fish")


@pytest.fixture(scope="session")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_language_model(tmp_path_factory.mktemp("talker"))


def settings(model: Path, data: Path, **changes: Any) -> dict[str, Any]:
    """A short run on chats."""
    train = {"steps": 3, "batch_size": 8, "evaluate_every": 3, "checkpoint_every": 3, "threads": 1, "seed": 3,
             "precision": "float32"}  # fmt: skip
    return {
        "task": {"name": "causal_lm", "max_length": 96, "answers": {"rows": 0}},
        "model": str(model),
        "data": {"path": str(data)},
        "method": "full",
        "forgetting": {"old_tasks": []},
        "train": {**train, "learning_rate": 0.01},
        **changes,
    }


def write_texts(folder: Path, count: int = 24) -> Path:
    """Text files of different lengths, no two alike."""
    draw = np.random.default_rng(3)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.txt").write_text(" ".join(draw.choice(WORDS, size=4 + number)), encoding="utf-8")
    return folder


def write_preferences(path: Path, rows: int = 24) -> Path:
    """Prompts with two answers each."""
    told = [{"prompt": f"What is it {n}", "chosen": "It is blue.", "rejected": f"No {n}."} for n in range(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in told), encoding="utf-8")
    return path


def new_run(talker: Path, place: Path, **changes: Any) -> Ready:
    place.mkdir(parents=True, exist_ok=True)
    return ready(settings(talker, write_chats(place / "new.jsonl", rows=40, seed=5), **changes), place / "w")


def preferring(talker: Path, place: Path, **changes: Any) -> Ready:
    task = {"name": "preference", "max_length": 96}
    return ready(settings(talker, write_preferences(place / "p.jsonl"), task=task, **changes), place / "w")


def shaken(model: nn.Module, by: float = 0.3) -> None:
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            draw = torch.Generator().manual_seed(number)
            parameter.add_(by * parameter.std() * torch.randn(parameter.shape, generator=draw))


def whole_logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([ids])).logits[0]
    return found


def test_the_loss_on_texts_is_that_of_plain_transformers(talker: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    new = new_run(talker, tmp_path)
    (task,) = opened(new, tmp_path / "o", {"source": "texts", "data": str(write_texts(tmp_path / "t"))})
    assert isinstance(task, Spoken)
    plain = AutoModelForCausalLM.from_pretrained(talker).eval()
    answers = task.answers(new.pretrained.model, "test")
    assert task.parts == ("test", "validation")
    assert answers.shape == (12, 3)  # half of the texts are held out where nothing is said
    for row in (0, 7):
        ids = [int(i) for i in task._part("test").encoded[row]["input_ids"]]
        with torch.no_grad():
            expected = float(plain(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss)
        assert answers[row, 1] == len(ids) - 1
        assert answers[row, 0] / answers[row, 1] == pytest.approx(expected, rel=1e-4)
    found = task.score(answers, "test")
    assert found["perplexity"] == pytest.approx(np.exp(found["loss"]))
    assert "first 96 tokens" in task.definition


def test_loss_that_rises_is_forgetting(talker: Path, tmp_path: Path) -> None:
    new = new_run(talker, tmp_path)
    (task,) = opened(new, tmp_path / "o", {"source": "texts", "data": str(write_texts(tmp_path / "t"))})
    first = task.untouched("test")
    shaken(new.pretrained.model)
    last = task.answers(new.pretrained.model, "test")
    change = task.forgetting(first, last, "test")
    rise = task.score(last, "test")["loss"] - task.score(first, "test")["loss"]
    assert change.value == pytest.approx(rise)
    assert change.low <= change.value <= change.high


def test_of_conversations_the_answers_are_scored(talker: Path, tmp_path: Path) -> None:
    new = new_run(talker, tmp_path)
    chats = write_chats(tmp_path / "other.jsonl", rows=30, seed=9)
    (task,) = opened(new, tmp_path / "o", {"source": "texts", "data": str(chats)})
    row = task._part("test").encoded[0]  # type: ignore[attr-defined]
    learned = [i for i in row["labels"] if i != -100]
    assert 0 < len(learned) < len(row["input_ids"])
    assert task.answers(new.pretrained.model, "test")[0, 1] == len(learned)


def test_the_untouched_model_agrees_with_itself_exactly(talker: Path, tmp_path: Path) -> None:
    new = new_run(talker, tmp_path)
    (task,) = opened(new, tmp_path / "o", "auto")
    assert isinstance(task, NextTokens)
    first = task.untouched("test")
    np.testing.assert_array_equal(task.answers(new.pretrained.model, "test"), first)
    assert task.score(first, "test") == {"agreement": 1.0, "kl": 0.0}
    change = task.forgetting(first, first, "test")
    assert (change.value, change.low, change.high) == (0, 0, 0)


def test_agreement_and_divergence_are_those_of_whole_distributions_gathered(talker: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    new = new_run(talker, tmp_path)
    (task,) = opened(new, tmp_path / "o", "auto")
    assert isinstance(task, NextTokens)
    shaken(new.pretrained.model)
    answers = task.answers(new.pretrained.model, "test")
    plain = AutoModelForCausalLM.from_pretrained(talker).eval()
    for row in (0, 3):
        encoded = task._asked["test"][row]
        places = [int(n) - 1 for n in np.flatnonzero(encoded["labels"] != -100)]
        ids = [int(i) for i in encoded["input_ids"]]
        before, now = (whole_logits(m, ids)[places].double().softmax(-1) for m in (plain, new.pretrained.model))
        same = (before.argmax(-1) == now.argmax(-1)).sum()
        divergence = 0.0
        for p, q in zip(before, now, strict=True):
            top = p.topk(next_tokens.LIKELIEST).indices
            rest = torch.ones(len(p), dtype=torch.bool).index_fill(0, top, False)
            gathered = [torch.cat([x[top], x[rest].sum()[None]]) for x in (p, q)]
            divergence += float((gathered[0] * (gathered[0] / gathered[1]).log()).sum())
        assert answers[row, 0] == float(same)
        assert answers[row, 2] == len(places)
        assert answers[row, 1] == pytest.approx(divergence, rel=1e-3)
    assert task.forgetting(task.untouched("test"), answers, "test").value == pytest.approx(
        1 - answers[:, 0].sum() / answers[:, 2].sum()
    )


def test_the_reference_stays_small_and_places_are_spread_evenly(talker: Path, tmp_path: Path) -> None:
    new = new_run(talker, tmp_path)
    (task,) = opened(new, tmp_path / "o", {"source": "auto", "data": str(write_texts(tmp_path / "t", count=30))})
    assert isinstance(task, NextTokens)
    texts, places, numbers = task.reference["test"].shape
    assert (places, numbers) == (next_tokens.PLACES, 2 + 2 * next_tokens.LIKELIEST)
    assert texts == task.rows("test")
    batch = task.batch(1, 4)
    few = asked(batch, most=5)
    assert int((few != -100).sum()) == 5
    every = asked(batch, most=10_000)
    assert ((few == -100) | (few == every)).all()
    logits = next_token_logits(new.pretrained.model, batch, most=5)
    assert logits.shape == (5, len(new.pretrained.processor))


def test_packed_texts_are_asked_without_the_one_before(talker: Path) -> None:
    ids = torch.arange(8)[None]
    segments = torch.tensor([[1, 1, 1, 2, 2, 3, 0, 0]])
    batch = Batch({"input_ids": ids, "attention_mask": (segments > 0).long(), "segments": segments}, None, (0, 1, 2))
    assert asked(batch).tolist() == [[-100, 1, 2, -100, 4, -100, -100, -100]]


@pytest.mark.parametrize("method", ["lora", "prompt_tuning", "prefix_tuning"])
def test_with_the_method_off_nothing_is_forgotten(method: str, talker: Path, tmp_path: Path) -> None:
    data = write_chats(tmp_path / "new.jsonl", rows=40)
    old = [{"source": "texts", "data": str(write_texts(tmp_path / "t"))}, "auto"]
    run = fit(Recipe.make(settings(talker, data, method=method, forgetting={"old_tasks": old})), tmp_path / "run")
    for found in run.scores["old_tasks"].values():
        assert found["forgetting"]["off"] == [0.0, 0.0, 0.0]
        assert found["off"] == found["before"]


@pytest.fixture(scope="session")
def taught(talker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on chats, its data beside it."""
    place = tmp_path_factory.mktemp("taught")
    return fit(Recipe.make(settings(talker, write_chats(place / "old.jsonl"))), place / "run").folder


def test_an_earlier_run_is_scored_as_it_was_on_its_own_model(taught: Path, tmp_path: Path) -> None:
    new = new_run(taught, tmp_path)
    (task,) = opened(new, tmp_path / "o", str(taught))
    assert (task.kind, task.labelled) == ("run", True)
    told = json.loads((taught / "scores.json").read_text("utf-8"))
    assert task.score(task.untouched("test"), "test")["loss"] == pytest.approx(told["after"]["loss"], rel=1e-5)
    assert "own chat template" in task.definition
    assert str(taught) in task.definition


def test_an_earlier_runs_data_must_be_as_they_were(talker: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    data = write_chats(tmp_path / "old" / "chats.jsonl")
    run = fit(Recipe.make(settings(talker, data)), tmp_path / "run").folder
    write_chats(data, seed=8)
    with pytest.raises(DataError, match="have changed since"):
        opened(new_run(talker, tmp_path / "n"), tmp_path / "o", str(run))


def test_preference_tuning_has_the_same_old_tasks(talker: Path, taught: Path, tmp_path: Path) -> None:
    new = preferring(talker, tmp_path)
    texts = {"source": "texts", "data": str(write_texts(tmp_path / "t"))}
    tasks = opened(new, tmp_path / "o", str(taught), texts, "auto")
    model = new.pretrained.model
    for task in tasks:
        first = task.untouched(task.parts[0])
        np.testing.assert_array_equal(task.answers(model, task.parts[0]), first)
        batch = task.batch(1, 2)
        assert task.outputs(model, batch).shape[1] == len(new.pretrained.processor)
    both = tasks[2].batch(1, 2)
    assert len(both.inputs["input_ids"]) == 4  # two answers each


def test_a_preference_run_is_no_old_task(talker: Path, tmp_path: Path) -> None:
    task = {"name": "preference", "max_length": 96}
    run = fit(Recipe.make(settings(talker, write_preferences(tmp_path / "p.jsonl"), task=task)), tmp_path / "run")
    with pytest.raises(DataError, match="a run of task causal_lm"):
        opened(new_run(talker, tmp_path / "n"), tmp_path / "o", str(run.folder))


def test_a_task_beside_a_language_model_is_refused(talker: Path, tmp_path: Path) -> None:
    old = {"source": str(talker), "task": "causal_lm", "data": str(write_texts(tmp_path / "t"))}
    with pytest.raises(ModelError, match="Leave task out"):
        opened(new_run(talker, tmp_path), tmp_path / "o", old)


def test_an_unfinished_run_is_told(talker: Path, taught: Path, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "recipe.yaml").write_text((taught / "recipe.yaml").read_text("utf-8"), "utf-8")
    with pytest.raises(RunError, match="has not finished"):
        opened(new_run(talker, tmp_path), tmp_path / "o", str(tmp_path / "half"))
