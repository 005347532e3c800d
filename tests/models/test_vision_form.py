from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.errors import ModelError
from tunesmith.models.vision_form import (
    form_from_json,
    form_to_json,
    processor_config,
    processor_form,
    timm_form,
    torchvision_form,
)
from tunesmith.types import PictureForm

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Told:
    def __init__(self, **told: Any) -> None:
        half = [0.5, 0.5, 0.5]
        self.told = {"do_rescale": True, "rescale_factor": 1 / 255, "image_mean": half, "image_std": half, **told}

    def to_dict(self) -> dict[str, Any]:
        return self.told


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"size": {"height": 224, "width": 224}}, (224, 224, 1.0, True)),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 224, 224 / 256, False)),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 384, 1.0, True)),
        (
            {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 192}},
            (224, 192, 0.75, False),
        ),
        (
            {"size": {"height": 256, "width": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
            (224, 224, 0.875, True),
        ),
    ],
)
def test_each_way_of_transformers_to_say_a_size_is_understood(
    told: dict[str, Any], expected: tuple[int, int, float, bool]
) -> None:
    form = processor_form(Told(**told))
    assert (form.height, form.width, form.crop_share, form.squash) == expected


def test_values_that_are_not_scaled_to_one_end_in_mean_and_std() -> None:
    offset = processor_form(Told(size={"height": 8, "width": 8}, rescale_factor=1 / 127.5, rescale_offset=True))
    assert offset.mean == pytest.approx((0.75,) * 3)  # (2 x - 1 - 0.5) / 0.5 = (x - 0.75) / 0.25
    assert offset.std == pytest.approx((0.25,) * 3)
    plain = processor_form(Told(size={"height": 8, "width": 8}, do_normalize=False))
    assert (plain.mean, plain.std) == ((0.0,) * 3, (1.0,) * 3)


def test_swapped_channels_are_refused() -> None:
    with pytest.raises(ModelError, match="blue, green, red"):
        processor_form(Told(size={"shortest_edge": 256}, do_flip_channel_order=True))


@pytest.mark.parametrize(
    "form",
    [
        PictureForm(224, 224, 0.875, "bilinear", MEAN, STD),
        PictureForm(40, 32, 0.8, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)),
        PictureForm(32, 32, 1.0, "nearest", squash=True),
        PictureForm(56, 56, 32 / 37, "bilinear", MEAN, STD),  # 64.75: rounded down, as in training
    ],
)
def test_transformers_does_with_a_picture_what_the_form_says(form: PictureForm, tmp_path: Path) -> None:
    import json

    from PIL import Image
    from transformers import AutoImageProcessor

    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor_config(form)))
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    read = processor_form(processor)
    assert (read.height, read.width, read.squash) == (form.height, form.width, form.squash)
    assert (read.mean, read.std, read.interpolation) == (form.mean, form.std, form.interpolation)
    resized = [int(min(each.height, each.width) / each.crop_share + 1e-6) for each in (read, form)]
    assert resized[0] == resized[1]
    red = Image.fromarray(np.full((90, 70, 3), (255, 0, 0), np.uint8))
    pixels = processor(red, return_tensors="np")["pixel_values"][0]
    assert pixels.shape == (3, form.height, form.width)
    for channel, value in enumerate((1.0, 0.0, 0.0)):
        expected = (value - form.mean[channel]) / form.std[channel]
        np.testing.assert_allclose(pixels[channel], expected, atol=1e-5)


def test_the_form_of_torchvision_weights_is_theirs() -> None:
    first, second = torchvision_form("mobilenet_v2", "IMAGENET1K_V1"), torchvision_form("mobilenet_v2")
    assert first == PictureForm(224, 224, 224 / 256, "bilinear", MEAN, STD)
    assert second.crop_share == 224 / 232
    assert torchvision_form("inception_v3").height == 299


def test_timm_tells_its_form_by_its_own_config() -> None:
    import timm

    form = timm_form(timm.create_model("test_resnet"))
    assert (form.height, form.crop_share, form.interpolation) == (160, 0.95, "bilinear")


def test_a_form_survives_json_and_a_bad_one_is_told() -> None:
    form = PictureForm(32, 48, 0.9, "bilinear", squash=True)
    assert form_from_json(form_to_json(form), Path("config.json")) == form
    with pytest.raises(ModelError, match="it needs height, width"):
        form_from_json({"height": 3}, Path("config.json"))
