"""Batches of pictures and boxes as the detectors' own parts take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from tunesmith.errors import ModelError

Target = dict[str, Tensor]


def image_list(model: nn.Module, inputs: Mapping[str, Tensor]) -> ImageList:
    """What the detector's own GeneralizedRCNNTransform makes of pictures that need no resizing.

    inputs: pixels [n, 3, height, width], values 0 to 1; sizes [n, 2], the true height and width of each. As there,
    pictures are normalised, what lies outside them is 0, and the canvas grows to a multiple of 32.
    """
    transform: Any = model.transform
    pixels = inputs["pixels"]
    mean, std = (pixels.new_tensor(values)[:, None, None] for values in (transform.image_mean, transform.image_std))
    sizes = [(int(height), int(width)) for height, width in inputs["sizes"].tolist()]
    height, width = pixels.shape[-2:]
    fixed = transform.fixed_size
    if fixed is not None and any(size != (fixed[1], fixed[0]) for size in [(height, width), *sizes]):
        raise ModelError(
            f"This detector takes pictures of {fixed[0]} x {fixed[1]} pixels only, not {width} x {height}."
        )
    values = (pixels - mean) / std
    inside = real_pixels(sizes, height, width, pixels.device)
    if inside is not None:
        values = values * inside[:, None]
    unit = int(transform.size_divisible)
    values = nn.functional.pad(values, (0, -width % unit, 0, -height % unit))
    return ImageList(values, sizes)


def real_pixels(sizes: list[tuple[int, int]], height: int, width: int, device: torch.device) -> Tensor | None:
    """1 inside each picture and 0 in its padding, [n, height, width]; None where no picture has padding."""
    if all(size == (height, width) for size in sizes):
        return None
    mask = torch.zeros(len(sizes), height, width, device=device)
    for own, (own_height, own_width) in zip(mask, sizes, strict=True):
        own[:own_height, :own_width] = 1
    return mask


def boxes_of(targets: Tensor, *, first_class: int) -> list[Target]:
    """Per picture its boxes [k, 4] and class numbers [k] counted from `first_class`.

    targets: [n, most, 6] = x1, y1, x2, y2, class (-1: padding), crowd. Boxes around a crowd and boxes without area
    teach nothing and are left out.
    """
    found = []
    for rows in targets:
        corners, kinds, crowd = rows[:, :4].float(), rows[:, 4], rows[:, 5]
        kept = (kinds >= 0) & (crowd == 0) & (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
        found.append({"boxes": corners[kept], "labels": kinds[kept].long() + first_class})
    return found


def padded(found: list[Target], sizes: Tensor, *, most: int, first_class: int) -> Tensor:
    """Detections as one array [n, most, 6] = x1, y1, x2, y2, score, class; best first, score -1 where there is none.

    Boxes are cut at their picture's edges.
    """
    out = torch.zeros(len(found), most, 6)
    out[:, :, 4:] = -1
    for row, own, (height, width) in zip(out, found, sizes.tolist(), strict=True):
        order = own["scores"].argsort(descending=True, stable=True)[:most]
        corners = own["boxes"][order].float().cpu()
        limit = corners.new_tensor([width, height, width, height])
        row[: len(order), :4] = corners.clamp(min=0).minimum(limit)
        row[: len(order), 4] = own["scores"][order].float().cpu()
        row[: len(order), 5] = (own["labels"][order] - first_class).float().cpu()
    return out
