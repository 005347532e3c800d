"""Colours changed in one go are torchvision's own, one after the other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from tunesmith.pictures.colour import recoloured

FACTORS = st.floats(0, 2, width=32)


@settings(deadline=None)
@given(FACTORS, FACTORS, FACTORS, st.integers(0, 2**16), st.sampled_from([(1, 1), (7, 5), (40, 64), (300, 200)]))
def test_it_is_what_torchvision_gives_bit_for_bit(
    bright: float, contrast: float, vivid: float, seed: int, sides: tuple[int, int]
) -> None:
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (3, *sides), generator=draw, dtype=torch.uint8)
    before = pixels.clone()
    expected = functional.adjust_brightness(pixels, bright)
    expected = functional.adjust_contrast(expected, contrast)
    expected = functional.adjust_saturation(expected, vivid)
    assert torch.equal(recoloured(pixels, bright, contrast, vivid), expected)
    assert torch.equal(pixels, before)


@pytest.mark.parametrize("bright", [0.0, 0.5, 2.0])
def test_brightness_alone_scales(bright: float) -> None:
    pixels = torch.tensor([10, 100, 200], dtype=torch.uint8).view(3, 1, 1)
    found = recoloured(pixels, bright, 1.0, 1.0).flatten().tolist()
    assert found == [min(255, int(value * bright)) for value in (10, 100, 200)]
