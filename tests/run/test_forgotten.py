"""Old tasks and retention in a whole run: scored with the method on and off, held, resumed, and ruled by."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.run.worker import finish, killed_and_whole, recipe, write_reviews

from tunesmith.data.prefetch import Prefetched
from tunesmith.errors import RecipeError, RunError
from tunesmith.events import Event, Stage
from tunesmith.recipe.recipe import Recipe
from tunesmith.run import fit as spine
from tunesmith.run.forgotten import Untouched, _without_choice, scores_now
from tunesmith.run.line import _restatistics
from tunesmith.types import MainScore

Settings = Callable[..., dict[str, Any]]
EARLIER = {"steps": 12, "learning_rate": 3e-3, "head_learning_rate": 1e-2}


@pytest.fixture(scope="module")
def old(tiny_folders: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned which reviews are good."""
    place = tmp_path_factory.mktemp("earlier")
    data = write_reviews(place / "reviews.csv", rows=120)
    settings = recipe(tiny_folders("bert"), data, method="full", train=EARLIER)
    return spine.fit(Recipe.make(settings), place / "old").folder


@pytest.fixture
def settings(old: Path, tmp_path: Path) -> Settings:
    """A run from there, on other reviews."""
    data = write_reviews(tmp_path / "reviews.csv", seed=5)
    forgetting = {"old_tasks": [str(old)], "at_evaluations": True}
    return lambda **changes: recipe(old, data, **{"forgetting": forgetting, **changes})


def test_old_tasks_are_scored_before_while_and_after_with_the_method_on_and_off(
    settings: Settings, tmp_path: Path
) -> None:
    forgetting = {"old_tasks": [settings()["forgetting"]["old_tasks"][0], "auto"], "at_evaluations": True}
    run = spine.fit(Recipe.make(settings(forgetting=forgetting)), tmp_path / "run")
    found = run.scores["old_tasks"]
    assert set(found) == {"old", "auto"}
    for task in found.values():
        assert task["off"] == task["before"]
        assert task["after"] != task["before"]
        assert task["definition"]
        value, low, high = task["forgetting"]["initial_minus_last"]
        assert low <= value <= high
        assert task["forgetting"]["off"][0] == 0
    lines = (run.folder / "events.jsonl").read_text(encoding="utf-8")
    assert lines.count('"old/old"') == lines.count('"forgotten/auto"') == 3
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "What was forgotten" in page
    assert "Forecast and actual" in page


@pytest.mark.parametrize("retention", ["lwf", *(pytest.param(r, marks=pytest.mark.slow) for r in ("replay", "ewc"))])
def test_a_run_under_a_retention_killed_three_times_ends_as_if_it_had_not_been(
    retention: str, settings: Settings, tmp_path: Path
) -> None:
    killed_and_whole(settings(retention=retention), tmp_path, steps=7)


def test_a_point_between_untouched_and_tuned_is_chosen_and_delivered(settings: Settings, tmp_path: Path) -> None:
    run = spine.fit(Recipe.make(settings(method="full", retention={"name": "wise_ft", "points": 3})), tmp_path / "run")
    told = run.scores["retention"]
    assert [point["share"] for point in told["curve"]] == [0, 0.5, 1]
    chosen = next(point for point in told["curve"] if point["share"] == told["share"])
    assert run.scores["validation"]["accuracy"] == pytest.approx(chosen["new_score"])
    assert told["curve"][0]["forgetting"] == {"old": 0}


def test_a_retention_that_cannot_serve_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="old task with examples and labels"):
        spine.fit(Recipe.make(settings(retention="replay", forgetting={"old_tasks": ["auto"]})), tmp_path / "a")
    with pytest.raises(RecipeError, match="no such line"):
        spine.fit(Recipe.make(settings(retention="wise_ft", method="prefix_tuning")), tmp_path / "b")
    none = settings(retention="wise_ft", data={"path": settings()["data"]["path"], "split": {"validation": 0}})
    with pytest.raises(RecipeError, match="chooses on validation examples"):
        spine.fit(Recipe.make(none), tmp_path / "c")
    assert not (tmp_path / "c" / "events.jsonl").exists()


