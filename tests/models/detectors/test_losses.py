from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_detectors import KINDS, OVER, batch, gradient, lively, load_kind, named, over_backbone, steady
from torch import Tensor

from tunesmith.errors import ModelError
from tunesmith.models.detectors import detector_losses, load_detector
from tunesmith.models.detectors.sampling import sampled
from tunesmith.train import randomness
from tunesmith.types import Pretrained

TOLERANCE = 1e-4  # relative, float32: sums in another order


def family(name: str, folder: Path) -> Pretrained:
    if name in OVER:
        found = over_backbone(name)
        lively(found.model.backbone)
        return found
    return load_kind(name, folder)


@pytest.mark.parametrize("name", [*OVER, *KINDS])
def test_a_batch_cut_anywhere_gives_the_gradient_of_the_whole(name: str, tmp_path: Path) -> None:
    pretrained = family(name, tmp_path)
    model = steady(pretrained.model)
    inputs, targets = batch(whole=pretrained.processor.squash)
    loss, whole = gradient(model, inputs, targets, [[0, 1, 2]])
    cut_loss, cut = gradient(model, inputs, targets, [[0], [1, 2]])
    assert cut_loss == pytest.approx(loss, rel=TOLERANCE)
    assert whole.norm() > 1e-3
    assert (whole - cut).norm() / whole.norm() < TOLERANCE
    again_loss, again = gradient(model, inputs, targets, [[0, 1, 2]])
    assert (again_loss, torch.equal(again, whole)) == (loss, True)


@pytest.mark.parametrize("name", ["faster_rcnn", "rt_detr"])
def test_another_step_draws_other_samples(name: str, tmp_path: Path) -> None:
    pretrained = family(name, tmp_path)
    model = steady(pretrained.model)
    inputs, targets = batch(whole=pretrained.processor.squash)
    _, one = gradient(model, inputs, targets, [[0, 1, 2]], step=1)
    _, two = gradient(model, inputs, targets, [[0, 1, 2]], step=2)
    assert not torch.equal(one, two)


class CounterSampler:
    """torchvision's sampler with our draws, one after another as its anchors and its regions ask."""

    def __init__(self, old: Any, what: str) -> None:
        self.size, self.share, self.what = old.batch_size_per_image, old.positive_fraction, what

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        drawn = sampled(labels, size=self.size, positive_share=self.share, what=self.what)
        masks = [
            torch.zeros_like(own, dtype=torch.bool).index_fill(0, i, True) for own, i in zip(labels, drawn, strict=True)
        ]
        pairs = list(zip(masks, labels, strict=True))
        return [m & (own >= 1) for m, own in pairs], [m & (own == 0) for m, own in pairs]


@pytest.mark.parametrize("name", OVER)
def test_the_loss_of_one_picture_is_torchvisions_own(name: str, tmp_path: Path) -> None:
    model: Any = steady(family(name, tmp_path).model)
    inputs, targets = batch(whole=True)
    for place in (0, 2):  # the picture between has no boxes, which FCOS of torchvision counts as we do: 1
        kept = targets[place][(targets[place, :, 4] >= 0) & (targets[place, :, 5] == 0)]
        told = [{"boxes": kept[:, :4], "labels": kept[:, 4].long() + (name == "faster_rcnn")}]
        one = {key: tensor[place : place + 1] for key, tensor in inputs.items()}
        randomness.begin(7, 1, [place])
        ours = detector_losses(model, one, targets[place : place + 1])
        if name == "faster_rcnn":
            before = model.rpn.fg_bg_sampler, model.roi_heads.fg_bg_sampler
            model.rpn.fg_bg_sampler = CounterSampler(before[0], "anchors")
            model.roi_heads.fg_bg_sampler = CounterSampler(before[1], "regions")
        theirs: Any = sum(model([inputs["pixels"][place]], told).values())
        if name == "faster_rcnn":
            model.rpn.fg_bg_sampler, model.roi_heads.fg_bg_sampler = before
        assert float(ours.total.detach()) / ours.count == pytest.approx(float(theirs.detach()), rel=1e-5)


@pytest.mark.parametrize("kind", ["detr", "deformable_detr", "yolos", "d_fine"])
def test_the_loss_of_one_picture_is_transformers_own(kind: str, tmp_path: Path) -> None:
    pretrained = load_kind(kind, tmp_path)
    model: Any = steady(pretrained.model)
    model.config.num_denoising = 0  # its noise is drawn otherwise there
    inputs, targets = batch(whole=True)
    ours = detector_losses(model, {key: tensor[2:] for key, tensor in inputs.items()}, targets[2:])
    boxes = targets[2, :3, :4] / 64
    told = {"class_labels": targets[2, :3, 4].long(),
            "boxes": torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1)}  # fmt: skip
    theirs = model(pixel_values=inputs["pixels"][2:], labels=[told]).loss
    assert ours.count == 3
    assert float(ours.total.detach()) / ours.count == pytest.approx(float(theirs.detach()), rel=1e-5)


