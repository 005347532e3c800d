"""Preflight finds what would silently go wrong, and leaves everything as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.run.worker import recipe, write_reviews
from torch import nn

from tunesmith.errors import ModelError, RunError
from tunesmith.events import Stage
from tunesmith.recipe.recipe import Recipe
from tunesmith.run import fit as spine
from tunesmith.run import preflight
from tunesmith.run.setup import Ready, set_up, start_learning
from tunesmith.tasks.text_classification import TextClassification
from tunesmith.types import Batch, Loss

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(tiny_folders: Callable[[str], Path], tmp_path: Path) -> Settings:
    data = write_reviews(tmp_path / "reviews.csv")
    return lambda **changes: recipe(tiny_folders("bert"), data, **changes)


def ready_of(settings: dict[str, Any], place: Path) -> Ready:
    return next(found for found in set_up(Recipe.make(settings), place) if isinstance(found, Ready))


def failed(found: preflight.Preflight) -> list[str]:
    return [check.name for check in found.checks if not check.ok]


def test_a_sound_run_passes_and_nothing_is_moved_by_looking(settings: Settings, tmp_path: Path) -> None:
    ready = ready_of(settings(method="adalora"), tmp_path)
    learning = start_learning(ready)
    before = {name: tensor.clone() for name, tensor in learning.model.state_dict().items()}
    kept = {name: tensor.clone() for name, tensor in ready.recipe.method.state(learning.model).items()}
    assert failed(preflight.examine(ready, learning, tmp_path)) == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in learning.model.state_dict().items())
    assert all(torch.equal(t, kept[n]) for n, t in ready.recipe.method.state(learning.model).items())
    assert not learning.optimizer.state


def test_a_loss_that_averages_is_found(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = TextClassification.loss

    def mean(self: TextClassification, model: nn.Module, batch: Batch) -> Loss:
        found = true(self, model, batch)
        return Loss(found.total / found.count, found.count)  # the mean of a micro-batch, as if it were a sum

    monkeypatch.setattr(TextClassification, "loss", mean)
    ready = ready_of(settings(), tmp_path)
    assert failed(preflight.examine(ready, start_learning(ready), tmp_path)) == ["micro-batches"]


def test_a_frozen_tensor_that_moves_is_found(settings: Settings, tmp_path: Path) -> None:
    ready = ready_of(settings(), tmp_path)
    learning = start_learning(ready)
    frozen = next(p for p in learning.model.parameters() if not p.requires_grad)

    def drift(*_: Any) -> None:
        frozen.data.add_(1e-3)

    learning.model.register_forward_hook(drift)
    assert "what learns" in failed(preflight.examine(ready, learning, tmp_path))


def test_a_method_that_saves_something_else_is_found(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = ready_of(settings(method="full"), tmp_path)
    learning = start_learning(ready)
    method = type(ready.recipe.method)
    true = method.save

    def wrong(self: Any, model: Any, folder: Path, pretrained: Any) -> None:
        kept = model.classifier.weight.detach().clone()
        model.classifier.weight.data.mul_(2)
        true(self, model, folder, pretrained)
        model.classifier.weight.data.copy_(kept)

    monkeypatch.setattr(method, "save", wrong)
    assert failed(preflight.examine(ready, learning, tmp_path)) == ["saved and read back"]
    with pytest.raises(RunError, match="nothing was trained"):
        spine.fit(Recipe.make(settings(method="full")), tmp_path / "run")


def test_a_first_batch_of_few_rows_passes(settings: Settings, tmp_path: Path) -> None:
    data = write_reviews(tmp_path / "few.csv", rows=12)
    split = {"path": str(data), "split": {"validation": 0.0, "test": 0.2}}
    for seed in range(4):
        ready = ready_of(settings(data=split, train={"seed": seed, "batch_size": 7}), tmp_path / str(seed))
        assert failed(preflight.examine(ready, start_learning(ready), tmp_path)) == []


def test_a_base_whose_head_has_another_size_is_read_back(
    settings: Settings, tmp_path: Path, tiny_folders: Callable[[str], Path]
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    AutoModelForSequenceClassification.from_pretrained(tiny_folders("bert"), num_labels=5).save_pretrained(
        tmp_path / "m"
    )
    AutoTokenizer.from_pretrained(tiny_folders("bert")).save_pretrained(tmp_path / "m")
    run = spine.fit(Recipe.make(settings(model=str(tmp_path / "m"))), tmp_path / "run")
    assert run.scores["after"]["accuracy"] >= 0


def test_a_start_that_fails_leaves_no_folder_that_blocks_the_next(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        spine.fit(Recipe.make(settings(model="nowhere/at/all")), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    spine.fit(Recipe.make(settings()), tmp_path / "run")


def test_check_trains_nothing_and_leaves_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    found = preflight.check(Recipe.make(settings()))
    assert found.ok
    assert any("80 read = 80 used + 0 quarantined + 0 blank" in line for line in found.lines())
    assert sorted(tmp_path.rglob("*")) == before


def test_several_labels_are_learned_scored_and_answered(
    settings: Settings, tmp_path: Path, tiny_folders: Callable[[str], Path]
) -> None:
    from tunesmith.deploy.predictor import Predictor

    rows = [f'{{"text": "{("good" if i % 2 else "bad")} {("film" if i % 3 else "story")} {i}", "label": '
            f'["{("good" if i % 2 else "bad")}", "{("film" if i % 3 else "story")}"]}}' for i in range(90)]  # fmt: skip
    (tmp_path / "many.jsonl").write_text("\n".join(rows), encoding="utf-8")
    said: list[Any] = []
    run = spine.fit(
        Recipe.make(settings(data=str(tmp_path / "many.jsonl"), method="full")), tmp_path / "run", said.append
    )
    assert run.scores["main_score"]["name"] == "micro_f1"
    low, high = run.scores["intervals"]["after"]["micro_f1"]
    assert low <= run.scores["after"]["micro_f1"] <= high
    assert isinstance(Predictor(run.folder).predict_texts(["good film"])[0].label, tuple)
    assert any(isinstance(event, Stage) for event in said)
