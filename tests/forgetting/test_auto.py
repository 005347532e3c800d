"""Without labels: agreement of a head of its own, else likeness of features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.forgetting.conftest import opened, opened_or_skipped, ready
from tests.run.pictures import box_recipe, picture_recipe, write_pictures
from tests.run.worker import recipe, write_reviews

from tunesmith.forgetting.agreement import Agreement
from tunesmith.forgetting.base import OpenTask
from tunesmith.forgetting.measures import linear_cka
from tunesmith.forgetting.similarity import Similar
from tunesmith.models.first_token import use_first_token
from tunesmith.run.setup import Ready

Folders = Callable[[str], Path]


def shaken(model: torch.nn.Module, size: float = 0.3) -> None:
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * size)


def main_of(task: OpenTask, model: torch.nn.Module, part: str = "test") -> dict[str, float]:
    return task.score(task.answers(model, part), part)


@pytest.mark.parametrize("kind", ["timm_resnet", "torchvision_resnet", "hf_vit"])
def test_a_classifier_agrees_with_itself_wholly_and_less_when_it_is_changed(kind: str, tmp_path: Path) -> None:
    new = ready(picture_recipe(tmp_path, kind=kind), tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", "auto")
    assert isinstance(task, Agreement)
    before = task.answers(new.pretrained.model, "test")
    assert before.shape[1] == 5  # the labels of the files, not the three of the data
    assert main_of(task, new.pretrained.model) == {"agreement": 1.0, "kl": 0.0}
    assert main_of(task, new.pretrained.model, "validation") == {"agreement": 1.0, "kl": 0.0}
    shaken(new.pretrained.model)
    now = main_of(task, new.pretrained.model)
    assert now["kl"] > 0
    change = task.forgetting(before, task.answers(new.pretrained.model, "test"), "test")
    assert change.value == pytest.approx(1 - now["agreement"])
    assert change.low <= change.value <= change.high
    assert "5 classes" in task.definition


def test_the_own_head_answers_as_the_plain_library_does(tmp_path: Path) -> None:
    from transformers import AutoModelForImageClassification

    new = ready(picture_recipe(tmp_path, kind="hf_vit"), tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", "auto")
    plain = AutoModelForImageClassification.from_pretrained(tmp_path / "hf_vit").eval()
    rows = [new.parts["test"].encoded[i] for i in range(len(new.parts["test"].encoded))]
    with torch.no_grad():
        logits = plain(new.recipe.task.collate(rows, None, new.pretrained.processor).inputs["pixels"]).logits
    np.testing.assert_allclose(task.answers(new.pretrained.model, "test"), logits.numpy(), atol=1e-5)


@pytest.mark.parametrize("method", ["lora", "head", "norm_tuning"])
def test_pictures_agree_through_a_fresh_method(method: str, tmp_path: Path) -> None:
    new = ready(picture_recipe(tmp_path, method=method), tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", "auto")
    model = new.recipe.method.prepare(new.pretrained)
    assert main_of(task, model)["agreement"] == 1.0


@pytest.mark.parametrize("kind", ["bert", "distilbert", "modernbert", "gpt2"])
def test_an_encoders_features_are_like_themselves(
    kind: str, tiny_folders: Folders, new_data: Path, tmp_path: Path
) -> None:
    new = ready(recipe(tiny_folders(kind), new_data), tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", "auto")
    assert isinstance(task, Similar)
    found = main_of(task, new.pretrained.model)
    assert found == pytest.approx({"cka": 1.0, "cosine": 1.0}, abs=1e-12)
    before = task.answers(new.pretrained.model, "test")
    assert before.shape == (8, 32)
    shaken(new.pretrained.model)
    now = task.answers(new.pretrained.model, "test")
    assert task.score(now, "test")["cka"] == pytest.approx(linear_cka(before, now))
    change = task.forgetting(before, now, "test")
    assert 0 < change.value == pytest.approx(1 - task.score(now, "test")["cka"])


def test_text_features_are_the_masked_mean_of_the_last_states(
    tiny_folders: Folders, new_data: Path, tmp_path: Path
) -> None:
    new = ready(recipe(tiny_folders("bert"), new_data), tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", "auto")
    model: Any = new.pretrained.model
    ids = torch.tensor(np.array(new.parts["test"].encoded[0]["input_ids"]))[None]
    with torch.no_grad():
        by_hand = model.bert(input_ids=ids).last_hidden_state[0].mean(dim=0)
    found = task.answers(model, "test")
    np.testing.assert_allclose(found[0], by_hand.numpy(), atol=1e-5)
    use_first_token(model, new.pretrained.anatomy.blocks[-1])  # the last block is then computed for one token only
    np.testing.assert_array_equal(task.answers(model, "test"), found)


@pytest.mark.parametrize("method", ["lora", "prompt_tuning", "prefix_tuning", "p_tuning"])
def test_features_are_found_inside_every_wrapper(
    method: str, tiny_folders: Folders, new_data: Path, tmp_path: Path
) -> None:
    new = ready(recipe(tiny_folders("bert"), new_data, method=method), tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", "auto")
    torch.manual_seed(0)
    model = new.recipe.method.prepare(new.pretrained)
    found = main_of(task, model)
    assert found["cka"] == pytest.approx(1.0) if method == "lora" else 0 < found["cka"] < 1
    batch = task.batch(1, 3)
    outputs = task.outputs(model, batch)
    assert outputs.shape == (3, 32)
    assert outputs.requires_grad
    assert float(task.distance(outputs, outputs, 1.0)) == 0
    assert float(task.distance(2 * outputs, outputs, 1.0)) == pytest.approx(1.0)


def test_answers_that_a_resumed_run_took_before_are_not_taken_again(
    tiny_folders: Folders, new_data: Path, tmp_path: Path
) -> None:
    new = ready(recipe(tiny_folders("bert"), new_data), tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", "auto")
    known = {f"auto/{part}": task.untouched(part) for part in task.parts}
    shaken(new.pretrained.model)
    (again,) = opened(new, tmp_path / "again", "auto", known=known)
    np.testing.assert_array_equal(again.untouched("test"), known["auto/test"])
    assert main_of(again, new.pretrained.model)["cka"] < 1


def test_a_text_classifier_with_a_head_of_its_own_is_asked_for_its_answers(
    old_run: Path, new_data: Path, tmp_path: Path
) -> None:
    new = ready(recipe(old_run / "best", new_data), tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", "auto")
    assert isinstance(task, Agreement)
    assert main_of(task, new.pretrained.model) == {"agreement": 1.0, "kl": 0.0}


def test_generic_inputs_may_be_named_and_need_no_labels(tiny_folders: Folders, new_data: Path, tmp_path: Path) -> None:
    generic = tmp_path / "generic.csv"
    words = [line.split(",")[0] for line in write_reviews(tmp_path / "x.csv", seed=8).read_text("utf-8").splitlines()]
    generic.write_text("\n".join(words), "utf-8")
    new = ready(recipe(tiny_folders("bert"), new_data), tmp_path / "w")
    (task,) = opened(new, tmp_path / "o", {"source": "auto", "data": str(generic)})
    assert "generic.csv" in task.definition
    assert (task.rows("test"), task.rows("validation")) == (40, 20)
    assert main_of(task, new.pretrained.model)["cka"] == pytest.approx(1.0)
    assert task.batch(1, 2).labels is None


def test_generic_pictures_may_be_named(tmp_path: Path) -> None:
    new = ready(picture_recipe(tmp_path), tmp_path / "w")
    other = write_pictures(tmp_path / "other", each=4)
    (task,) = opened(new, tmp_path / "o", {"source": "auto", "data": str(other)})
    assert task.rows("test") == 6
    assert main_of(task, new.pretrained.model) == {"agreement": 1.0, "kl": 0.0}
    batch = task.batch(1, 2)
    assert task.outputs(new.pretrained.model, batch).shape == (2, 5)


def test_a_detectors_backbone_is_compared(tmp_path: Path) -> None:
    settings = box_recipe(tmp_path)
    settings["data"]["split"] = {"test": 0.3}
    new: Ready = ready(settings, tmp_path / "w")
    assert opened_or_skipped(new, tmp_path / "few", "auto")[0][0].parts == ("test",)  # two validation pictures: too few
    (task,) = opened(new, tmp_path / "o", "auto")
    assert isinstance(task, Similar)
    assert main_of(task, new.pretrained.model)["cka"] == pytest.approx(1.0)
    batch = task.batch(1, 2)
    new.pretrained.model.train()
    outputs = task.outputs(new.pretrained.model, batch)
    assert outputs.shape[0] == 2
    assert outputs.requires_grad
