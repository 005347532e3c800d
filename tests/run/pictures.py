"""Small, learnable pictures and recipes on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from tests.pictures_models import tiny_vision_source

COLOURS = {"red": (200, 40, 40), "blue": (40, 40, 200), "green": (40, 160, 40)}


def write_pictures(folder: Path, *, each: int = 14, side: int = 40) -> Path:
    """A folder for each of three colours, noisy pictures of it."""
    draw = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = np.clip(np.array(colour) + draw.normal(0, 60, (side, side + number % 3, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


def write_boxes(folder: Path, *, pictures: int = 20, size: tuple[int, int] = (64, 48), seed: int = 1) -> Path:
    """COCO: grey pictures with one or two coloured rectangles each, the last one empty."""
    draw = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    images, found = [], []
    for number in range(pictures):
        image = Image.fromarray(draw.integers(90, 130, (size[1], size[0], 3)).astype(np.uint8))
        for _ in range(0 if number == pictures - 1 else 1 + number % 2):
            kind = int(draw.integers(0, 2))
            x, y = int(draw.integers(0, size[0] - 24)), int(draw.integers(0, size[1] - 24))
            wide, high = (int(side) for side in draw.integers(12, 24, 2))
            ImageDraw.Draw(image).rectangle((x, y, x + wide - 1, y + high - 1), fill=list(COLOURS.values())[kind])
            found.append({"id": len(found) + 1, "image_id": number + 1, "category_id": kind + 1,
                          "bbox": [x, y, wide, high], "area": wide * high, "iscrowd": 0})  # fmt: skip
        image.save(folder / "images" / f"{number + 1}.png")
        images.append({"id": number + 1, "file_name": f"{number + 1}.png", "width": size[0], "height": size[1]})
    categories = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
    path = folder / "boxes.json"
    path.write_text(json.dumps({"images": images, "annotations": found, "categories": categories}), encoding="utf-8")
    return path


def picture_recipe(
    place: Path, /, *, kind: str = "timm_resnet", method: Any = "full", task: Any = None, train: Any = None
) -> dict[str, Any]:
    """A tiny run on pictures: 8 steps, an evaluation in the middle, a checkpoint every two steps."""
    data = place / "colours"
    return {
        "task": {"name": "image_classification", **(task or {})},
        "model": tiny_vision_source(kind, place / kind).name,
        "data": {"path": str(data if data.exists() else write_pictures(data))},
        "method": method,
        "train": {"steps": 8, "batch_size": 8, "evaluate_every": 4, "checkpoint_every": 2, "threads": 1, "seed": 3,
                  **(train or {})},
    }  # fmt: skip


def write_backbone(path: Path) -> Path:
    """Weights of timm's smallest ResNet, with norms as training would have left them (drawn ones start at zero)."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(4)
    net = timm.create_model("test_resnet", pretrained=False)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.dim() == 1 and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5) if "weight" in name or "var" in name else tensor.normal_(0, 0.1)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in net.state_dict().items()}, path)
    return path


def box_recipe(place: Path, /, *, method: Any = "full", train: Any = None, task: Any = None) -> dict[str, Any]:
    """A tiny Faster R-CNN over a tiny timm network."""
    small = {"size": 64, "pyramid_channels": 64, "representation": 32, "regions": 32, "proposals": 64}
    data = place / "boxes"
    return {
        "task": {"name": "object_detection", "augment": "standard", **small, **(task or {})},
        "model": {"name": "timm/test_resnet", "weights": str(write_backbone(place / "test_resnet.safetensors"))},
        "data": {"path": str(data / "boxes.json" if data.exists() else write_boxes(data))},
        "method": method,
        "train": {"steps": 6, "batch_size": 4, "evaluate_every": 4, "checkpoint_every": 2, "threads": 1, "seed": 3,
                  **(train or {})},
    }  # fmt: skip
