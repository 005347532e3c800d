"""Tasks of the lm-evaluation-harness as old tasks: scored before, after and with the method off, never learned from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.forgetting.conftest import opened, opened_or_skipped, ready
from tests.forgetting.test_language import preferring, settings, shaken
from tests.harness_files import write_choices
from tests.run.worker import recipe
from tests.tiny_language_model import write_chats, write_tiny_language_model

from tunesmith.errors import DataError, ModelError, RecipeError
from tunesmith.forgetting.harness import Asked
from tunesmith.forgetting.old_tasks import names_of
from tunesmith.recipe.forgetting import OldTask
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.absolute import absolute
from tunesmith.run.fit import fit
from tunesmith.run.forgotten import guard, untouched
from tunesmith.run.setup import start_learning

pytest.importorskip("lm_eval", reason="the harness extra is not installed")


@pytest.fixture(scope="session")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_language_model(tmp_path_factory.mktemp("talker"))


def test_what_is_lost_is_the_difference_of_the_main_score(talker: Path, tmp_path: Path) -> None:
    new = ready(settings(talker, write_chats(tmp_path / "new.jsonl", rows=40)), tmp_path / "w")
    path = write_choices(tmp_path / "t", rows=30)
    (task,) = opened(new, tmp_path / "o", f"harness:{path}", rows=20)
    assert isinstance(task, Asked)
    assert (task.name, task.parts, task.rows("test"), task.labelled) == ("boats", ("test",), 20, False)
    first = task.untouched("test")
    np.testing.assert_array_equal(task.answers(new.pretrained.model, "test"), first)
    shaken(new.pretrained.model, by=2.0)
    last = task.answers(new.pretrained.model, "test")
    change = task.forgetting(first, last, "test")
    assert change.value == pytest.approx(task.score(first, "test")["acc"] - task.score(last, "test")["acc"])
    assert change.value != 0
    assert change.low <= change.value <= change.high


@pytest.mark.parametrize("method", ["lora", "prompt_tuning", "prefix_tuning", "full"])
def test_a_run_scores_it_before_after_and_with_the_method_off(method: str, talker: Path, tmp_path: Path) -> None:
    path = write_choices(tmp_path / "t")
    old = {"old_tasks": [f"harness:{path}"], "rows": 10, "at_evaluations": True}
    made = settings(talker, write_chats(tmp_path / "new.jsonl", rows=40), method=method, forgetting=old)
    run = fit(Recipe.make(made), tmp_path / "run")
    found = run.scores["old_tasks"]["boats"]
    assert (found["kind"], found["rows"], found["main_score"]["name"]) == ("harness", 10, "acc")
    assert found["before"].keys() == found["after"].keys() == {"acc", "acc_norm"}
    if method != "full":
        assert found["off"] == found["before"]
        assert found["forgetting"]["off"] == [0.0, 0.0, 0.0]
    lines = (run.folder / "events.jsonl").read_text("utf-8").splitlines()
    assert any("forgotten/boats" in json.loads(line).get("scores", {}) for line in lines)
    assert "the first 10 of 14 documents" in found["definition"]


def test_preference_tuning_has_it_too(talker: Path, tmp_path: Path) -> None:
    new = preferring(talker, tmp_path)
    (task,) = opened(new, tmp_path / "o", f"harness:{write_choices(tmp_path / 't')}")
    assert task.untouched("test").shape == (14, 2)


def begun(talker: Path, place: Path, retention: Any) -> Any:
    """The guard of a run whose one old task is of the harness."""
    changes = {"retention": retention, "forgetting": {"old_tasks": [f"harness:{write_choices(place / 't')}"]}}
    new = ready(settings(talker, write_chats(place / "new.jsonl", rows=40), **changes), place / "w")
    (place / "run").mkdir()
    return guard(new, start_learning(new), untouched(new, place / "run"))


@pytest.mark.parametrize("retention", ["replay", "lwf", {"name": "lwf", "inputs": "old"}, "ewc"])
def test_a_retention_that_learns_from_old_work_is_refused(retention: Any, talker: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="tasks of the harness are scored"):
        begun(talker, tmp_path, retention)


def test_other_retentions_go_with_it(talker: Path, tmp_path: Path) -> None:
    assert begun(talker, tmp_path, "l2_sp").penalty is not None


def test_a_point_between_untouched_and_tuned_is_chosen_by_it(talker: Path, tmp_path: Path) -> None:
    old = {"old_tasks": [f"harness:{write_choices(tmp_path / 't')}"]}
    chats = write_chats(tmp_path / "new.jsonl", rows=40)
    run = fit(Recipe.make(settings(talker, chats, forgetting=old, retention="wise_ft")), tmp_path / "run")
    assert run.scores["old_tasks"]["boats"]["kind"] == "harness"
    assert run.scores["old_tasks"]["boats"]["chosen_by"] == ["wise_ft"]
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "wise_ft chose this run’s state by these same examples" in page


def test_a_resumed_run_must_find_the_same_documents(talker: Path, tmp_path: Path) -> None:
    new = ready(settings(talker, write_chats(tmp_path / "new.jsonl", rows=40)), tmp_path / "w")
    source = f"harness:{write_choices(tmp_path / 't')}"
    known = {"boats/test": np.zeros((14, 2), np.float32)}
    assert len(opened_or_skipped(new, tmp_path / "o", source, known=known)[0]) == 1
    write_choices(tmp_path / "t", rows=12)
    with pytest.raises(DataError, match="others than when this run began"):
        opened_or_skipped(new, tmp_path / "p", source, known=known)


def test_a_run_of_another_kind_is_refused(tiny_folders: Callable[[str], Path], new_data: Path, tmp_path: Path) -> None:
    new = ready(recipe(tiny_folders("bert"), new_data), tmp_path / "w")
    with pytest.raises(ModelError, match=r"of language models .*text_classification"):
        opened(new, tmp_path / "o", f"harness:{write_choices(tmp_path / 't')}")


def test_it_brings_its_own_data() -> None:
    with pytest.raises(RecipeError, match="leave task and data out"):
        Recipe.make({"task": "causal_lm", "model": "m", "data": "d",
                     "forgetting": {"old_tasks": [{"source": "harness:arc_easy", "data": "d"}]}})  # fmt: skip


def test_a_task_file_is_found_again_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_choices(tmp_path / "tasks")
    monkeypatch.chdir(tmp_path)
    old = {"old_tasks": ["harness:hf:tasks/boats.yaml", "harness:arc_easy"]}
    found = absolute(Recipe.make({"task": "causal_lm", "model": "m", "data": "d", "forgetting": old}))
    assert [task.source for task in found.forgetting.old_tasks] == [
        f"harness:hf:{tmp_path / 'tasks' / 'boats.yaml'}",
        "harness:arc_easy",
    ]


def test_names_are_those_of_the_tasks() -> None:
    tasks = [OldTask(source=each) for each in ("harness:hf:arc_easy", "harness:arc_easy", "harness:tasks/boats.yaml")]
    assert names_of(tasks) == ("arc_easy", "arc_easy-2", "boats")