def test_focal_losses_of_a_batch_are_weighted_by_boxes_as_transformers_weights_them(tmp_path: Path) -> None:
    model: Any = steady(load_kind("deformable_detr", tmp_path).model)
    inputs, targets = batch(whole=True)
    rows = [0, 2]
    ours = detector_losses(model, {key: tensor[rows] for key, tensor in inputs.items()}, targets[rows])
    told = []
    for row in rows:
        kept = targets[row][(targets[row, :, 4] >= 0) & (targets[row, :, 5] == 0)]
        boxes = kept[:, :4] / 64
        centre = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], dim=1)
        told.append({"class_labels": kept[:, 4].long(), "boxes": centre})
    theirs = model(pixel_values=inputs["pixels"][rows], labels=told).loss
    assert float(ours.total.detach()) / ours.count == pytest.approx(float(theirs.detach()), rel=1e-5)


def test_the_models_own_loss_function_is_back_in_place_after_a_loss(tmp_path: Path) -> None:
    model: Any = steady(load_kind("detr", tmp_path).model)
    before = model.loss_function
    inputs, targets = batch()
    detector_losses(model, inputs, targets)
    assert model.loss_function == before
    assert "_loss_function" not in vars(model)


@pytest.mark.parametrize("name", OVER)
def test_crowds_and_boxes_without_area_teach_nothing(name: str, tmp_path: Path) -> None:
    model = steady(family(name, tmp_path).model)
    inputs, targets = batch()
    with_crowd = gradient(model, inputs, targets, [[0, 1, 2]])
    targets[0, 1] = torch.tensor([5.0, 5.0, 5.0, 20.0, 1, 0])
    without = gradient(model, inputs, targets, [[0, 1, 2]])
    assert with_crowd[0] == without[0]
    assert torch.equal(with_crowd[1], without[1])


@pytest.mark.parametrize("name", [*OVER, "detr", "rt_detr", "yolos"])
def test_pictures_without_any_box_have_a_finite_loss(name: str, tmp_path: Path) -> None:
    pretrained = family(name, tmp_path)
    model = steady(pretrained.model)
    inputs, targets = batch(whole=pretrained.processor.squash)
    targets[:, :, 4] = -1
    loss, found = gradient(model, inputs, targets, [[0, 1, 2]])
    assert loss == loss
    assert bool(torch.isfinite(found).all())


@pytest.mark.slow
@pytest.mark.parametrize("builder", ["ssdlite320_mobilenet_v3_large", "ssd300_vgg16"])
def test_ssd_is_exact_over_cuts_and_refuses_another_size(builder: str) -> None:
    pretrained = load_detector(named(builder), ["a", "b", "c"], seed=1, pretrained=False)
    model: Any = steady(pretrained.model)
    side = pretrained.processor.height
    inputs, targets = batch(whole=True, side=side)
    loss, whole = gradient(model, inputs, targets, [[0, 1, 2]])
    cut_loss, cut = gradient(model, inputs, targets, [[0], [1, 2]])
    assert cut_loss == pytest.approx(loss, rel=TOLERANCE)
    assert (whole - cut).norm() / whole.norm() < 1e-3  # hard negatives of nearly equal loss may swap places
    kept = targets[2, :3]
    randomness.begin(7, 1, [2])
    ours = detector_losses(model, {key: tensor[2:] for key, tensor in inputs.items()}, targets[2:])
    told = [{"boxes": kept[:, :4], "labels": kept[:, 4].long() + 1}]
    theirs = sum(model([inputs["pixels"][2]], told).values())
    assert float(ours.total.detach()) / ours.count == pytest.approx(float(theirs.detach()), rel=1e-5)
    with pytest.raises(ModelError, match="only"):
        detector_losses(model, *batch())


def test_samples_keep_their_quota_and_never_take_what_lies_between() -> None:
    labels = [torch.tensor([1.0] * 10 + [0.0] * 50 + [-1.0] * 40)]
    randomness.begin(1, 1, [0])
    drawn = sampled(labels, size=16, positive_share=0.25, what="anchors")[0]
    assert len(drawn) == 16
    assert int((labels[0][drawn] == 1).sum()) == 4
    assert int((labels[0][drawn] < 0).sum()) == 0
    assert bool((drawn.diff() > 0).all())
