"""Which old tasks are opened, what they are called, and what is said where they cannot be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.forgetting.conftest import opened, opened_or_skipped, ready
from tests.run.pictures import picture_recipe
from tests.run.worker import recipe

from tunesmith.errors import DataError, ModelError, RecipeError, RunError
from tunesmith.forgetting.old_tasks import names_of
from tunesmith.forgetting.work import chosen_rows
from tunesmith.recipe.forgetting import OldTask

Folders = Callable[[str], Path]


def test_names_are_made_from_sources_and_never_twice_the_same() -> None:
    tasks = [OldTask(source=s, name=n) for s, n in
             (("runs/news/", None), ("old/news", None), ("auto", None), ("x", "auto-2"), ("auto", None))]  # fmt: skip
    assert names_of(tasks) == ("news", "news-2", "auto", "auto-2", "auto-3")


def test_chosen_rows_keep_the_shares_of_classes_and_are_always_the_same() -> None:
    targets = np.array([0] * 80 + [1] * 20)
    rows = chosen_rows(100, 10, targets)
    assert np.bincount(targets[rows]).tolist() == [8, 2]
    assert rows.tolist() == sorted(set(rows.tolist())) == chosen_rows(100, 10, targets).tolist()
    assert chosen_rows(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert np.diff(chosen_rows(1000, 10)).tolist() == [100] * 9


def test_all_weights_drawn_leaves_auto_out_with_a_reason(tmp_path: Path) -> None:
    settings = picture_recipe(tmp_path)
    settings["model"] = {"name": settings["model"], "pretrained": False}
    tasks, skipped = opened_or_skipped(ready(settings, tmp_path / "w"), tmp_path / "o", "auto")
    assert tasks == ()
    assert "newly drawn" in skipped[0]


def test_data_without_held_out_examples_leave_auto_out_with_a_reason(
    tiny_folders: Folders, new_data: Path, tmp_path: Path
) -> None:
    data = {"path": str(new_data), "split": {"validation": 0, "test": 0}}
    new = ready(recipe(tiny_folders("bert"), new_data, data=data), tmp_path / "w")
    tasks, skipped = opened_or_skipped(new, tmp_path / "o", "auto")
    assert tasks == ()
    assert "neither test nor validation" in skipped[0]


def test_a_source_that_is_nothing_is_told(tiny_folders: Folders, new_data: Path, tmp_path: Path) -> None:
    new = ready(recipe(tiny_folders("bert"), new_data), tmp_path / "w")
    with pytest.raises(RecipeError, match="no run folder"):
        opened(new, tmp_path / "o", "runs/nowhere")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ("unfinished", RunError, "has not finished"),
        ("no best", RunError, "tunesmith.json cannot be read"),
        ("no weights", (RunError, ModelError), "model.safetensors"),
        ("data changed", DataError, "have changed since"),
        ("data gone", DataError, "its data cannot be used"),
    ],
)
def test_what_is_wrong_with_an_old_run_is_told(
    change: str, error: type[Exception], words: str, old_run: Path, new_data: Path, tmp_path: Path
) -> None:
    place = tmp_path / "old"
    shutil.copytree(old_run.parent, place)
    run, data = place / "run", place / "old.csv"
    text = (run / "recipe.yaml").read_text("utf-8")
    (run / "recipe.yaml").write_text(text.replace(str(old_run.parent / "old.csv"), str(data)), "utf-8")
    manifest = (run / "manifest.json").read_text("utf-8")
    (run / "manifest.json").write_text(manifest.replace(str(old_run.parent / "old.csv"), str(data)), "utf-8")
    if change == "unfinished":
        (run / "scores.json").unlink()
    elif change == "no best":
        shutil.rmtree(run / "best")
    elif change == "no weights":
        (run / "best" / "model.safetensors").unlink()
    elif change == "data changed":
        data.write_text(data.read_text("utf-8") + "a new row,good\n", "utf-8")
    else:
        data.unlink()
    new = ready(recipe(old_run / "best", new_data), tmp_path / "w")
    with pytest.raises(error, match=words):
        opened(new, tmp_path / "o", str(run))


def test_an_old_run_on_texts_is_refused_by_a_model_of_pictures(old_run: Path, tmp_path: Path) -> None:
    new = ready(picture_recipe(tmp_path), tmp_path / "w")
    with pytest.raises(DataError, match=r"reads texts, and this run's model pictures"):
        opened(new, tmp_path / "o", str(old_run))
    with pytest.raises(ModelError, match="reads pictures"):
        opened(new, tmp_path / "o", {"source": "texts", "data": "x.csv"})


def test_an_old_run_of_another_architecture_is_refused(
    old_run: Path, tiny_folders: Folders, new_data: Path, tmp_path: Path
) -> None:
    new = ready(recipe(tiny_folders("roberta"), new_data), tmp_path / "w")
    with pytest.raises(ModelError, match="BertForSequenceClassification, and this run's model is a Roberta"):
        opened(new, tmp_path / "o", str(old_run))


def test_an_old_run_of_another_size_is_refused(old_run: Path, new_data: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    config = AutoConfig.from_pretrained(old_run / "best")
    config.hidden_size, config.num_attention_heads = 16, 2
    AutoModel.from_config(config).save_pretrained(tmp_path / "small")
    AutoTokenizer.from_pretrained(old_run / "best").save_pretrained(tmp_path / "small")
    new = ready(recipe(tmp_path / "small", new_data), tmp_path / "w")
    with pytest.raises(ModelError, match="takes 32, here 16"):
        opened(new, tmp_path / "o", str(old_run))


def test_another_tokenizer_is_refused(old_run: Path, new_data: Path, tmp_path: Path) -> None:
    shutil.copytree(old_run / "best", tmp_path / "other")
    file = tmp_path / "other" / "tokenizer.json"
    file.write_text(file.read_text("utf-8").replace('"good"', '"geod"'), "utf-8")
    new = ready(recipe(tmp_path / "other", new_data), tmp_path / "w")
    with pytest.raises(ModelError, match="other tokens"):
        opened(new, tmp_path / "o", str(old_run))


def test_new_examples_of_an_old_run_must_have_its_classes(old_run: Path, new_data: Path, tmp_path: Path) -> None:
    new = ready(recipe(old_run / "best", new_data), tmp_path / "w")
    with pytest.raises(DataError, match=r"blame.*does not know. It knows bad, good"):
        opened(new, tmp_path / "o", {"source": str(old_run), "data": str(new_data)})
