"""What a torchvision detector is built from, in words that its config.json holds; enough for a plain program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OVER_BACKBONE = ("faster_rcnn", "retinanet", "fcos")
"""Detectors that are built over any timm network."""

NAMED = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)
"""torchvision's own builders, with weights for the classes of COCO."""

FIXED_SIZES = {"ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320}
"""Networks whose default boxes fit one picture size alone."""

USUAL_SIZES = {"fasterrcnn_mobilenet_v3_large_320_fpn": 320}
"""Longest side where none is asked for; else 320 over a backbone of one's own and 800 for torchvision's large ones."""

BACKGROUND = "__background__"


@dataclass(frozen=True, slots=True)
class DetectorOptions:
    """How a detector over a classifier's network is built. None of this concerns a detector that comes pretrained.

    detector: `faster_rcnn`, `retinanet` or `fcos`. pyramid_channels: channels of every level of the feature pyramid, a
        multiple of 32. representation: width of the two layers that read a region (Faster R-CNN). regions: regions of
        a picture that these layers learn from in a step. proposals: boxes of a picture that training keeps after
        non-maximum suppression. anchor_scale: side of the smallest anchor in strides of its level.
    """

    detector: str = "faster_rcnn"
    pyramid_channels: int = 128
    representation: int = 1024
    regions: int = 128
    proposals: int = 500
    anchor_scale: int = 4


@dataclass(frozen=True, slots=True)
class Spec:
    """All that decides a torchvision detector's network but its weights.

    builder: one of `OVER_BACKBONE` or `NAMED`. size: longest side of the pictures. categories: what the rows of the
    class layer mean, the background first where the detector has a row for it. arguments: what else the builder is
    called with. backbone, levels, pyramid: the timm name, the indices of its maps, and the pyramid's channels.
    nhwc: whether the backbone gives maps with channels last. frozen_norm: whether the backbone's BatchNorm is
    torchvision's FrozenBatchNorm2d while it is tuned.
    """

    builder: str
    size: int
    categories: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    backbone: str = ""
    levels: tuple[int, ...] = ()
    pyramid: int = 0
    nhwc: bool = False
    frozen_norm: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes without background, in order."""
        return self.categories[self.offset :]

    @property
    def offset(self) -> int:
        """Number of the first class: 1 where row 0 is the background."""
        return has_background(self.builder)

    @property
    def squash(self) -> bool:
        """Whether pictures are brought to size x size without regard to the ratio of their sides."""
        return self.builder in FIXED_SIZES


def has_background(builder: str) -> int:
    """1 where the class layer has a row for the background (softmax: Faster R-CNN, SSD), else 0 (focal loss)."""
    return int(builder.startswith(("faster", "ssd")))


def categories_of(builder: str, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The rows of the class layer for these labels."""
    return (BACKGROUND, *labels) if has_background(builder) else labels


def to_config(spec: Spec) -> dict[str, Any]:
    """As config.json holds it."""
    return {name: _plain(getattr(spec, name)) for name in Spec.__dataclass_fields__}


def from_config(config: Mapping[str, Any]) -> Spec:
    """Back from config.json."""
    known = {name: _tupled(name, config[name]) for name in Spec.__dataclass_fields__ if name in config}
    return Spec(**known)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _tupled(name: str, value: Any) -> Any:
    return tuple(value) if isinstance(value, list) and name != "arguments" else value
