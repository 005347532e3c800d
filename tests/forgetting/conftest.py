"""An old run, really trained, and what a new run opens its old tasks with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.run.pictures import picture_recipe
from tests.run.worker import recipe, write_reviews

from tunesmith.forgetting.base import OpenTask
from tunesmith.forgetting.old_tasks import open_old_tasks
from tunesmith.recipe.forgetting import ForgettingOptions
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.fit import fit
from tunesmith.run.setup import Ready, set_up

SHORT = {"steps": 3, "evaluate_every": 3, "checkpoint_every": 3}
NOTHING: dict[str, Any] = {"forgetting": {"old_tasks": []}}
Opened = Callable[..., tuple[OpenTask, ...]]


def ready(settings: dict[str, Any], work: Path) -> Ready:
    """Data and untouched model of a new run."""
    return next(found for found in set_up(Recipe.make(settings), work) if isinstance(found, Ready))


def opened(new: Ready, work: Path, *old: Any, **options: Any) -> tuple[OpenTask, ...]:
    """The old tasks of a new run, none left out."""
    tasks, skipped = opened_or_skipped(new, work, *old, **options)
    assert not skipped
    return tasks


def opened_or_skipped(
    new: Ready, work: Path, *old: Any, known: Any = None, **options: Any
) -> tuple[tuple[OpenTask, ...], tuple[str, ...]]:
    settings = {
        "task": "text_classification",
        "model": "m",
        "data": "d",
        "forgetting": {"old_tasks": [*old], **options},
    }
    chosen: ForgettingOptions = Recipe.make(settings).forgetting
    return open_old_tasks(
        chosen,
        task=new.recipe.task,
        dataset=new.dataset,
        parts=new.parts,
        pretrained=new.pretrained,
        device=new.device,
        work=work,
        seed=3,
        batch_size=8,
        known=known,
    )


@pytest.fixture(scope="session")
def old_run(tiny_folders: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the full method on texts, its data beside it."""
    place = tmp_path_factory.mktemp("old")
    data = write_reviews(place / "old.csv", rows=120)
    made = Recipe.make(recipe(tiny_folders("bert"), data, method="full", train=SHORT, **NOTHING))
    return fit(made, place / "run").folder


@pytest.fixture(scope="session")
def old_lora(tiny_folders: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of lora on texts."""
    place = tmp_path_factory.mktemp("lora")
    data = write_reviews(place / "old.csv", rows=60)
    return fit(Recipe.make(recipe(tiny_folders("bert"), data, train=SHORT, **NOTHING)), place / "run").folder


@pytest.fixture(scope="session")
def old_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the full method on pictures."""
    place = tmp_path_factory.mktemp("pictures")
    return fit(Recipe.make({**picture_recipe(place, train=SHORT), **NOTHING}), place / "run").folder


@pytest.fixture
def new_data(tmp_path: Path) -> Path:
    """Other texts with other classes."""
    data = write_reviews(tmp_path / "new.csv", seed=5)
    data.write_text(data.read_text("utf-8").replace(",good", ",praise").replace(",bad", ",blame"), "utf-8")
    return data
