"""A model with a head as an old task, on data that show it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.forgetting.conftest import opened, ready
from tests.run.pictures import COLOURS, picture_recipe
from tests.run.worker import recipe, write_reviews

from tunesmith.errors import ModelError, RecipeError

Folders = Callable[[str], Path]


def test_a_models_own_head_is_scored_on_named_data(old_run: Path, new_data: Path, tmp_path: Path) -> None:
    data = write_reviews(tmp_path / "old.csv", rows=60, seed=2)
    new = ready(recipe(old_run / "best", new_data), tmp_path / "w")
    named = {"source": str(old_run / "best"), "task": "text_classification", "data": str(data), "name": "reviews"}
    by_head, by_run = opened(new, tmp_path / "o", named, {"source": str(old_run), "data": str(data)})
    assert (by_head.kind, by_head.name) == ("head", "reviews")
    model = new.pretrained.model
    assert by_head.score(by_head.answers(model, "test"), "test") == by_run.score(by_run.answers(model, "test"), "test")
    assert by_head.forgetting(by_head.answers(model, "test"), by_head.answers(model, "test"), "test").value == 0


def test_classes_that_the_head_does_not_know_are_told(old_run: Path, new_data: Path, tmp_path: Path) -> None:
    new = ready(recipe(old_run / "best", new_data), tmp_path / "w")
    named = {"source": str(old_run / "best"), "task": "text_classification", "data": str(new_data)}
    with pytest.raises(ModelError, match="no head that knows the classes blame, praise"):
        opened(new, tmp_path / "o", named)


def test_a_model_without_a_head_is_told(tiny_folders: Folders, new_data: Path, tmp_path: Path) -> None:
    new = ready(recipe(tiny_folders("bert"), new_data), tmp_path / "w")
    named = {"source": str(tiny_folders("bert")), "task": "text_classification", "data": str(new_data)}
    with pytest.raises(ModelError, match="would be drawn at random"):
        opened(new, tmp_path / "o", named)


def test_a_head_of_pictures_keeps_its_rows_by_name(tmp_path: Path) -> None:
    settings = picture_recipe(tmp_path)
    data = Path(settings["data"]["path"])
    new = ready(settings, tmp_path / "w")
    renamed = tmp_path / "renamed"
    for own, known in zip(COLOURS, ("cat", "dog", "car"), strict=True):
        shutil.copytree(data / own, renamed / known)
    named = {"source": settings["model"], "task": "image_classification", "data": str(renamed)}
    (task,) = opened(new, tmp_path / "o", named)
    answers = task.answers(new.pretrained.model, "test")
    assert answers.shape == (task.rows("test"), 3)
    assert 0 <= task.score(answers, "test")["accuracy"] <= 1


def test_a_task_without_data_is_refused_by_the_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="needs data"):
        opened(None, tmp_path, {"source": "m", "task": "text_classification"})  # type: ignore[arg-type]
