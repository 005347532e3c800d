"""The two questions that a task asks of any detector: how wrong is it, and what does it see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunesmith.models.detectors.detr_loss import detr_detect, detr_loss, plain_module
from tunesmith.models.detectors.one_stage import one_stage_detect, one_stage_loss
from tunesmith.models.detectors.pictures import boxes_of, image_list, padded
from tunesmith.models.detectors.two_stage import two_stage_detect, two_stage_loss
from tunesmith.models.gradients import sound_gradients
from tunesmith.types import Loss

MOST = 100
"""Detections of a picture that are kept, the most that COCO's scores look at."""


def detector_losses(model: nn.Module, inputs: Mapping[str, Tensor], targets: Tensor) -> Loss:
    """The training loss as a sum and its count; sums and counts of micro-batches add up to those of the batch.

    inputs: `pixels` float [n, 3, height, width], normalised by the detector's own `PictureForm` (for torchvision that
        means left at 0 to 1) and 0 in the padding below and to the right; `sizes` int64 [n, 2], height and width
        inside the padding. Padding reaches the network, so a batch and its micro-batches must share one canvas.
    targets: float [n, most, 6] = x1, y1, x2, y2, class, crowd in pixels of `pixels`; class -1: padding. Boxes around a
        crowd are not trained on.
    What is drawn (which anchors and regions are looked at, noise) follows from `train.randomness`.
    """
    inner = plain_module(model)
    with sound_gradients(inner):
        return _losses(inner, inputs, targets)


def _losses(inner: nn.Module, inputs: Mapping[str, Tensor], targets: Tensor) -> Loss:
    if is_transformers(inner):
        return detr_loss(inner, inputs, boxes_of(targets, first_class=0))
    spec: Any = inner.spec
    images, boxes = image_list(inner, inputs), boxes_of(targets, first_class=spec.offset)
    if hasattr(inner, "roi_heads"):
        return Loss(two_stage_loss(inner, images, boxes), float(len(boxes)))
    return one_stage_loss(inner, images, boxes)


@torch.no_grad()
def detect(model: nn.Module, inputs: Mapping[str, Tensor]) -> np.ndarray:
    """float32 [n, 100, 6] = x1, y1, x2, y2, score, class in pixels of `pixels`, best first; score -1: no box.

    The model's own post-processing, score thresholds and non-maximum suppression. Leaves the model in evaluation mode.
    """
    inner = plain_module(model).eval()
    if is_transformers(inner):
        found, first = detr_detect(inner, inputs), 0
    else:
        spec: Any = inner.spec
        images, first = image_list(inner, inputs), spec.offset
        found = two_stage_detect(inner, images) if hasattr(inner, "roi_heads") else one_stage_detect(inner, images)
    array: np.ndarray = padded(found, inputs["sizes"], most=MOST, first_class=first).numpy()
    return array


def is_transformers(model: nn.Module) -> bool:
    """Whether a detector is one of transformers'; torchvision's carry their `spec`."""
    return not hasattr(model, "spec")
