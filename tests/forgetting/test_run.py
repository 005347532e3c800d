"""An earlier run as an old task: its head, its data, its scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.forgetting.conftest import NOTHING, SHORT, opened, ready
from tests.run.pictures import picture_recipe
from tests.run.worker import recipe, write_reviews

from tunesmith.forgetting.headed import Headed
from tunesmith.forgetting.measures import summary
from tunesmith.recipe.recipe import Recipe
from tunesmith.run.fit import fit
from tunesmith.train import randomness

Folders = Callable[[str], Path]


def scores(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "scores.json").read_text("utf-8"))
    return found


def test_the_untouched_model_gives_the_old_runs_own_scores(old_run: Path, new_data: Path, tmp_path: Path) -> None:
    new = ready(recipe(old_run / "best", new_data), tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", str(old_run))
    found = task.score(task.answers(new.pretrained.model, "test"), "test")
    told = scores(old_run)["after"]
    assert found["accuracy"] == told["accuracy"]
    assert found == pytest.approx(
        told, abs=1e-5
    )  # rounding: the delivered model computes the last block in another way
    assert task.parts == ("test", "validation")
    assert task.rows("test") == 12
    assert f"reported {told['accuracy']:.4f}" in task.definition
    assert "all 12 test examples" in task.definition


def test_pictures_give_the_old_runs_own_scores_too(old_pictures: Path, tmp_path: Path) -> None:
    settings = {**picture_recipe(tmp_path), "model": str(old_pictures / "best")}
    new = ready(settings, tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", str(old_pictures))
    found = task.score(task.answers(new.pretrained.model, "test"), "test")
    assert found == pytest.approx(scores(old_pictures)["after"], abs=1e-5)


def test_the_head_beside_an_adapter_is_found(
    old_lora: Path, tiny_folders: Folders, new_data: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    new = ready(recipe(tiny_folders("bert"), new_data), tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", str(old_lora))
    assert isinstance(task, Headed)
    saved = load_file(old_lora / "best" / "adapter_model.safetensors")
    assert torch.equal(task.head.modules["classifier"].weight, saved["base_model.model.classifier.weight"])  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["full", "lora", "prompt_tuning", "ia3", "adapter"])
def test_a_method_that_has_not_learned_yet_forgets_nothing(
    method: str, old_run: Path, new_data: Path, tmp_path: Path
) -> None:
    """Prompts change the answers from the start; all others leave them as they were."""
    new = ready(recipe(old_run / "best", new_data, method=method), tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", str(old_run))
    before = task.answers(new.pretrained.model, "test")
    torch.manual_seed(0)
    model = new.recipe.method.prepare(new.pretrained)
    after = task.answers(model, "test")
    assert after.shape == before.shape == (12, 2)
    if method == "prompt_tuning":
        assert np.isfinite(after).all()
        return
    np.testing.assert_allclose(after, before, atol=1e-6)
    found = task.forgetting(before, after, "test")
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_new_head_comes_back_and_learning_goes_on(old_run: Path, new_data: Path, tmp_path: Path) -> None:
    new = ready(recipe(old_run / "best", new_data), tmp_path / "w")
    model = new.pretrained.model
    inputs = torch.arange(3, 9)[None]
    before, names = model(input_ids=inputs).logits, dict(model.config.id2label)  # type: ignore[arg-type]
    (task,) = opened(new, tmp_path / "o", str(old_run))
    task.answers(model, "test")
    assert torch.equal(model(input_ids=inputs).logits, before)
    assert model.config.id2label == names == {0: "blame", 1: "praise"}


def test_batches_follow_from_the_step_alone(old_run: Path, new_data: Path, tmp_path: Path) -> None:
    new = ready(recipe(old_run / "best", new_data), tmp_path / "w")
    (one,) = opened(new, tmp_path / "one", str(old_run))
    (two,) = opened(new, tmp_path / "two", str(old_run))
    one.batch(1, 4)
    left, right, other = one.batch(7, 4), two.batch(7, 4), one.batch(8, 4)
    assert torch.equal(left.inputs["input_ids"], right.inputs["input_ids"])
    assert left.labels is not None
    assert right.labels is not None
    assert torch.equal(left.labels, right.labels)
    assert left.positions == (8, 9, 10, 11)
    assert left.inputs["input_ids"].shape != other.inputs["input_ids"].shape or not torch.equal(
        left.inputs["input_ids"], other.inputs["input_ids"]
    )
    assert len(one.batch(1, 500)) == 500  # more than there are


def test_the_old_loss_teaches_the_model_but_never_the_old_head(old_run: Path, new_data: Path, tmp_path: Path) -> None:
    new = ready(recipe(old_run / "best", new_data, method="full"), tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", str(old_run))
    assert isinstance(task, Headed)
    model = new.recipe.method.prepare(new.pretrained)
    model.train()
    batch = task.batch(1, 4)
    randomness.begin(0, 1, batch.positions)
    loss = task.loss(model, batch)
    (loss.total / loss.count).backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    assert grads["bert.encoder.layer.0.attention.self.query.weight"].abs().sum() > 0  # type: ignore[union-attr]
    assert all(p.grad is None for module in task.head.modules.values() for p in module.parameters())
    assert grads["classifier.weight"] is None
    model.eval()
    with torch.no_grad():
        logits = task.outputs(model, batch)
    assert logits.shape == (4, 2)
    by_hand = torch.nn.functional.cross_entropy(logits, batch.labels, reduction="sum")  # type: ignore[arg-type]
    assert task.loss(model, batch).total.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert float(task.distance(logits, logits, 2.0)) == pytest.approx(0, abs=1e-7)
    assert float(task.distance(logits + torch.tensor([0.0, 1.0]), logits, 2.0)) > 0


def test_other_examples_can_stand_for_the_runs_own(old_run: Path, new_data: Path, tmp_path: Path) -> None:
    more = write_reviews(tmp_path / "more.csv", rows=300, seed=9)
    new = ready(recipe(old_run / "best", new_data), tmp_path / "w")
    old = {"source": str(old_run), "data": {"path": str(more), "split": {"test": 0.5}}, "name": "more"}
    (task,) = opened(new, tmp_path / "o", old, rows=20)
    assert (task.name, task.rows("test")) == ("more", 20)
    assert "20 of 150 test examples" in task.definition


def test_the_summary_of_an_old_run_is_plain_json(old_run: Path, new_data: Path, tmp_path: Path) -> None:
    new = ready(recipe(old_run / "best", new_data), tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", str(old_run))
    before = {part: task.answers(new.pretrained.model, part) for part in task.parts}
    with torch.no_grad():
        for parameter in new.pretrained.model.bert.encoder.parameters():  # type: ignore[union-attr,operator]
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    after = {part: task.answers(new.pretrained.model, part) for part in task.parts}
    found = json.loads(json.dumps(summary(task, before, after)))
    lost = found["before"]["accuracy"] - found["after"]["accuracy"]
    value, low, high = found["forgetting"]["initial_minus_last"]
    assert value == pytest.approx(lost)
    assert low <= value <= high


def test_thresholds_fitted_to_the_scored_examples_are_not_used_on_them(
    tiny_folders: Folders, new_data: Path, tmp_path: Path
) -> None:
    """A run with several classes a row and no test part scores its validation part by even odds, and so does this."""
    data = write_reviews(tmp_path / "several.csv", rows=60)
    data.write_text(data.read_text("utf-8").replace(",good", ",good|film"), "utf-8")
    source = {"path": str(data), "label_separator": "|", "split": {"test": 0, "validation": 0.3}}
    settings = recipe(tiny_folders("bert"), data, method="full", train=SHORT, **NOTHING)
    run = fit(Recipe.make({**settings, "data": source}), tmp_path / "run").folder
    told, file = scores(run), run / "best" / "tunesmith.json"
    assert told["part"] == "validation"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"thresholds": [99.0] * 3}), "utf-8")
    new = ready(recipe(run / "best", new_data), tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", str(run))
    assert task.parts == ("validation",)
    found = task.score(task.answers(new.pretrained.model, "validation"), "validation")
    assert found == pytest.approx(told["after"], abs=1e-5)
    assert "above even odds" in task.definition
    other = {"source": str(run), "data": source}
    (named,) = opened(new, tmp_path / "named", other)
    kept = named.score(named.answers(new.pretrained.model, "validation"), "validation")
    assert found["micro_f1"] > 0
    assert kept["micro_f1"] == 0  # other examples are answered as that run would answer them
