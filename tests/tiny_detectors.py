"""Tiny detectors of every family, and batches for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForObjectDetection,
    ConditionalDetrConfig,
    DeformableDetrConfig,
    DetrConfig,
    DFineConfig,
    HGNetV2Config,
    ResNetConfig,
    RTDetrConfig,
    RTDetrResNetConfig,
    RTDetrV2Config,
    YolosConfig,
)

from tunesmith.models.detectors import DetectorOptions, detector_losses, load_detector
from tunesmith.train import randomness
from tunesmith.types import ModelSource, Pretrained

LABELS = ("platelet", "red cell", "white cell")
BACKBONE = ModelSource("timm/test_resnet", "timm/test_resnet", library="timm", architecture="test_resnet")
OVER = ("faster_rcnn", "retinanet", "fcos")
KINDS = ("detr", "conditional_detr", "deformable_detr", "yolos", "rt_detr", "rt_detr_v2", "d_fine")
SIDE = 64


def over_backbone(detector: str, labels: Sequence[str] = LABELS, **more: Any) -> Pretrained:
    source = ModelSource(f"torchvision/{detector}", "", library="torchvision", architecture=detector)
    options = DetectorOptions(pyramid_channels=64, representation=32, regions=64, proposals=100)
    told = {"seed": 1, "size": SIDE, "backbone": BACKBONE, "options": options, **more}
    return load_detector(source, labels, **told)


def named(builder: str, weights: str = "", **more: Any) -> ModelSource:
    return ModelSource(f"torchvision/{builder}", "", library="torchvision", architecture=builder, weights=weights)


def transformers_folder(kind: str, folder: Path, labels: Sequence[str] = ("white cell", "dog", "platelet")) -> Path:
    """A tiny detector of that type on disk, its weights large enough for signals to survive."""
    torch.manual_seed(0)
    model = AutoModelForObjectDetection.from_config(_config(kind, dict(enumerate(labels))))
    lively(model)
    model.save_pretrained(folder)
    return folder


def lively(model: nn.Module) -> None:
    """Draw all matrices so that activations keep their size from layer to layer (the libraries' own drawing is so
    small that a tiny net answers the same for every picture)."""
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                width = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=draws) / width**0.5)


def _config(kind: str, names: dict[int, str]) -> Any:
    told: dict[str, Any] = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    small = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    stages = ["stage2", "stage3", "stage4"]
    wide = 64 if kind == "deformable_detr" else 32  # its norms have 32 groups, of one cell on the smallest map
    heads = {"d_model": wide, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
             "decoder_ffn_dim": 32, "decoder_layers": 2, "num_queries": 12}  # fmt: skip
    if kind == "yolos":
        return YolosConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                           image_size=[SIDE, SIDE], patch_size=16, num_detection_tokens=12, **told)  # fmt: skip
    if kind in ("detr", "conditional_detr", "deformable_detr"):
        made = {"detr": DetrConfig, "conditional_detr": ConditionalDetrConfig, "deformable_detr": DeformableDetrConfig}
        out = stages if kind == "deformable_detr" else ["stage4"]
        backbone = ResNetConfig(**small, out_features=out)
        return made[kind](use_timm_backbone=False, backbone=None, backbone_config=backbone, encoder_layers=1,
                          auxiliary_loss=True, **heads, **told)  # fmt: skip
    rest = {"encoder_in_channels": [16, 16, 16], "encoder_hidden_dim": 32, "decoder_in_channels": [32, 32, 32],
            "num_denoising": 10, **heads, **told}  # fmt: skip
    if kind == "d_fine":
        backbone = HGNetV2Config(embedding_size=8, hidden_sizes=[16] * 4, depths=[1] * 4, stem_channels=[3, 8, 8],
                                 stage_in_channels=[8, 16, 16, 16], stage_mid_channels=[8] * 4,
                                 stage_out_channels=[16] * 4, stage_num_blocks=[1] * 4, stage_numb_of_layers=[1] * 4,
                                 out_features=stages)  # fmt: skip
        return DFineConfig(backbone_config=backbone, decoder_n_points=[2, 2, 2], **rest)
    backbone = RTDetrResNetConfig(**small, out_features=stages)
    return (RTDetrConfig if kind == "rt_detr" else RTDetrV2Config)(backbone_config=backbone, **rest)


def load_kind(kind: str, folder: Path, labels: Sequence[str] = LABELS, **more: Any) -> Pretrained:
    place = transformers_folder(kind, folder)
    return load_detector(ModelSource(kind, str(place)), labels, **{"seed": 1, "size": SIDE, **more})


def batch(count: int = 3, *, side: int = SIDE, whole: bool = False) -> tuple[dict[str, Tensor], Tensor]:
    """Pictures on one canvas, all but the first narrower than it (unless `whole`); 1, 0, 3, ... boxes and a crowd."""
    draws = torch.Generator().manual_seed(5)
    pixels = torch.rand(count, 3, side, side, generator=draws)
    widths = [side if whole or not i else side - 16 for i in range(count)]
    targets = torch.zeros(count, 4, 6)
    targets[:, :, 4] = -1
    for i, width in enumerate(widths):
        pixels[i, :, :, width:] = 0
        for k in range((1, 0, 3)[i % 3]):
            x, y = 2.0 + 5 * k, 3.0 + 9 * k
            targets[i, k] = torch.tensor([x, y, x + 18 + 4 * k, y + 22, (i + k) % 3, 0])
    targets[0, 1] = torch.tensor([0, 0, 30, 30, 1, 1])
    return {"pixels": pixels, "sizes": torch.tensor([[side, width] for width in widths])}, targets


def steady(model: nn.Module) -> nn.Module:
    """Training mode as a method with frozen norms has it."""
    model.train()
    for module in model.modules():
        if getattr(module, "running_mean", None) is not None:
            module.eval()
    return model


def gradient(
    model: nn.Module, inputs: Mapping[str, Tensor], targets: Tensor, cuts: Sequence[Sequence[int]], step: int = 2
) -> tuple[float, Tensor]:
    """Mean loss and gradient of a batch handed over in these pieces, as the loop sums them."""
    model.zero_grad(set_to_none=True)
    total = count = 0.0
    for places in cuts:
        randomness.begin(7, step, places)
        rows = list(places)
        loss = detector_losses(model, {name: tensor[rows] for name, tensor in inputs.items()}, targets[rows])
        loss.total.backward()
        total, count = total + loss.total.item(), count + loss.count
    found = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return total / count, torch.cat(found) / count