def test_a_run_does_not_go_on_with_other_data_of_an_old_task(settings: Settings, tmp_path: Path) -> None:
    news = write_reviews(tmp_path / "news.csv", rows=60, seed=9)
    chosen = settings(forgetting={"old_tasks": [{"source": "auto", "data": str(news)}]})
    assert finish(chosen, tmp_path / "run") == 0
    (tmp_path / "run" / "scores.json").unlink()
    for kept in sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[1:]:
        shutil.rmtree(kept)
    write_reviews(news, rows=60, seed=10)
    with pytest.raises(RunError, match=r"what an old task reads changed since it began \(.*news.csv"):
        spine.resume(tmp_path / "run")


def test_where_only_the_head_learns_the_retention_says_that_it_holds_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    seen: list[Event] = []
    spine.fit(Recipe.make(settings(retention="l2_sp", method="head")), tmp_path / "run", seen.append)
    assert any("nothing to hold" in event.text for event in seen if isinstance(event, Stage))


def test_no_state_that_forgot_too_much_is_the_best(
    settings: Settings, tiny_folders: Callable[[str], Path], tmp_path: Path
) -> None:
    forgetting = {"old_tasks": ["auto"], "at_most": 0.0}  # every update changes the features a little
    seen: list[Event] = []
    made = Recipe.make({**settings(method="full", forgetting=forgetting), "model": str(tiny_folders("bert"))})
    run = spine.fit(made, tmp_path / "run", seen.append)
    assert any("forgot more than forgetting.at_most" in event.text for event in seen if isinstance(event, Stage))
    assert run.scores["best_step"] == 12  # the last
    with pytest.raises(RecipeError, match="needs an old task"):
        spine.fit(Recipe.make(settings(forgetting={"old_tasks": [], "at_most": 0.1})), tmp_path / "other")


def test_norms_are_counted_anew_over_a_whole_pass_though_workers_end_with_the_run() -> None:
    class Five:
        steps_per_epoch, batch_size = 5, 1

        def micro_batches(self, step: int) -> list[list[int]]:
            return [[step]]

    seen: list[list[int]] = []
    averaged: list[tuple[int, float]] = []
    task = SimpleNamespace(predict=lambda _model, batch: seen.append(batch))
    device = SimpleNamespace(
        move=lambda batch: batch,
        average_over_processes=lambda tensors, weight: averaged.append((len(tensors), weight)),
    )
    ready: Any = SimpleNamespace(recipe=SimpleNamespace(task=task), device=device)
    ahead = Prefetched(Five(), 2, 1)  # type: ignore[arg-type]
    learning: Any = SimpleNamespace(model=torch.nn.BatchNorm1d(1), batches=ahead)
    _restatistics(ready, learning, [learning.model])
    assert seen == [[1], [2], [3], [4], [5]]
    assert averaged == [(2, 5)]  # mean and variance, of five examples here


def test_an_old_task_without_a_true_box_is_left_out_of_the_choice_and_told_once() -> None:
    def task(name: str, score: float) -> Any:
        main = MainScore("ap", "higher")
        return SimpleNamespace(name=name, parts=("test", "validation"), main=main, score=lambda *_: {"ap": score},
                               answers=lambda *_: np.zeros(1))  # fmt: skip

    answers = {f"{name}/validation": np.zeros(1) for name in ("cells", "cars")}
    tasks = (task("cells", -1.0), task("cars", 0.5))
    learning: Any = SimpleNamespace(model=None)
    assert scores_now(learning, Untouched(tasks, (), answers)) == {"cars": (0.5, 0.0)}
    rule: Any = SimpleNamespace(retention=None, forgetting=SimpleNamespace(at_evaluations=False, at_most=0.1))
    told = _without_choice(rule, tasks, answers)
    assert len(told) == 1
    assert "the old task cells has nothing to score (no true box)" in told[0]
