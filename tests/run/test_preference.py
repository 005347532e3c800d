"""Preference tuning from data to a run folder, killed and resumed, for a tiny Llama."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.run.worker import events, killed_and_whole
from tests.tasks.talking import write_pairs, write_talker

from tunesmith.deploy.evaluation import evaluate_run
from tunesmith.errors import DataError
from tunesmith.events import Begun, Event
from tunesmith.recipe.recipe import Recipe
from tunesmith.run import fit as spine


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_talker(tmp_path_factory.mktemp("talker"))


def settings(model: Path, data: Path, objective: str = "dpo", **train: Any) -> dict[str, Any]:
    return {
        "task": {"name": "preference", "objective": objective, "max_length": 64},
        "model": str(model),
        "data": str(data),
        "method": "lora",
        "train": {"steps": 10, "batch_size": 8, "micro_batch_size": 3, "evaluate_every": 4, "checkpoint_every": 2,
                  "threads": 1, "seed": 3, "learning_rate": 3e-3, **train},
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["dpo", "kto", "simpo"])
def test_a_run_teaches_which_answers_are_preferred(objective: str, talker: Path, tmp_path: Path) -> None:
    said: list[Event] = []
    given = settings(talker, write_pairs(tmp_path / "pairs.jsonl"), objective, steps=30)
    run = spine.fit(Recipe.make(given), tmp_path / "run", said.append)
    lines = str(next(e for e in said if isinstance(e, Begun)).lines)
    assert "answers: 48 chosen or liked, 48 rejected or disliked" in lines
    assert run.scores["after"]["loss"] < run.scores["before"]["loss"]
    assert run.scores["after"]["reward_accuracy"] == 1.0
    assert run.scores["after"]["margin"] > max(0.1, run.scores["before"]["margin"])
    assert run.scores["difference"]["loss"][2] < 0
    assert "auto" not in json.dumps(run.recipe["task"] | {"template": ""})
    scored = [e["scores"] for e in events(run.folder) if e["event"] == "evaluated"]
    assert all({"margin", "chosen_reward", "rejected_reward", "reward_accuracy"} <= set(each) for each in scored)
    (line, *_) = (run.folder / "predictions" / "test_after.jsonl").read_text(encoding="utf-8").splitlines()
    kept = json.loads(line)
    assert kept["chosen_reward"] > kept["rejected_reward"]
    assert {"chat", "chosen", "rejected", "chosen_logp", "loss"} <= set(kept)
    spoken = json.loads((run.folder / "predictions" / "answers.json").read_text(encoding="utf-8"))["rows"]
    assert spoken[0]["wanted"] == kept["chosen"]
    assert all(row[when]["text"] for row in spoken[:1] for when in ("before", "after"))
    assert 0 <= run.scores["after"]["rouge_l"] <= 1
    new = evaluate_run(run.folder, str(write_pairs(tmp_path / "new.jsonl", 12, seed=7)), tmp_path / "work")
    assert new.examples == 12
    assert new.scores["margin"] > 0.1
    assert new.interval[0] <= new.scores["loss"] <= new.interval[1]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full", "prompt_tuning"])
def test_the_reference_is_the_untouched_model_under_every_method(method: str, talker: Path, tmp_path: Path) -> None:
    given = settings(talker, write_pairs(tmp_path / "pairs.jsonl"), steps=2) | {"method": method}
    run = spine.fit(Recipe.make(given), tmp_path / "run")
    assert run.scores["before"]["loss"] == pytest.approx(0.693147, abs=1e-5)
    first = next(e for e in events(run.folder) if e["event"] == "step")
    if method != "prompt_tuning":  # whose learned tokens change the answers from the start
        assert first["loss"] == pytest.approx(0.693147, abs=2e-3)  # bfloat16 against the float32 of the reference


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_a_run_killed_three_times_ends_as_if_it_had_not_been(objective: str, talker: Path, tmp_path: Path) -> None:
    given = settings(talker, write_pairs(tmp_path / "pairs.jsonl"), objective, steps=13)
    killed_and_whole(given, tmp_path, steps=13)


@pytest.mark.slow
def test_micro_batches_change_nothing_beyond_rounding(talker: Path, tmp_path: Path) -> None:
    losses = []
    for size in (8, 3):
        given = settings(talker, write_pairs(tmp_path / "pairs.jsonl"), "kto", micro_batch_size=size,
                         precision="float32")  # fmt: skip
        spine.fit(Recipe.make(given), tmp_path / str(size))
        losses.append([e["loss"] for e in events(tmp_path / str(size)) if e["event"] == "step"])
    assert losses[1] == pytest.approx(losses[0], rel=2e-4)  # float32 sums in another order, over 10 steps


def test_judged_answers_are_refused_for_a_loss_that_compares_two(talker: Path, tmp_path: Path) -> None:
    data = tmp_path / "judged.jsonl"
    rows = [{"prompt": f"who {n}", "completion": f"answer {n}", "label": n % 2 == 0} for n in range(20)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"task\.objective=kto"):
        spine.fit(Recipe.make(settings(talker, data)), tmp_path / "run")
