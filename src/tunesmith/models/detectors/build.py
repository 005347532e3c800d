"""torchvision detectors from their `Spec`: its own by name, and Faster R-CNN, RetinaNet and FCOS over timm networks.

Pictures that were resized so that their longest side is `size` pass a detector unchanged (its min_size and max_size
are both `size`), and a plain torchvision program may hand it pictures of any size.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FrozenBatchNorm2d

from tunesmith.models.detectors.pyramid import TimmPyramid, make_body, make_pyramid
from tunesmith.models.detectors.spec import NAMED, OVER_BACKBONE, Spec

RATIOS = (0.5, 1.0, 2.0)


def build(spec: Spec) -> nn.Module:
    """The network with new weights from torch's generator, in evaluation mode; `model.spec` says what it is."""
    model = _over_backbone(spec) if spec.builder in OVER_BACKBONE else _named(spec)
    model.spec = spec  # type: ignore[assignment]
    return model.eval().requires_grad_(True)


def _named(spec: Spec) -> nn.Module:
    assert spec.builder in NAMED, spec.builder
    given: dict[str, Any] = dict(spec.arguments)
    if not spec.squash:
        given |= {"min_size": spec.size, "max_size": spec.size}
    builder = getattr(detection, spec.builder)
    model: nn.Module = builder(weights=None, weights_backbone=None, num_classes=len(spec.categories), **given)
    return model


def _over_backbone(spec: Spec) -> nn.Module:
    body = make_body(spec.backbone, spec.levels)
    coarser = "pool" if spec.builder == "faster_rcnn" else "p6p7"
    pyramid = make_pyramid(body, spec.pyramid, coarser=coarser, nhwc=spec.nhwc)
    levels = len(spec.levels) + (1 if coarser == "pool" else 2)
    pictures = {
        "min_size": spec.size,
        "max_size": spec.size,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
    }
    make = {"faster_rcnn": _faster_rcnn, "retinanet": _retinanet, "fcos": _fcos}[spec.builder]
    return make(spec, pyramid, levels, pictures)


def _faster_rcnn(spec: Spec, pyramid: TimmPyramid, levels: int, pictures: dict[str, Any]) -> nn.Module:
    told = dict(spec.arguments)
    smallest, width = int(told.pop("smallest_anchor")), int(told.pop("representation"))
    anchors = AnchorGenerator(tuple((smallest * 2**i,) for i in range(levels)), (RATIOS,) * levels)
    pool = torchvision.ops.MultiScaleRoIAlign(
        [str(i) for i in range(len(spec.levels))], output_size=7, sampling_ratio=2
    )
    head = TwoMLPHead(pyramid.out_channels * 7 * 7, width)
    predictor = FastRCNNPredictor(width, len(spec.categories))
    model: nn.Module = detection.FasterRCNN(
        pyramid,
        rpn_anchor_generator=anchors,
        box_roi_pool=pool,
        box_head=head,
        box_predictor=predictor,
        **told,
        **pictures,
    )
    return model


def _retinanet(spec: Spec, pyramid: TimmPyramid, levels: int, pictures: dict[str, Any]) -> nn.Module:
    told = dict(spec.arguments)
    smallest = int(told.pop("smallest_anchor"))
    sizes = tuple(tuple(int(smallest * 2 ** (i + third / 3)) for third in range(3)) for i in range(levels))
    anchors = AnchorGenerator(sizes, (RATIOS,) * levels)
    told["head"] = RetinaNetHead(
        pyramid.out_channels,
        anchors.num_anchors_per_location()[0],
        len(spec.categories),
        norm_layer=partial(nn.GroupNorm, 32),
    )
    model: nn.Module = detection.RetinaNet(pyramid, len(spec.categories), anchor_generator=anchors, **told, **pictures)
    return model


def _fcos(spec: Spec, pyramid: TimmPyramid, levels: int, pictures: dict[str, Any]) -> nn.Module:
    anchors = AnchorGenerator(tuple((8 * 2**i,) for i in range(levels)), ((1.0,),) * levels)
    told = {**spec.arguments, **pictures}
    model: nn.Module = detection.FCOS(pyramid, len(spec.categories), anchor_generator=anchors, **told)
    return model


def freeze_norms(model: nn.Module) -> None:
    """Replace each BatchNorm2d of the backbone by torchvision's FrozenBatchNorm2d of the same numbers, in place."""
    for parent in list(model.backbone.modules()):  # type: ignore[union-attr,operator]
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, _frozen(child))


def _frozen(norm: nn.BatchNorm2d) -> FrozenBatchNorm2d:
    frozen = FrozenBatchNorm2d(norm.num_features, eps=norm.eps)
    state = {name: tensor for name, tensor in norm.state_dict().items() if name != "num_batches_tracked"}
    frozen.load_state_dict(state)
    return frozen


def set_eps_of_coco(model: nn.Module, wanted: float = 0.0) -> None:
    """Torchvision's first COCO weights were trained with eps = 0 in FrozenBatchNorm2d (pytorch/vision#2933). The
    variance is shifted instead, so that a net with the usual eps gives the same answers, in place."""
    with torch.no_grad():
        for module in model.backbone.modules():  # type: ignore[union-attr,operator]
            if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
                module.running_var += wanted - module.eps
