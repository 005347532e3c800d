"""Brightness, contrast and saturation of a picture changed in one go.

The outcome is that of torchvision's `adjust_brightness`, `adjust_contrast` and `adjust_saturation` one after the other,
bit for bit; between them the numbers stay floating, in place, where torchvision goes to eight bits and back three times
and takes two to three times as long (docs/experiments.md). Hue is left alone: it costs ten times the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GREY = (0.2989, 0.587, 0.114)  # shares of red, green and blue in torchvision's and Pillow's grey


def recoloured(pixels: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """uint8 [3, height, width] to the same; each factor is at least 0, and 1 changes nothing."""
    found = pixels.to(torch.float32, memory_format=torch.contiguous_format)  # colour by colour, whatever lay before
    found.mul_(brightness).clamp_(0, 255).floor_()
    middle = _grey(found).mean()
    found.mul_(contrast).add_(middle, alpha=1 - contrast).clamp_(0, 255).floor_()
    grey = _grey(found)
    return found.mul_(saturation).add_(grey, alpha=1 - saturation).clamp_(0, 255).to(torch.uint8)


def _grey(pixels: Tensor) -> Tensor:
    red, green, blue = pixels.unbind(0)
    return red.mul(_GREY[0]).add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2]).floor_()
