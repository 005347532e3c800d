"""What a run promises: files, exit codes, one run a folder, signals, and the same bits again."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.run.worker import events, finish, recipe, start, state, write_reviews

from tunesmith.errors import DataError, InterruptedRun, NotFiniteError, RecipeError, RunError
from tunesmith.events import Begun, Evaluated, Event, Step
from tunesmith.recipe.recipe import Recipe
from tunesmith.run import fit as spine

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(tiny_folders: Callable[[str], Path], tmp_path: Path) -> Settings:
    data = write_reviews(tmp_path / "reviews.csv")
    return lambda **changes: recipe(tiny_folders("bert"), data, **changes)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_a_run_leaves_everything_that_the_plan_names(settings: Settings, tmp_path: Path) -> None:
    seen: list[Event] = []
    run = spine.fit(Recipe.make(settings()), tmp_path / "run", seen.append)
    names = {p.name for p in run.folder.iterdir()}
    expected = {
        "recipe.yaml",
        "manifest.json",
        "events.jsonl",
        "scores.json",
        "quarantine.jsonl",
        "checkpoints",
        "best",
    }
    assert expected | {"report.html", "predictions"} <= names
    assert {"README.md", "adapter_model.safetensors", "tokenizer.json"} <= {
        p.name for p in (run.folder / "best").iterdir()
    }
    steps = [e for e in seen if isinstance(e, Step)]
    assert [e.step for e in steps] == list(range(1, 13))
    assert [e.step for e in seen if isinstance(e, Evaluated)] == [5, 10, 12]
    begun = next(e for e in seen if isinstance(e, Begun))
    assert begun.before == run.scores["before"]
    assert "auto" not in json.dumps({**run.recipe["train"], "epochs": None})  # steps are given instead
    assert run.scores["cost"]["learned"] > 0
    assert not list(run.folder.glob("**/*.bin"))
    assert not (run.folder / ".work").exists()


def test_the_same_recipe_gives_the_same_bits(settings: Settings, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert finish(settings(), tmp_path / name) == 0
    assert events(tmp_path / "one") == events(tmp_path / "two")
    assert state(tmp_path / "one") == state(tmp_path / "two")


@pytest.mark.slow
def test_another_seed_gives_another_run(settings: Settings, tmp_path: Path) -> None:
    for seed in (1, 2):
        spine.fit(Recipe.make(settings(train={"seed": seed})), tmp_path / str(seed))
    assert events(tmp_path / "1") != events(tmp_path / "2")


def test_micro_batches_change_nothing_beyond_rounding_even_with_dropout(settings: Settings, tmp_path: Path) -> None:
    losses = []
    for size in (8, 3, 1):
        train = {"micro_batch_size": size, "precision": "float32"}
        spine.fit(Recipe.make(settings(method="full", train=train)), tmp_path / str(size))
        losses.append([e["loss"] for e in events(tmp_path / str(size)) if e["event"] == "step"])
    assert losses[1] == pytest.approx(losses[0], rel=2e-4)  # float32 sums in another order, over 12 steps
    assert losses[2] == pytest.approx(losses[0], rel=2e-4)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves_with_75_and_the_run_goes_on_exactly(
    number: signal.Signals, settings: Settings, tmp_path: Path
) -> None:
    assert finish(settings(), tmp_path / "whole") == 0
    process = start(settings(), tmp_path / "stopped", pause=0.1)
    log = tmp_path / "stopped" / "events.jsonl"
    wait_for(lambda: log.exists() and log.read_text().count("\n") >= 3)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == 75
    assert finish(settings(), tmp_path / "stopped") == 0
    assert events(tmp_path / "stopped") == events(tmp_path / "whole")
    assert state(tmp_path / "stopped") == state(tmp_path / "whole")


def test_a_stop_that_is_asked_for_before_an_evaluation_does_not_wait_for_it(settings: Settings, tmp_path: Path) -> None:
    train = {"steps": 6, "evaluate_every": 3, "checkpoint_every": 100}
    spine.fit(Recipe.make(settings(train=train)), tmp_path / "whole")

    def ask(event: Event) -> None:
        if isinstance(event, Step) and event.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedRun):
        spine.fit(Recipe.make(settings(train=train)), tmp_path / "stopped", ask)
    assert [e["event"] for e in events(tmp_path / "stopped")] == ["step"] * 3
    spine.resume(tmp_path / "stopped")
    assert events(tmp_path / "stopped") == events(tmp_path / "whole")
    assert state(tmp_path / "stopped") == state(tmp_path / "whole")


def test_a_second_run_in_the_same_folder_is_refused_with_73(settings: Settings, tmp_path: Path) -> None:
    first = start(settings(), tmp_path / "run", pause=0.2)
    wait_for((tmp_path / "run" / "recipe.yaml").exists)
    assert finish(settings(), tmp_path / "run") == 73
    first.kill()
    first.join()


def test_resuming_a_finished_run_says_so_and_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    run = spine.fit(Recipe.make(settings()), tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}
    said: list[Event] = []
    again = spine.resume(run.folder, said.append)
    assert again.scores == run.scores
    assert "finished already" in str(said)
    assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")} == before


def test_fit_refuses_a_folder_that_holds_a_run(settings: Settings, tmp_path: Path) -> None:
    spine.fit(Recipe.make(settings(train={"steps": 1})), tmp_path / "run")
    with pytest.raises(RunError, match="resume"):
        spine.fit(Recipe.make(settings()), tmp_path / "run")


def test_a_damaged_newest_checkpoint_is_named_and_passed_over(settings: Settings, tmp_path: Path) -> None:
    assert finish(settings(), tmp_path / "whole") == 0
    stopped = spine.stream(Recipe.make(settings()), tmp_path / "run")
    for event in stopped:
        if isinstance(event, Step) and event.step == 7:
            break
    stopped.close()
    newest = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1]
    weights = newest / "learned.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    said: list[Event] = []
    spine.resume(tmp_path / "run", said.append)
    assert f"passing over a damaged checkpoint: {weights}" in str(said)
    assert events(tmp_path / "run") == events(tmp_path / "whole")
    assert state(tmp_path / "run") == state(tmp_path / "whole")


def test_changed_data_cannot_be_resumed_in_silence(settings: Settings, tmp_path: Path) -> None:
    stopped = spine.stream(Recipe.make(settings()), tmp_path / "run")
    for event in stopped:
        if isinstance(event, Step) and event.step == 4:
            break
    stopped.close()
    write_reviews(tmp_path / "reviews.csv", seed=1)
    with pytest.raises(RunError, match="data's files"):
        spine.resume(tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_with_76_and_keeps_the_last_good_state(
    settings: Settings, tmp_path: Path
) -> None:
    train = {"learning_rate": 10.0, "warmup": 0.0, "steps": 400, "evaluate_every": 400, "checkpoint_every": 1}
    changed = settings(method="full", train=train)
    with pytest.MonkeyPatch.context() as patch:
        from tunesmith.tasks.text_classification import TextClassification

        true = TextClassification.loss
        calls = []

        def loss(self: Any, model: Any, batch: Any) -> Any:
            calls.append(1)
            found = true(self, model, batch)
            return type(found)(found.total * float("nan"), found.count) if len(calls) > 40 else found

        patch.setattr(TextClassification, "loss", loss)
        with pytest.raises(NotFiniteError, match="not made") as fault:
            spine.fit(Recipe.make(changed), tmp_path / "run")
    assert fault.value.exit_code == 76
    last = events(tmp_path / "run")[-1]["step"]
    newest = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1]
    assert newest.name == f"step-{last:08d}"
    weights = load_file(newest / "learned.safetensors")
    assert all(np.isfinite(value).all() for value in weights.values())


def test_early_stopping_ends_a_run_that_no_longer_gains(settings: Settings, tmp_path: Path) -> None:
    train = {"steps": 200, "evaluate_every": 1, "early_stopping": 2, "checkpoint_every": 50}
    spine.fit(Recipe.make(settings(train=train)), tmp_path / "run")
    scored = [e for e in events(tmp_path / "run") if e["event"] == "evaluated"]
    assert len(scored) < 200
    assert [e["best"] for e in scored[-2:]] == [False, False]


def test_the_best_state_is_delivered_not_the_last(settings: Settings, tmp_path: Path) -> None:
    # A rate that ruins the model after a good start: linear warm-up ends far too high.
    train = {"steps": 30, "evaluate_every": 2, "learning_rate": 0.3, "head_learning_rate": 0.3, "schedule": "constant"}
    run = spine.fit(Recipe.make(settings(train={**train, "warmup": 0.9})), tmp_path / "run")
    scored = {e["step"]: e["scores"]["accuracy"] for e in events(run.folder) if e["event"] == "evaluated"}
    best = max(scored.values())
    assert run.scores["best_step"] == min(step for step, value in scored.items() if value == best)


def test_no_validation_share_delivers_the_last_state(settings: Settings, tmp_path: Path) -> None:
    data = {**settings()["data"], "split": {"validation": 0.0, "test": 0.2}}
    run = spine.fit(Recipe.make(settings(data=data)), tmp_path / "run")
    assert run.scores["best_step"] == 12
    assert not [e for e in events(run.folder) if e["event"] == "evaluated"]


def test_too_long_a_max_length_is_refused_with_what_fits(settings: Settings, tmp_path: Path) -> None:
    task = {"name": "text_classification", "max_length": 100}
    with pytest.raises(Exception, match="at most 60"):
        spine.fit(Recipe.make(settings(task=task)), tmp_path / "run")


def test_nothing_left_to_train_on_is_a_data_error(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("text,label\ngood,a\n", encoding="utf-8")
    with pytest.raises(DataError):
        spine.fit(Recipe.make(settings(data=str(tmp_path / "one.csv"))), tmp_path / "run")


def test_a_folder_with_files_of_ones_own_is_refused_and_left_alone(settings: Settings, tmp_path: Path) -> None:
    mine = tmp_path / "project"
    mine.mkdir()
    (mine / "recipe.yaml").write_text("task: text_classification  # mine\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"write over \(recipe.yaml\)"):
        spine.fit(Recipe.make(settings()), mine)
    assert (mine / "recipe.yaml").read_text(encoding="utf-8").endswith("# mine\n")
    with pytest.raises(DataError):  # a failed start leaves nothing, and no trace in the way of the next
        spine.fit(Recipe.make(settings(data={"path": str(tmp_path / "none.csv")})), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_early_stopping_without_validation_examples_is_refused(settings: Settings, tmp_path: Path) -> None:
    data = {"path": settings()["data"]["path"], "split": {"validation": 0}}
    with pytest.raises(RecipeError, match=r"train.early_stopping: stops by validation"):
        spine.fit(Recipe.make(settings(data=data, train={"early_stopping": 2})), tmp_path / "run")


def test_thresholds_fitted_to_the_scored_rows_do_not_score_them(settings: Settings, tmp_path: Path) -> None:
    """Without a test part the validation rows are scored; before and after are then both above even odds."""
    lines = ["text,label"] + [f"film {n} good bad,{'|'.join('ab'[: 1 + n % 2])}" for n in range(60)]
    (tmp_path / "several.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = {"path": str(tmp_path / "several.csv"), "label_separator": "|", "split": {"validation": 0.3, "test": 0}}
    run = spine.fit(Recipe.make(settings(data=data, train={"steps": 2, "learning_rate": 1e-9})), tmp_path / "run")
    assert run.scores["part"] == "validation"
    assert run.scores["thresholds"] != [0.0] * len(run.scores["thresholds"])
    assert run.scores["difference"]["micro_f1"][0] == pytest.approx(0, abs=1e-6)
    assert run.scores["validation"] == run.scores["after"]
