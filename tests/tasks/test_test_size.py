"""Pictures larger for scores and answers than in training (FixRes), from the recipe to the delivered files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.pictures_models import SIDE, tiny_vision_source
from tests.run.pictures import picture_recipe

from tunesmith.deploy.evaluation import evaluate_run
from tunesmith.deploy.predictor import Predictor
from tunesmith.errors import ModelError
from tunesmith.models.vision import load_image_classifier
from tunesmith.pictures.augment import Augment, resolved
from tunesmith.recipe.recipe import Recipe
from tunesmith.run import fit as spine
from tunesmith.tasks.base import registry
from tunesmith.types import Example, PictureForm

LABELS = ("ant", "bee")


def load(kind: str, folder: Path, **sizes: Any) -> PictureForm:
    source = tiny_vision_source(kind, folder / kind)
    form: PictureForm = load_image_classifier(source, LABELS, multi_label=False, seed=0, **sizes).processor
    return form


def test_training_sees_the_smaller_size_and_all_else_the_larger(tmp_path: Path) -> None:
    form = load("timm_resnet", tmp_path, test_size=40)
    assert (form.height, form.width, form.train) == (40, 40, (SIDE, SIDE))
    task: Any = registry.make({"name": "image_classification", "test_size": 40})
    picture = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    rows = [{"picture": picture}] * 2
    assert task.collate(rows, None, form).inputs["pixels"].shape == (2, 3, 40, 40)
    for preset in ("none", "standard", "strong"):
        varied = task.model_copy(update={"augment": resolved(Augment(preset=preset), 10)})
        partners = [[(rows[0], 0)], [(rows[1], 1)]] if varied.partners else None
        seen = varied.collate(rows, [0, 1], form, draws=[3, 4], partners=partners).inputs["pixels"]
        assert seen.shape == (2, 3, SIDE, SIDE), preset


def test_without_augmentation_training_sees_what_is_scored_only_smaller(tmp_path: Path) -> None:
    form = load("timm_resnet", tmp_path, test_size=64)
    task: Any = registry.make({"name": "image_classification", "test_size": 64, "augment": "none"})
    ramp = np.repeat(np.linspace(0, 255, 80).astype(np.uint8)[None, :, None], 80, 0).repeat(3, 2)
    scored = task.collate([{"picture": ramp}], None, form).inputs["pixels"]
    trained = task.collate([{"picture": ramp}], [0], form, draws=[1]).inputs["pixels"]
    halved = torch.nn.functional.avg_pool2d(scored, 2)
    torch.testing.assert_close(trained, halved, atol=0.05, rtol=0)  # another filter, and eight bits of the pixels
    assert not task.fixed
    assert registry.make({"name": "image_classification", "size": 64, "test_size": 64, "augment": "none"}).fixed


@pytest.mark.parametrize("kind", ["timm_resnet", "torchvision_mobilenet", "hf_convnext", "hf_dinov2", "hf_swin"])
def test_networks_that_read_any_size_take_one_for_tests(kind: str, tmp_path: Path) -> None:
    assert load(kind, tmp_path, size=48, test_size=64).train == (48, 48)
    assert load(kind, tmp_path, size=48, test_size=48).train is None


@pytest.mark.parametrize("kind", ["timm_vit", "hf_vit"])
def test_a_network_bound_to_one_size_says_so_and_what_to_do(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"(?s)64 x 64 pixels.*raise task\.size"):
        load(kind, tmp_path, test_size=64)
    assert load(kind, tmp_path, size=64, test_size=64).train is None


def test_a_size_below_that_of_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"task\.test_size is 16 pixels, fewer than the 32"):
        load("timm_resnet", tmp_path, test_size=16)


def test_the_models_own_size_for_tests_is_taken_on_request(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="names no size for tests"):
        load("timm_resnet", tmp_path / "plain", test_size="model")
    source = tiny_vision_source("timm_resnet", tmp_path / "net")
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    config["pretrained_cfg"] |= {"test_input_size": [3, 48, 48], "test_crop_pct": 0.95}
    (tmp_path / "net" / "config.json").write_text(json.dumps(config))
    form = load_image_classifier(source, LABELS, multi_label=False, seed=0, test_size="model").processor
    assert (form.height, form.crop_share, form.train) == (48, 0.95, (SIDE, SIDE))
    assert load_image_classifier(source, LABELS, multi_label=False, seed=0).processor.train is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("timm_resnet", "full"),
        pytest.param("timm_resnet", "lora", marks=pytest.mark.slow),
        pytest.param("timm_efficientnet", "bitfit", marks=pytest.mark.slow),
        pytest.param("hf_convnext", "norm_tuning", marks=pytest.mark.slow),
        pytest.param("torchvision_mobilenet", "norm_tuning", marks=pytest.mark.slow),
        pytest.param("hf_dinov2", "head", marks=pytest.mark.slow),
        pytest.param("hf_dinov2", "prefix_tuning", marks=pytest.mark.slow),
    ],
)
def test_what_is_delivered_answers_at_the_larger_size_as_it_was_scored(kind: str, method: str, tmp_path: Path) -> None:
    settings = picture_recipe(tmp_path, kind=kind, method=method, task={"test_size": 56}, train={"steps": 3})
    settings["data"] = {"path": str(tmp_path / "colours"), "test": str(tmp_path / "colours")}
    run = spine.fit(Recipe.make(settings), tmp_path / "run")
    found = evaluate_run(run.folder, str(tmp_path / "colours"), tmp_path / "work")
    assert found.scores == run.scores["after"]
    form = Predictor(run.folder).processor
    assert (form.height, form.width) == (56, 56)


@pytest.mark.slow
def test_a_plain_timm_program_gives_the_answers_that_were_scored(tmp_path: Path) -> None:
    import timm

    settings = picture_recipe(tmp_path, task={"test_size": 56}, train={"steps": 2})
    run = spine.fit(Recipe.make(settings), tmp_path / "run")
    best = run.folder / "best"
    model = timm.create_model(f"local-dir:{best}", pretrained=True).eval()
    form = timm.data.resolve_model_data_config(model)
    assert form["input_size"] == (3, 56, 56)
    assert timm.data.resolve_model_data_config(model, use_test_size=True)["input_size"] == (3, 56, 56)
    picture = sorted((tmp_path / "colours" / "red").iterdir())[0]
    given = timm.data.create_transform(**form)(Image.open(picture).convert("RGB"))[None]
    predictor = Predictor(run.folder)
    task = predictor.task
    rows = task.encode([Example({"image": str(picture)})], predictor.processor)
    ours = task.predict(predictor.model, task.collate(rows, None, predictor.processor))
    with torch.no_grad():
        np.testing.assert_allclose(ours, model(given).numpy(), atol=1e-3)
