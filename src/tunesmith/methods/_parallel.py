"""Small learned convolutions beside the frozen ones of a conv net, of a form that melts into their kernels.

A kernel of 1 x 1 with the layer's own stride reads what the middle of the layer's kernel reads. So a parallel
convolution of 1 x 1 is that kernel's middle, and its weight can be added there.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tunesmith.types import Layer


class ParallelConv(nn.Module):
    """y = base(x) + scale * U D x, with D [size, inputs, 1, 1] and U [outputs, size, 1, 1]; or, beside a depthwise
    convolution, y = base(x) + scale * g x with g [channels, 1, 1, 1]. U and g start at zero."""

    def __init__(self, base: nn.Conv2d, size: int, scale: float) -> None:
        super().__init__()
        self.base = base
        self.scale = scale
        self.off = False
        device, by_channel = base.weight.device, base.groups > 1
        size = 1 if by_channel else min(size, base.in_channels, base.out_channels)
        self.up = nn.Parameter(torch.zeros(base.out_channels, size, 1, 1, device=device))
        self.down = None if by_channel else nn.Parameter(torch.empty(size, base.in_channels, 1, 1, device=device))
        if self.down is not None:
            nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps [examples, channels, height, width] of the frozen layer, with the learned part unless `off`."""
        result: Tensor = self.base(inputs)
        if self.off:
            return result
        if self.down is None:
            added = functional.conv2d(inputs, self.up, stride=self.base.stride, groups=self.base.groups)
        else:
            added = functional.conv2d(functional.conv2d(inputs, self.down, stride=self.base.stride), self.up)
        return result + added * self.scale

    def merged(self) -> nn.Conv2d:
        """The frozen layer's copy with the learned part in the middle of its kernel."""
        plain = copy.deepcopy(self.base)
        with torch.no_grad():
            added = self.up if self.down is None else (self.up.flatten(1) @ self.down.flatten(1))[:, :, None, None]
            row, column = (k // 2 for k in plain.kernel_size)
            plain.weight[:, :, row, column] += (self.scale * added[:, :, 0, 0]).to(plain.weight.dtype)
        return plain


class ParallelLinear(nn.Module):
    """The same beside a linear layer, which in a conv net stands for a convolution of 1 x 1 (ConvNeXt)."""

    def __init__(self, base: nn.Linear, size: int, scale: float) -> None:
        super().__init__()
        self.base = base
        self.scale = scale
        self.off = False
        size = min(size, base.in_features, base.out_features)
        device = base.weight.device
        self.down = nn.Parameter(torch.empty(size, base.in_features, device=device))
        self.up = nn.Parameter(torch.zeros(base.out_features, size, device=device))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, inputs: Tensor) -> Tensor:
        """Values [..., outputs], with `off` the frozen layer's."""
        result: Tensor = self.base(inputs)
        if self.off:
            return result
        return result + functional.linear(functional.linear(inputs, self.down), self.up) * self.scale

    def merged(self) -> nn.Linear:
        """The frozen layer's copy with the learned part added."""
        plain = copy.deepcopy(self.base)
        with torch.no_grad():
            plain.weight += (self.scale * (self.up @ self.down)).to(plain.weight.dtype)
        return plain


def can_stand_beside(model: nn.Module, layer: Layer) -> bool:
    """Whether a parallel 1 x 1 of the same stride reads the middle of the layer's kernel."""
    module: Any = model.get_submodule(layer.name)
    if layer.kind == "linear":
        return layer.role in ("up", "down", "gate", "gate_up")
    if layer.kind != "conv" or isinstance(module.padding, str) or type(module).__name__.endswith("Same"):
        return False
    if layer.role not in ("spatial", "pointwise") and not (layer.role == "depthwise" and layer.inputs == layer.outputs):
        return False
    sides = zip(module.kernel_size, module.padding, module.dilation, strict=True)
    return module.padding_mode == "zeros" and all(2 * padding == dilation * (k - 1) for k, padding, dilation in sides)


def stand_beside(model: nn.Module, layers: Sequence[Layer], size: int, scale: float) -> None:
    """Put a learned part beside each layer, in place."""
    for layer in layers:
        parent, _, own = layer.name.rpartition(".")
        base: Any = model.get_submodule(layer.name)
        wrapper = ParallelLinear if layer.kind == "linear" else ParallelConv
        setattr(model.get_submodule(parent), own, wrapper(base, size, scale))


def learned_parts(model: nn.Module) -> Iterator[nn.Parameter]:
    """Every learned part's numbers."""
    for _, module in _parts(model):
        yield from module.parameters(recurse=False)


def parts(model: nn.Module) -> Iterator[nn.Module]:
    """The layers with a learned part; where `off` is set, it adds nothing."""
    return (module for _, module in _parts(model))


def merged(model: nn.Module) -> nn.Module:
    """A plain copy of the model with all learned parts in its kernels."""
    plain = copy.deepcopy(model)
    for name, part in list(_parts(plain)):
        parent, _, own = name.rpartition(".")
        setattr(plain.get_submodule(parent), own, part.merged())
    return plain


def _parts(model: nn.Module) -> Iterator[tuple[str, ParallelConv | ParallelLinear]]:
    return ((n, m) for n, m in model.named_modules() if isinstance(m, ParallelConv | ParallelLinear))
