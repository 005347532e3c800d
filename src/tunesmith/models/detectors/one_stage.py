"""Losses of RetinaNet, FCOS and SSD as sums and counts, and their detections; the formulas are torchvision's own code.

Each picture is handed to the detector's own loss by itself and weighted by what that loss divides by, so that sums
and counts of micro-batches add up exactly:

- RetinaNet (Lin et al. 2017, arXiv 1708.02002): each picture by its own foreground, count = pictures, as torchvision.
- FCOS (Tian et al. 2019, arXiv 1904.01355) and SSD (Liu et al. 2016, arXiv 1512.02325): count = foreground of all
  pictures, as torchvision, but a picture without foreground counts as 1 (torchvision: only a batch without any does).
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from tunesmith.models.detectors.pictures import Target
from tunesmith.types import Loss


def one_stage_loss(model: nn.Module, images: ImageList, targets: list[Target]) -> Loss:
    """Sum of the pictures' losses and its count."""
    maps, outputs, anchors = _run(model, images)
    total, count = outputs["cls_logits"].sum() * 0.0, 0.0
    for place, own in enumerate(targets):
        answers = {name: tensor[place : place + 1] for name, tensor in outputs.items()}
        matches = _matches(model, own, anchors[place], maps)
        arguments = [[own], answers, [anchors[place]], [matches]]
        losses = model.compute_loss(*arguments) if isinstance(model, SSD) else model.head.compute_loss(*arguments)  # type: ignore[operator,union-attr]
        weight = 1 if isinstance(model, RetinaNet) else max(1, int((matches >= 0).sum()))
        total = total + torch.stack(list(losses.values())).sum() * weight
        count += weight
    return Loss(total, float(count))


def _run(model: nn.Module, images: ImageList) -> tuple[list[Tensor], dict[str, Tensor], list[Tensor]]:
    features = model.backbone(images.tensors)  # type: ignore[operator]
    maps = list(features.values())
    return maps, model.head(maps), model.anchor_generator(images, maps)  # type: ignore[operator]


def _matches(model: nn.Module, own: Target, anchors: Tensor, maps: list[Tensor]) -> Tensor:
    """For each anchor of a picture the number of its box, or below 0."""
    if not len(own["boxes"]):
        return torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
    if isinstance(model, FCOS):
        # FCOS matches inside its loss: run that with a head that hands the matches back.
        watch = SimpleNamespace(compute_loss=lambda _targets, _outputs, _anchors, matched: matched)
        stand_in = SimpleNamespace(center_sampling_radius=model.center_sampling_radius, head=watch)
        per_level = [each.shape[-2] * each.shape[-1] for each in maps]
        found: Tensor = FCOS.compute_loss(stand_in, [own], {}, [anchors], per_level)[0]
        return found
    matched: Tensor = model.proposal_matcher(box_iou(own["boxes"], anchors))  # type: ignore[operator]
    return matched


def one_stage_detect(model: nn.Module, images: ImageList) -> list[Target]:
    """Torchvision's own answers, boxes in pixels of the given pictures."""
    maps, outputs, anchors = _run(model, images)
    if isinstance(model, SSD):
        found: list[Target] = model.postprocess_detections(outputs, anchors, images.image_sizes)
        return found
    per_cell = outputs["cls_logits"].shape[1] // sum(each.shape[-2] * each.shape[-1] for each in maps)
    levels = [each.shape[-2] * each.shape[-1] * per_cell for each in maps]
    split = {name: list(tensor.split(levels, dim=1)) for name, tensor in outputs.items()}
    cut = [list(own.split(levels)) for own in anchors]
    found = model.postprocess_detections(split, cut, images.image_sizes)  # type: ignore[operator]
    return found
