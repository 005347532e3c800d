"""Erasing, and the two policies that draw one of fourteen changes: RandAugment and TrivialAugment.

A policy picks a change at random from a list (turned, sheared, moved, brighter, fewer grey levels, ...) with a strength
in 31 steps from nothing to the most. RandAugment makes two changes of a fixed, middling strength; TrivialAugment makes
one, of a strength drawn anew for every picture, and has nothing to tune. Both use the list and the bounds of
RandAugment here; the wide bounds of TrivialAugment (turned by up to 135 degrees) are for training from nothing.

Each change is torchvision's own, on whole numbers of eight bits. torchvision's ready-made policies draw from the
process's one generator, so that what a picture becomes would depend on everything drawn before it; here the caller
hands over the generator.

Sources: RandAugment: Cubuk, Zoph, Shlens and Le (2020), arXiv 1909.13719; N = 2, M = 9. TrivialAugment: Mueller and
Hutter (2021), arXiv 2103.10158. Random erasing: Zhong et al. (2020), arXiv 1708.04896. Departure: turned and sheared
pictures are interpolated linearly, and what comes in from outside has the form's mean colour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import atan, degrees, exp, log, sqrt

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

STRENGTHS = 31  # steps, 0 to 30
CHANGES_A_PICTURE = 2  # RandAugment's N
MIDDLING = 9  # and its M

ERASED = (0.02, 0.2)  # least and largest share of the picture that is painted over
ERASED_WIDEST = 3.0  # at most so much wider or narrower than the picture

SIGNED = ("brightness", "colour", "contrast", "sharpness", "turn", "shear_x", "shear_y", "move_x", "move_y")
OTHERS = ("nothing", "posterize", "solarize", "autocontrast", "equalize")

_TINTS: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "brightness": functional.adjust_brightness,
    "colour": functional.adjust_saturation,
    "contrast": functional.adjust_contrast,
    "sharpness": functional.adjust_sharpness,
}


def erased(pixels: Tensor, fill: list[float], rng: np.random.Generator) -> Tensor:
    """A rectangle painted in the form's mean colour, which is zero once normalised."""
    height, width = pixels.shape[-2:]
    area = rng.uniform(*ERASED)
    shape = exp(rng.uniform(-log(ERASED_WIDEST), log(ERASED_WIDEST)))
    tall = max(1, min(height, round(height * sqrt(area / shape))))
    wide = max(1, min(width, round(width * sqrt(area * shape))))
    top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
    painted = pixels.clone()
    painted[:, top : top + tall, left : left + wide] = pixels.new_tensor([round(value) for value in fill]).view(3, 1, 1)
    return painted


def randaugment(pixels: Tensor, fill: list[float], rng: np.random.Generator) -> Tensor:
    """Two changes of middling strength; pixels uint8 [3, height, width], fill a colour 0 to 255."""
    for _ in range(CHANGES_A_PICTURE):
        pixels = _changed(pixels, MIDDLING, fill, rng)
    return pixels


def trivialaugment(pixels: Tensor, fill: list[float], rng: np.random.Generator) -> Tensor:
    """One change, of any strength."""
    return _changed(pixels, int(rng.integers(STRENGTHS)), fill, rng)


def _changed(pixels: Tensor, strength: int, fill: list[float], rng: np.random.Generator) -> Tensor:
    names = OTHERS + SIGNED
    name = names[int(rng.integers(len(names)))]
    sign = 1.0 if rng.random() < 0.5 else -1.0
    return change(pixels, name, share=strength / (STRENGTHS - 1), sign=sign, fill=fill)


def change(pixels: Tensor, name: str, *, share: float, sign: float = 1.0, fill: list[float]) -> Tensor:
    """One change by name. share: of the most, 0 to 1; sign: 1 or -1, the way that a SIGNED change goes."""
    if name == "nothing":
        return pixels
    if name in SIGNED:
        tint = _TINTS.get(name)
        if tint is None:
            return _moved(pixels, name, share * sign, fill)
        changed: Tensor = tint(pixels, 1 + 0.9 * share * sign)
    elif name == "autocontrast":
        changed = functional.autocontrast(pixels)
    elif name == "equalize":
        changed = functional.equalize(pixels)
    elif name == "posterize":
        changed = functional.posterize(pixels, 8 - round(4 * share))
    elif name == "solarize":
        # 256: no pixel is that bright, so a share of 0 changes nothing.
        changed = functional.solarize(pixels, 256 * (1 - share)) if share else pixels
    else:
        raise ValueError(f"unknown change {name}")
    return changed


def _moved(pixels: Tensor, name: str, share: float, fill: list[float]) -> Tensor:
    angle, shift, shear = 0.0, [0, 0], [0.0, 0.0]
    height, width = pixels.shape[-2:]
    if name == "turn":
        angle = 30 * share
    elif name in ("shear_x", "shear_y"):
        shear[name == "shear_y"] = degrees(atan(0.3 * share))
    else:
        side = width if name == "move_x" else height
        shift[name == "move_y"] = int(150 / 331 * side * share)  # of RandAugment's 331-pixel pictures
    # None: about the middle of the picture.
    linear = InterpolationMode.BILINEAR
    moved: Tensor = functional.affine(pixels, angle, shift, 1.0, shear, interpolation=linear, fill=fill, center=None)
    return moved
