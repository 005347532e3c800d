"""A forecast looks at a fresh learner, leaves it as it was, and adds up what the run will do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.run.pictures import picture_recipe
from tests.run.sample import write_run
from tests.run.worker import recipe, write_reviews

from tunesmith.recipe.recipe import Recipe
from tunesmith.run import forecast as forecasting
from tunesmith.run import pace
from tunesmith.run.forecast import Forecast, forecast, keep_forecast, kept_forecast
from tunesmith.run.report_parts import forecast as told
from tunesmith.run.report_parts.facts import read_facts
from tunesmith.run.setup import Learning, Ready, set_up, settled, start_learning
from tunesmith.run.spent import Spent, against
from tunesmith.train import randomness
from tunesmith.train.loop import Plan
from tunesmith.types import MainScore

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(tiny_folders: Callable[[str], Path], tmp_path: Path) -> Settings:
    data = write_reviews(tmp_path / "reviews.csv")
    return lambda **changes: recipe(tiny_folders("bert"), data, **changes)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "ROUNDS", 1)


def fresh(given: dict[str, Any], place: Path) -> tuple[Ready, Learning]:
    ready = settled(next(found for found in set_up(Recipe.make(given), place) if isinstance(found, Ready)))
    return ready, start_learning(ready)


def fresh_text(settings: Settings, place: Path, method: str) -> tuple[Ready, Learning]:
    return fresh(settings(method=method), place)


@pytest.mark.parametrize("method", ["adalora", "linear_probe_then_full", "prefix_tuning", "moving statistics"])
def test_looking_moves_no_bit(settings: Settings, tmp_path: Path, method: str) -> None:
    given = settings(method=method)
    if method == "moving statistics":
        given = picture_recipe(tmp_path, method={"name": "full", "statistics": "moving"})
    ready, learning = fresh(given, tmp_path / "work")
    torch.manual_seed(5)
    randomness.begin(3, 4, (5, 6))
    model = learning.model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = {name: tensor.clone() for name, tensor in ready.recipe.method.state(model).items()}
    modes = [module.training for module in model.modules()]
    learns = [parameter.requires_grad for parameter in model.parameters()]
    generator = torch.get_rng_state()
    found = forecast(ready, learning, tmp_path)
    assert found.seconds > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(t, state[n]) for n, t in ready.recipe.method.state(model).items())
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == learns
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)
    assert randomness.now() == (3, 4, (5, 6))
    assert not learning.optimizer.state
    assert not (tmp_path / "forecast").exists()


def test_more_steps_take_more_time_and_no_more_memory(settings: Settings, tmp_path: Path) -> None:
    few = forecast(*fresh(settings(train={"steps": 12}), tmp_path / "few"), tmp_path)
    many = forecast(*fresh(settings(train={"steps": 600}), tmp_path / "many"), tmp_path)
    assert many.seconds_of["training"] > 5 * few.seconds_of["training"]
    assert many.seconds_of["evaluations"] > few.seconds_of["evaluations"]
    assert many.seconds > few.seconds
    assert many.low < many.seconds < many.high
    assert many.peak_low <= many.peak_mib <= many.peak_high < 1.2 * few.peak_high


def test_a_head_on_kept_features_is_counted_as_such(tmp_path: Path) -> None:
    long = {"steps": 2000, "evaluate_every": 2000, "checkpoint_every": 2000}
    plain = fresh(picture_recipe(tmp_path, kind="timm_vit", method="head", train=long), tmp_path / "a")
    moving = picture_recipe(tmp_path, kind="timm_vit", method="head", task={"augment": "light"}, train=long)
    on_features = forecast(*plain, tmp_path).seconds_of["training"]
    through_all = forecast(*fresh(moving, tmp_path / "b"), tmp_path).seconds_of["training"]
    assert on_features < 0.7 * through_all


def test_a_penalty_and_old_tasks_are_added(settings: Settings, tmp_path: Path) -> None:
    old = {"old_tasks": [], "at_evaluations": True}
    ready, learning = fresh(settings(train={"steps": 100, "evaluate_every": 50}, forgetting=old), tmp_path)

    def slow(model: Any, step: int) -> Any:
        time.sleep(0.2)
        yield next(p for p in model.parameters() if p.requires_grad).sum()

    plain = forecast(ready, learning, tmp_path)
    more = forecast(ready, learning, tmp_path, penalty=slow, spent={"before": 7.0, "old_tasks": 10.0, "answers": 5.0})
    assert more.seconds_of["training"] > plain.seconds_of["training"] + 100 * 0.1
    assert more.seconds_of["before"] == 22.0
    assert more.seconds_of["evaluations"] > 2 * 5.0
    assert more.seconds_of["ending"] > 20.0


def test_the_first_passes_are_thrown_away_and_the_rest_read_off_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = np.array([8.0, 64.0, 16.0, 32.0, 48.0] * 20)
    ran: list[int] = []
    monkeypatch.setattr(pace, "timed", lambda run: (run(), float(0.5 + sizes[ran[-1]] / 10))[1])
    found = pace.measured(ran.append, sizes, seconds=60)
    assert sizes[ran[0]] == 64.0  # the largest first, then the smallest, neither timed
    assert sizes[ran[1]] == 8.0
    assert found.readings == len(ran) - 2
    assert found.over(sizes) == pytest.approx((0.5 + sizes / 10).sum())
    assert found.spread == pytest.approx(0)
    assert found.at(np.array([128.0]))[0] == pytest.approx(2 * (0.5 + 6.4))  # beyond the largest: in proportion
    assert found.over(np.array([])) == 0.0


def test_no_more_is_timed_than_the_seconds_allow() -> None:
    ran: list[int] = []

    def run(number: int) -> None:
        ran.append(number)
        time.sleep(0.01)

    pace.measured(run, np.arange(1.0, 100.0), seconds=0.006)
    assert len(ran) == 4  # two thrown away, two timed


def test_a_pass_that_takes_long_is_run_once_and_others_are_taken_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    monkeypatch.setattr(pace, "timed", lambda run: (run(), 9.0)[1])
    found = pace.measured(ran.append, np.array([16.0, 64.0, 32.0]), seconds=2.0)
    assert ran == [1]
    assert found.over(np.array([64.0, 32.0, 16.0])) == pytest.approx(9.0 + 4.5 + 2.25)


def test_what_is_never_scored_is_never_tried(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings()
    given["data"]["split"] = {"validation": 0.0, "test": 0.0}
    ready, learning = fresh(given, tmp_path)
    monkeypatch.setattr(type(ready.recipe.task), "predict", None)
    found = forecast(ready, learning, tmp_path)
    assert found.seconds_of["training"] > 0
    assert found.seconds_of["evaluations"] == 0


@pytest.mark.parametrize(("steps", "evaluate", "save"), [(12, 5, 2), (10, 10, 3), (7, 3, 100), (1, 1, 1)])
def test_evaluations_and_checkpoints_are_counted_as_the_run_makes_them(steps: int, evaluate: int, save: int) -> None:
    plan = Plan(steps, 0, "linear", 0.0, 1.0, evaluate, MainScore("accuracy", "higher"), 1e-3)
    at = [step for step in range(1, steps + 1) if plan.evaluates_at(step)]
    assert forecasting._evaluations(plan) == len(at)
    saved = {step for step in range(1, steps + 1) if step % save == 0 or step in at or step == steps}
    assert forecasting._checkpoints(plan, save, evaluates=True) == len(saved)


def test_the_line_says_what_each_number_is() -> None:
    found = Forecast(200.0, 150.0, 7200.0, 900.0, 800.0, 2048.0, {}, 1200, 32, may_stop_early=True)
    line = found.line()
    assert "1,200 steps of 32 examples: 3.3 min (2.5 min to 2.0 h)" in line
    assert "900 MiB of memory at most (800 MiB to 2.00 GiB)" in line
    assert "early stopping may end it sooner" in line


def test_what_was_spent_survives_a_resume_and_stands_beside_the_forecast(tmp_path: Path) -> None:
    found = Forecast(20.0, 15.0, 25.0, 900.0, 800.0, 1000.0, {"training": 10.0, "ending": 10.0}, 12, 8)
    keep_forecast(found, tmp_path)
    Spent(tmp_path / "spent.json").add("before", 2.0)
    spent = Spent(tmp_path / "spent.json")  # a resumed run
    spent.add("before", 1.0)
    spent.add("ending", 4.0)
    cost = against(kept_forecast(tmp_path), spent.seconds, training=9.0)
    assert cost["whole_seconds"] == 16.0
    assert cost["stages"] == {"before": 3.0, "training": 9.0, "evaluations": 0, "checkpoints": 0, "ending": 4.0}
    assert cost["forecast"]["seconds"] == [20.0, 15.0, 25.0]
    assert cost["forecast"]["peak_mib"] == [900.0, 800.0, 1000.0]
    (tmp_path / "spent.json").write_text('{"before": 3', encoding="utf-8")  # cut off by a crash
    assert Spent(tmp_path / "spent.json").seconds == {}
    assert "forecast" not in against(kept_forecast(tmp_path / "none"), {}, training=1.0)


def test_the_report_holds_the_forecast_against_what_it_was(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    assert told.forecast(read_facts(run)) == {}
    scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    made = Forecast(90.0, 70.0, 110.0, 900.0, 850.0, 1000.0, {"training": 70.0, "ending": 20.0}, 400, 32)
    scores["cost"] |= against(made.as_dict(), {"ending": 5.8}, training=74.2)
    (run / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
    found = told.forecast(read_facts(run))
    time_row, memory_row = found["rows"]
    assert time_row == {
        "name": "Time", "foretold": "1 min 30 s", "band": "1 min 10 s to 1 min 50 s", "actual": "1 min 20 s",
        "off": "+12 %", "inside": True,
    }  # fmt: skip
    assert memory_row["off"] == "−24 %"
    assert not memory_row["inside"]
    assert [stage["name"] for stage in found["stages"]] == ["training", "scoring and writing up"]
    assert (found["made"], found["meant"]) == (312, 400)
