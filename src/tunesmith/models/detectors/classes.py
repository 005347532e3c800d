"""Class layers by label name: what the pretrained detector already knows keeps its rows, the rest is drawn anew."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.ssd import SSD

from tunesmith.models.detectors.spec import Spec

PRIOR = 0.01  # the share of foreground that a focal loss starts from (arXiv 1708.02002, section 4.1)


def fit_classes(model: nn.Module, spec: Spec, before: Sequence[str], seed: int) -> set[str]:
    """Give a torchvision detector the class rows of `spec.categories`, in place.

    before: what the rows of the present class layer mean ("" where unknown). Returns the names of the modules that
    hold newly drawn rows: none where every class was known.
    """
    old = {name: i for i, name in enumerate(before) if name not in ("", "N/A")}
    rows = [(new, old[name]) for new, name in enumerate(spec.categories) if name in old]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(model, FasterRCNN):
            changed = _fit_regions(model, len(spec.categories), rows)
        elif isinstance(model, SSD):
            changed = _fit_default_boxes(model, len(spec.categories), len(before), rows)
        else:
            changed = _fit_cells(model, len(spec.categories), len(before), rows)
    return set() if all(name in old for name in spec.categories) else changed


def _fit_regions(model: FasterRCNN, classes: int, rows: list[tuple[int, int]]) -> set[str]:
    old = model.roi_heads.box_predictor
    new = FastRCNNPredictor(old.cls_score.in_features, classes)
    copy_rows(new.cls_score, old.cls_score, rows, per_class=1)
    copy_rows(new.bbox_pred, old.bbox_pred, rows, per_class=4)
    model.roi_heads.box_predictor = new
    return {"roi_heads.box_predictor"}


def _fit_cells(model: nn.Module, classes: int, before: int, rows: list[tuple[int, int]]) -> set[str]:
    """RetinaNet and FCOS: the class layer is a convolution with a row for each class of each anchor."""
    head = model.head.classification_head  # type: ignore[union-attr]
    old: nn.Conv2d = head.cls_logits  # type: ignore[assignment,union-attr]
    anchors = old.out_channels // before
    new = nn.Conv2d(old.in_channels, anchors * classes, 3, padding=1)
    nn.init.normal_(new.weight, std=0.01)
    nn.init.constant_(new.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]
    copy_rows(new, old, _per_anchor(rows, anchors, before, classes), per_class=1)
    head.cls_logits, head.num_classes = new, classes  # type: ignore[union-attr,assignment]
    return {"head.classification_head.cls_logits"}


def _fit_default_boxes(model: SSD, classes: int, before: int, rows: list[tuple[int, int]]) -> set[str]:
    """SSD and SSDLite: one class layer a level; in SSDLite the depthwise half before it stays."""
    head, changed = model.head.classification_head, set()
    for level, module in enumerate(head.module_list):
        light = isinstance(module, nn.Sequential)
        old: nn.Conv2d = module[-1] if light else module
        anchors = old.out_channels // before
        new = nn.Conv2d(old.in_channels, anchors * classes, old.kernel_size, padding=old.padding)  # type: ignore[arg-type]
        if light:
            nn.init.normal_(new.weight, std=0.03)
        else:
            nn.init.xavier_uniform_(new.weight)
        nn.init.zeros_(new.bias)  # type: ignore[arg-type]
        copy_rows(new, old, _per_anchor(rows, anchors, before, classes), per_class=1)
        name = f"head.classification_head.module_list.{level}"
        if light:
            module[-1] = new
            changed.add(f"{name}.{len(module) - 1}")
        else:
            head.module_list[level] = new
            changed.add(name)
    head.num_columns = classes
    return changed


def _per_anchor(rows: list[tuple[int, int]], anchors: int, before: int, classes: int) -> list[tuple[int, int]]:
    return [(a * classes + new, a * before + old) for a in range(anchors) for new, old in rows]


def copy_rows(new: nn.Module, old: nn.Module, rows: list[tuple[int, int]], *, per_class: int) -> None:
    """Copy the blocks of `per_class` rows of every parameter, (to, from), in place."""
    if not rows:
        return
    to = torch.tensor([row * per_class + k for row, _ in rows for k in range(per_class)])
    origin = torch.tensor([row * per_class + k for _, row in rows for k in range(per_class)])
    source: dict[str, Tensor] = dict(old.named_parameters())
    with torch.no_grad():
        for name, parameter in new.named_parameters():
            parameter[to] = source[name][origin]
