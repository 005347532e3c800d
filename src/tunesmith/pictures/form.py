"""A picture is brought to the size and the numbers that a model was trained with.

A model's `PictureForm` says what that is: so many pixels, so much of the resized picture kept by the centre crop, this
interpolation, this mean and spread of each channel. A model that is given another form still answers, only worse, and
nothing fails; so the form is taken from the model's own files, and applied here exactly as timm, torchvision and
transformers apply it: resized by Pillow, with the rounding of timm (`floor(side / crop_share)`) and of torchvision.

The way is cut in two. `stored` is what every later view needs and nothing more: the resized picture, not yet cropped,
small enough to keep on disk. `centred` is the view for scores and answers; the views for training are in `augment.py`.
Pixels stay whole numbers of eight bits until `normalised`, a quarter of the memory and several times the speed.
"""

from __future__ import annotations

from dataclasses import replace
from math import floor

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tunesmith.types import PictureForm

LONGEST_RATIO = 16
"""Of a picture longer than this times its width, the middle is kept: 1 x 4,000 pixels would else be stored as
256 x 1,024,000. The centred view, a square or nearly so, is the same."""

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def stored(picture: np.ndarray, form: PictureForm) -> np.ndarray:
    """The picture resized for its form, uint8 [height, width, 3] to the same, uncropped (but see LONGEST_RATIO).

    The ratio of the sides is kept, and the picture just covers the form's sides over `crop_share`; with `squash` both
    sides are set to that.
    """
    # A hair more, since 224 / (224 / 232) may fall just below 232.
    wanted_height = floor(form.height / form.crop_share + 1e-6)
    wanted_width = floor(form.width / form.crop_share + 1e-6)
    if not form.squash:
        picture = _middle(picture)
    height, width = picture.shape[:2]
    if form.squash:
        size = wanted_width, wanted_height
    elif wanted_width * height >= wanted_height * width:  # the width decides
        size = wanted_width, max(wanted_height, int(wanted_width * height / width))
    else:
        size = max(wanted_width, int(wanted_height * width / height)), wanted_height
    if size == (width, height):
        return picture
    return np.array(Image.fromarray(picture).resize(size, _RESAMPLING[form.interpolation]))


def centred(stored: np.ndarray, form: PictureForm) -> Tensor:
    """The view that is scored: the middle of a stored picture, uint8 [3, height, width]."""
    # Rounded as torchvision rounds (to even), lest the view lie one pixel aside.
    top = round((stored.shape[0] - form.height) / 2)
    left = round((stored.shape[1] - form.width) / 2)
    return tensor_of(stored[top : top + form.height, left : left + form.width]).contiguous()


def in_training(form: PictureForm) -> PictureForm:
    """The form that a model is trained in: the same, where it names no other height and width for that."""
    if form.train is None:
        return form
    return replace(form, height=form.train[0], width=form.train[1], train=None)


def tensor_of(picture: np.ndarray) -> Tensor:
    """A copy of uint8 [height, width, 3] seen as [3, height, width]; the array may be read-only or a file on disk."""
    return torch.from_numpy(np.array(picture, order="C")).permute(2, 0, 1)


def normalised(pixels: Tensor, form: PictureForm) -> Tensor:
    """What the model is given: (pixels / 255 - mean) / std, uint8 [pictures, 3, height, width] to float32."""
    scale = [1 / (255 * std) for std in form.std]
    shift = [-mean / std for mean, std in zip(form.mean, form.std, strict=True)]
    wide = pixels.to(torch.float32)
    return wide.mul_(wide.new_tensor(scale).view(3, 1, 1)).add_(wide.new_tensor(shift).view(3, 1, 1))


def _middle(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    tall, wide = min(height, LONGEST_RATIO * width), min(width, LONGEST_RATIO * height)
    top, left = (height - tall) // 2, (width - wide) // 2
    return picture[top : top + tall, left : left + wide]


def patches(height: int, width: int) -> int:
    """How many patches of 16 x 16 pixels a picture has: the measure of work, as tokens are for texts; at least 1."""
    return max(1, height * width // 256)
