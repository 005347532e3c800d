"""A timm classifier's network with a feature pyramid on top, as torchvision's detectors want their backbone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from tunesmith.errors import ModelError, did_you_mean

PROBE = 96  # pixels: the smallest picture on which every usual backbone still has a map at stride 32


class TimmPyramid(nn.Module):
    """`body` gives maps at rising strides, `fpn` brings them to the same number of channels and adds coarser ones."""

    def __init__(self, body: nn.Module, fpn: FeaturePyramidNetwork, channels: int, *, nhwc: bool = False) -> None:
        super().__init__()
        self.body = body
        self.fpn = fpn
        self.nhwc = nhwc
        self.out_channels = channels

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Pictures [n, 3, height, width] to maps "0", "1", ... [n, channels, height / stride, width / stride]."""
        maps = self.body(pixels)
        if self.nhwc:
            maps = [each.permute(0, 3, 1, 2) for each in maps]
        pyramid: dict[str, Tensor] = self.fpn(OrderedDict((str(i), each) for i, each in enumerate(maps)))
        return pyramid


def make_body(name: str, levels: tuple[int, ...] | None = None) -> nn.Module:
    """The timm network `name` without its classifier, giving maps; new weights come from torch's generator."""
    if not timm.is_model(name):
        raise ModelError(f'timm knows no network "{name}".{did_you_mean(name, timm.list_models())}')
    chosen: dict[str, Any] = {} if levels is None else {"out_indices": levels}
    try:
        body: nn.Module = timm.create_model(name, features_only=True, pretrained=False, **chosen)
    except (RuntimeError, ValueError, AttributeError, AssertionError, TypeError) as error:
        raise ModelError(
            f"{name} cannot give feature maps ({error}). A detector needs a backbone with maps at several strides, "
            "such as timm/resnet18, timm/tf_efficientnet_lite0 or timm/convnext_tiny."
        ) from error
    return body


def choose_levels(name: str, *, first_stride: int) -> tuple[int, ...]:
    """Indices of the network's maps at stride 32 and below, from `first_stride` on."""
    info = make_body(name).feature_info
    strides = [int(stride) for stride in info.reduction()]  # type: ignore[operator,union-attr]
    found = {stride: i for i, stride in enumerate(strides) if first_stride <= stride <= 32}
    if len(found) < 2:
        raise ModelError(
            f"{name} gives maps at strides {strides} only; a feature pyramid needs several between {first_stride} and "
            "32. Use a network that narrows its maps step by step: timm/resnet18, timm/tf_efficientnet_lite0, "
            "timm/convnext_tiny."
        )
    return tuple(found[stride] for stride in sorted(found))


def gives_channels_last(body: nn.Module, name: str) -> bool:
    """Whether maps come as [n, height, width, channels]; ModelError where pictures of other sizes are refused."""
    wanted = [int(n) for n in body.feature_info.channels()]  # type: ignore[operator,union-attr]
    training = body.training
    try:
        with torch.no_grad():
            maps = body.eval()(torch.zeros(1, 3, PROBE, 2 * PROBE))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ModelError(
            f"{name} takes pictures of one size only ({error}), and a detector sees pictures of any shape. Use a "
            "convolutional backbone: timm/resnet18, timm/tf_efficientnet_lite0, timm/convnext_tiny."
        ) from error
    finally:
        body.train(training)
    return [each.shape[1] for each in maps] != wanted


def make_pyramid(body: nn.Module, channels: int, *, coarser: str, nhwc: bool) -> TimmPyramid:
    """coarser: "pool" adds one level by pooling (Faster R-CNN), "p6p7" two by convolution (RetinaNet, FCOS)."""
    if channels % 32 or channels < 64:
        raise ModelError(
            f"pyramid_channels is {channels}: norm layers want a multiple of 32, at least 64. Use 64, 128 or 256."
        )
    inputs = [int(n) for n in body.feature_info.channels()]  # type: ignore[operator,union-attr]
    extra: ExtraFPNBlock = LastLevelMaxPool() if coarser == "pool" else LastLevelP6P7(channels, channels)
    return TimmPyramid(body, FeaturePyramidNetwork(inputs, channels, extra_blocks=extra), channels, nhwc=nhwc)


def fill_body(body: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Copy a classifier's tensors into its body, by name; timm writes `stages_0` in a body for `stages.0`.

    Raises ModelError unless every tensor of the body is found with its shape.
    """
    wanted = body.state_dict()
    by_flat = {key.replace(".", "_"): key for key in weights}
    source = {key: by_flat.get(key.removeprefix("model.").replace(".", "_")) for key in wanted}
    lost = [k for k, s in source.items() if s is None or weights[s].shape != wanted[k].shape]
    if lost:
        raise ModelError(
            f"The weights do not fit timm's {name}: {len(lost)} of the backbone's {len(wanted)} tensors are missing or "
            f"of another shape ({', '.join(lost[:4])}). They belong to another network."
        )
    body.load_state_dict({key: weights[str(s)] for key, s in source.items()})
