"""A crop of random area, shape and place, resized to the form in one antialiased pass over whole numbers of eight bits.

Source: Szegedy et al. (2015), arXiv 1409.4842. Departure: the area is a share of the largest rectangle of the form's
shape that fits, not of the whole picture. A panorama's crops are then no larger than what the scored view shows, every
end of it is reached, and no draw has to be thrown away and repeated.
"""

from __future__ import annotations

from math import exp, log, sqrt

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from tunesmith.pictures.form import tensor_of
from tunesmith.types import PictureForm

WIDEST = 4 / 3  # at most so much wider or narrower than the form


def cropped(stored: np.ndarray, form: PictureForm, least: float, rng: np.random.Generator) -> Tensor:
    """A random crop of uint8 [height, width, 3] as uint8 [3, form.height, form.width]; least: its smallest area."""
    tall, wide = stored.shape[:2]
    scale = min(tall / form.height, wide / form.width)
    area = rng.uniform(least, 1)
    shape = exp(rng.uniform(-log(WIDEST), log(WIDEST)))
    height = max(1, min(tall, round(form.height * scale * sqrt(area / shape))))
    width = max(1, min(wide, round(form.width * scale * sqrt(area * shape))))
    top, left = int(rng.integers(tall - height + 1)), int(rng.integers(wide - width + 1))
    return resized_to(form, tensor_of(stored[top : top + height, left : left + width]))


def resized_to(form: PictureForm, region: Tensor) -> Tensor:
    """uint8 [3, any height, any width] as uint8 [3, form.height, form.width]; itself where it has that size."""
    size = [form.height, form.width]
    if list(region.shape[-2:]) == size:
        return region
    # Pillow's "nearest" is what torchvision calls nearest-exact.
    interpolation = InterpolationMode("nearest-exact" if form.interpolation == "nearest" else form.interpolation)
    resized: Tensor = functional.resize(region, size, interpolation=interpolation, antialias=True)
    return resized
