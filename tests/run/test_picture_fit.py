"""Runs on pictures and boxes: what they leave, what they promise, and `kill -9`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.pictures_models import tiny_vision_source
from tests.run.pictures import box_recipe, picture_recipe, write_boxes, write_pictures
from tests.run.worker import events, killed_and_whole, state

from tunesmith.deploy.answers import answers, read_new
from tunesmith.deploy.evaluation import evaluate_run
from tunesmith.deploy.predictor import Predictor
from tunesmith.errors import ModelError, RecipeError, RunError
from tunesmith.events import Evaluated, Stage, Step
from tunesmith.methods.base import registry as methods
from tunesmith.models.detectors.anatomy import find_parts
from tunesmith.recipe.recipe import Recipe
from tunesmith.run import fit as spine
from tunesmith.run.fitting import fitting
from tunesmith.run.folder import read_recipe
from tunesmith.run.setup import set_up, start_learning

QUICK = {"full", "lora", "adapter", "visual_prompt", "linear_probe_then_full"}
STRONG = {"augment": {"preset": "strong", "mixup": 0.4, "cutmix": 0.5}}


def fitted(settings: dict[str, Any], folder: Path) -> Any:
    return spine.fit(Recipe.make(settings), folder)


@pytest.mark.parametrize("kind", ["timm_resnet", "torchvision_mobilenet", "hf_vit"])
@pytest.mark.parametrize("method", ["full", "head", "lora"])
def test_what_is_reported_is_what_a_fresh_reader_scores(kind: str, method: str, tmp_path: Path) -> None:
    settings = picture_recipe(tmp_path, kind=kind, method=method)
    run = fitted(settings, tmp_path / "run")
    names = {str(p.relative_to(run.folder)) for p in run.folder.rglob("*")}
    assert {"report.html", "scores.json", "best/README.md", "best/config.json", "predictions/test_after.jsonl"} <= names
    rows = [json.loads(line) for line in (run.folder / "predictions/test_after.jsonl").read_text().splitlines()]
    for row in rows:
        Path(tmp_path / "test" / row["label"]).mkdir(parents=True, exist_ok=True)
        os.link(row["image"], tmp_path / "test" / row["label"] / Path(row["image"]).name)
    found = evaluate_run(run.folder, str(tmp_path / "test"), tmp_path / "work")
    assert found.examples == len(rows) > 0
    assert found.scores["accuracy"] == run.scores["after"]["accuracy"]
    assert found.scores["nll"] == pytest.approx(run.scores["after"]["nll"], abs=1e-6)
    assert any("thumbnail" in row for row in rows)


@pytest.mark.parametrize(("precision", "within"), [("float32", 1e-4), ("bfloat16", 1e-2)])
def test_a_head_alone_learns_from_features_as_from_pictures(
    precision: str, within: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = picture_recipe(tmp_path, method="head", train={"precision": precision})
    run = fitted(settings, tmp_path / "features")
    monkeypatch.setattr(spine, "on_features", lambda *_: None)
    whole = fitted(settings, tmp_path / "whole")
    for one, two in zip(events(run.folder), events(whole.folder), strict=True):
        for key in ("loss", "gradient_norm"):
            if key in one:
                assert one[key] == pytest.approx(two[key], rel=within)  # the network runs over other batches
    assert run.scores["after"] == pytest.approx(whole.scores["after"], rel=10 * within)


def test_a_head_starts_from_its_features_or_as_it_was_drawn(tmp_path: Path) -> None:
    told: list[Any] = []
    settings = picture_recipe(tmp_path, method="head", train={"average": 0.9})
    run = spine.fit(Recipe.make(settings), tmp_path / "features", told.append)
    words = [event.text for event in told if isinstance(event, Stage) and "discriminant" in event.text]
    assert words == ["the head starts from the discriminant of the features of 34 training examples"]
    assert (read_recipe(run.folder).task.head_start, read_recipe(run.folder).train.learning_rate) == (
        "discriminant",
        2e-3,
    )  # type: ignore[attr-defined]
    drawn = fitted({**settings, "task": {"name": "image_classification", "head_start": "drawn"}}, tmp_path / "drawn")
    assert read_recipe(drawn.folder).train.learning_rate == 1e-2
    first = [events(folder)[0]["loss"] for folder in (run.folder, drawn.folder)]
    assert first[0] < 0.7 * first[1]
    moving = fitted({**settings, "task": {"name": "image_classification", "augment": "light"}}, tmp_path / "moving")
    assert events(moving.folder)[0]["loss"] < 0.8 * first[1]
    assert run.scores["before"] == drawn.scores["before"]
    assert run.scores["after"]["nll"] < drawn.scores["after"]["nll"]


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in methods.names()]
)
def test_a_new_head_starts_from_its_features_under_every_method(method: str, tmp_path: Path) -> None:
    """From what enters it under the method: a prompt, even as it was drawn, changes the features."""
    losses = []
    for start in ("discriminant", "drawn"):
        told: list[Any] = []
        asked = {"head_start": start, "augment": {"preset": "none"}}
        settings = picture_recipe(
            tmp_path, kind="hf_vit", method=method, task=asked, train={"steps": 1, "evaluate_every": 1}
        )
        try:
            run = spine.fit(Recipe.make(settings), tmp_path / start, told.append)
        except ModelError:
            pytest.skip("not on this network")
        losses.append(events(run.folder)[0]["loss"])
        words = [event.text for event in told if isinstance(event, Stage) and "features of" in event.text]
        assert len(words) == (start == "discriminant")
    assert losses[0] < 0.5 * losses[1]


def test_a_head_that_cannot_start_from_its_features_says_why(tmp_path: Path) -> None:
    settings = picture_recipe(tmp_path, kind="torchvision_mobilenet", method="head")
    run = fitted(settings, tmp_path / "run")
    known = json.loads((run.folder / "manifest.json").read_text(encoding="utf-8"))
    assert read_recipe(run.folder).task.head_start == "drawn"  # type: ignore[attr-defined]
    assert "one linear layer" in known["origins"]["task.head_start"]
    with pytest.raises(RecipeError, match=r"task\.head_start.*one linear layer"):
        fitted({**settings, "task": {"name": "image_classification", "head_start": "discriminant"}}, tmp_path / "asked")
    new = fitted(
        picture_recipe(tmp_path, train={"steps": 1}) | {"model": {"name": "timm/test_resnet", "pretrained": False}},
        tmp_path / "new",
    )
    assert (
        "at random values too" in json.loads((new.folder / "manifest.json").read_text())["origins"]["task.head_start"]
    )


def test_rows_that_are_to_be_kept_are_no_start_for_a_discriminant(tmp_path: Path) -> None:
    first = fitted(picture_recipe(tmp_path), tmp_path / "first")
    more = write_pictures(tmp_path / "more")
    (more / "red").rename(more / "crimson")
    settings = picture_recipe(tmp_path, method="head") | {"model": {"name": str(first.folder), "keep_labels": True}}
    run = fitted(settings | {"data": {"path": str(more)}}, tmp_path / "second")
    assert read_recipe(run.folder).task.head_start == "drawn"  # type: ignore[attr-defined]


@pytest.mark.parametrize("workers", [0, 2, 4])
def test_workers_and_micro_batches_change_no_bit_of_augmentation(workers: int, tmp_path: Path) -> None:
    told = []
    for count, place in ((0, "none"), (workers, "some")):
        settings = picture_recipe(tmp_path, method="norm_tuning", task=STRONG, train={"workers": count, "steps": 5})
        fitted(settings, tmp_path / place)
        told.append((events(tmp_path / place), state(tmp_path / place)))
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("method", "kind", "workers"),
    [
        ("full", "timm_resnet", 0),
        ("full", "torchvision_mobilenet", 2),
        ("lora", "timm_efficientnet", 4),
        pytest.param("head", "hf_resnet", 0, marks=pytest.mark.slow),
        pytest.param("linear_probe_then_full", "timm_resnet", 0, marks=pytest.mark.slow),
        pytest.param("visual_prompt", "timm_vit", 2, marks=pytest.mark.slow),
        pytest.param("prefix_tuning", "hf_vit", 0, marks=pytest.mark.slow),
        pytest.param("adapter", "timm_resnet", 0, marks=pytest.mark.slow),
    ],
)
def test_a_run_on_pictures_killed_three_times_ends_as_if_it_had_not_been(
    method: str, kind: str, workers: int, tmp_path: Path
) -> None:
    train = {"workers": workers, "average": 0.9 if method == "full" else 0.0}
    task = {} if method == "head" else STRONG
    killed_and_whole(picture_recipe(tmp_path, kind=kind, method=method, task=task, train=train), tmp_path, steps=7)


@pytest.mark.parametrize("method", ["lora", *(pytest.param(name, marks=pytest.mark.slow) for name in ("full", "head"))])
def test_a_detector_killed_three_times_ends_as_if_it_had_not_been(method: str, tmp_path: Path) -> None:
    killed_and_whole(box_recipe(tmp_path, method=method, task={"augment": "strong"}), tmp_path, steps=5)


@pytest.mark.parametrize(
    "method", ["full", "lora", *(pytest.param(name, marks=pytest.mark.slow) for name in ("head", "norm_tuning"))]
)
def test_a_detector_is_delivered_as_it_was_scored(method: str, tmp_path: Path) -> None:
    settings = box_recipe(tmp_path, method=method)
    run = fitted(settings, tmp_path / "run")
    assert (run.folder / "best" / "adapter").exists() == (method == "lora")
    found = evaluate_run(run.folder, settings["data"]["path"], tmp_path / "work")
    assert found.main_score == "ap"
    assert found.examples == 20
    predictor = Predictor(run.folder)
    pictures = read_new(run.folder, str(tmp_path / "boxes" / "images"), tmp_path / "new")
    given = list(answers(predictor, pictures, tmp_path / "drawn"))
    assert len(given) == 20
    assert len(list((tmp_path / "drawn").glob("*.jpg"))) == 20
    detail = json.loads((run.folder / "predictions" / "detection.json").read_text())
    assert {"curves", "errors"} == set(detail)


def test_a_backbone_named_as_such_makes_the_same_detector(tmp_path: Path) -> None:
    settings = box_recipe(tmp_path, method="lora", task={"detector": "retinanet"}, train={"steps": 2})
    plain = fitted(settings, tmp_path / "plain")
    model = {**settings["model"], "name": "torchvision/retinanet", "backbone": settings["model"]["name"]}
    task = {key: value for key, value in settings["task"].items() if key != "detector"}
    named = fitted({**settings, "task": task, "model": model}, tmp_path / "named")
    assert state(named.folder) == state(plain.folder)
    assert named.scores["after"] == plain.scores["after"]
    kept = read_recipe(named.folder)
    assert (kept.model.backbone, getattr(kept.task, "detector", None)) == ("timm/test_resnet", "retinanet")
    assert (
        json.loads((named.folder / "manifest.json").read_text())["model"]["name"] == "retinanet over timm/test_resnet"
    )


def test_a_detectors_score_after_reload_is_the_score_that_was_reported(tmp_path: Path) -> None:
    settings = box_recipe(tmp_path, method="lora")
    test = str(write_boxes(tmp_path / "test", pictures=9, seed=5))
    settings["data"] = {"path": settings["data"]["path"], "test": test}
    run = fitted(settings, tmp_path / "run")
    assert evaluate_run(run.folder, test, tmp_path / "work").scores == run.scores["after"]


def test_the_average_of_weights_is_what_is_delivered(tmp_path: Path) -> None:
    plain = fitted(picture_recipe(tmp_path, train={"steps": 5}), tmp_path / "plain")
    mean = fitted(picture_recipe(tmp_path, train={"steps": 5, "average": 0.9}), tmp_path / "mean")
    assert [e for e in events(plain.folder) if e["event"] == "step"] == [
        e for e in events(mean.folder) if e["event"] == "step"
    ]
    assert plain.scores["after"]["nll"] != mean.scores["after"]["nll"]


def test_the_events_of_a_run_on_pictures(tmp_path: Path) -> None:
    seen = list(spine.stream(Recipe.make(picture_recipe(tmp_path)), tmp_path / "run"))
    assert [e.step for e in seen if isinstance(e, Step)] == list(range(1, 9))
    assert [e.step for e in seen if isinstance(e, Evaluated)] == [4, 8]


def test_every_method_is_tried_on_a_model_that_a_person_names(tmp_path: Path) -> None:
    name = tiny_vision_source("timm_resnet", tmp_path / "net").name
    found = dict(fitting(name, None, 3))
    assert set(found) == set(methods.names())
    assert found["head"] == 3 * 32 + 3
    assert isinstance(found["prompt_tuning"], str)
    assert "visual_prompt" in found["prompt_tuning"]
    with pytest.raises(ModelError):
        fitting(str(tmp_path / "nothing"), "image_classification", 3)


def test_boxes_cannot_be_drawn_by_a_run_that_finds_none(tmp_path: Path) -> None:
    run = fitted(picture_recipe(tmp_path, method="head"), tmp_path / "run")
    with pytest.raises(RecipeError, match="--drawn"):
        next(answers(Predictor(run.folder), [], tmp_path / "drawn"))


def test_a_picture_that_went_away_is_named(tmp_path: Path) -> None:
    settings = picture_recipe(tmp_path, method="head")
    recipe = Recipe.make(settings)
    gone = tmp_path / "colours" / "red" / "0.png"
    for event in spine.stream(recipe, tmp_path / "run"):
        if isinstance(event, Step):
            break
    gone.unlink()
    with pytest.raises(RunError, match="the data's files"):
        spine.resume(tmp_path / "run")


def test_each_part_of_a_detector_learns_at_its_own_rate_or_not_at_all(tmp_path: Path) -> None:
    told = box_recipe(tmp_path, method="full", train={"steps": 2, "learning_rate": 1e-3, "head_learning_rate": 2e-3})
    told["task"] |= {"parts": {"backbone": 0, "neck": 0.5, "head": 3}}
    ready = next(found for found in set_up(Recipe.make(told), tmp_path / "work") if not isinstance(found, str))
    before = {name: tensor.clone() for name, tensor in ready.pretrained.model.state_dict().items()}
    parts, head = find_parts(ready.pretrained.model), ready.pretrained.anatomy.head
    learning = start_learning(ready)
    names = {id(tensor): name for name, tensor in learning.learned.items()}
    peaks = {names[id(t)]: group["peak"] for group in learning.optimizer.param_groups for t in group["params"]}

    def within(name: str, modules: tuple[str, ...]) -> bool:
        return any(f".{module}." in f".{name}." for module in modules)

    assert peaks
    for name, peak in peaks.items():
        assert not within(name, parts.backbone)
        rate = 2e-3 if within(name, head) else 1e-3
        assert peak == pytest.approx(rate * (0.5 if within(name, parts.neck) else 3.0))
    assert {0.5, 3.0} <= {round(peak / (2e-3 if within(n, head) else 1e-3), 6) for n, peak in peaks.items()}
    run = fitted(told, tmp_path / "run")
    after = load_file(run.folder / "best/model.safetensors")
    same = [
        torch.equal(after[name], tensor)
        for name, tensor in before.items()
        if name in after and within(name, parts.backbone)
    ]
    assert same
    assert all(same)
    assert not all(torch.equal(after[n], t) for n, t in before.items() if n in after and within(n, parts.neck))


def test_parts_that_leave_nothing_to_learn_are_told(tmp_path: Path) -> None:
    told = box_recipe(tmp_path, method="head")
    told["task"] |= {"parts": {"neck": 0, "head": 0}}
    with pytest.raises(RecipeError, match="nothing is left to learn"):
        fitted(told, tmp_path / "run")
    with pytest.raises(RecipeError, match="lets all of the model learn in the end"):
        fitted({**told, "method": "linear_probe_then_full"}, tmp_path / "probe")
