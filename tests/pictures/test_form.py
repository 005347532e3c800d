"""The view that is scored is the one that the model's own library would have given it."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from tunesmith.pictures.form import LONGEST_RATIO, centred, normalised, stored
from tunesmith.types import PictureForm

LITE0 = PictureForm(224, 224, crop_share=0.875, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth shapes with edges and some noise: what a photograph has."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((width, height))
    return np.clip(np.asarray(coarse) + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)


SIZES = [(375, 500), (500, 375), (256, 256), (97, 201), (28, 28), (1, 1), (224, 1000), (1200, 900)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "form",
    [
        LITE0,
        PictureForm(224, 224, crop_share=0.9, interpolation="bicubic"),  # 248.9: timm rounds down
        PictureForm(224, 224, crop_share=1.0, interpolation="bilinear"),
        PictureForm(64, 64, crop_share=0.95, interpolation="nearest"),
        PictureForm(96, 96, crop_share=0.875, interpolation="bicubic", squash=True),
        PictureForm(96, 128, crop_share=1.0, interpolation="bilinear", squash=True),
    ],
)
def test_the_centred_view_is_timms_evaluation_view(form: PictureForm, size: tuple[int, int]) -> None:
    timm_data = pytest.importorskip("timm.data")
    transform = timm_data.create_transform(
        (3, form.height, form.width),
        is_training=False,
        interpolation=form.interpolation,
        mean=form.mean,
        std=form.std,
        crop_pct=form.crop_share,
        crop_mode="squash" if form.squash else "center",
        normalize=True,
    )
    shown = picture(*size)
    view = centred(stored(shown, form), form)
    expected = transform(Image.fromarray(shown))
    assert view.dtype == torch.uint8
    # The same pixels, exactly; only the order of the float operations differs.
    torch.testing.assert_close(normalised(view[None], form)[0], expected, atol=2e-6, rtol=1e-5)


def test_the_centred_view_is_torchvisions_evaluation_view() -> None:
    from torchvision.transforms._presets import ImageClassification

    form = PictureForm(224, 224, crop_share=224 / 232, interpolation="bilinear")
    preset = ImageClassification(crop_size=224, resize_size=232)
    shown = picture(333, 480)
    view = normalised(centred(stored(shown, form), form)[None], form)[0]
    torch.testing.assert_close(view, preset(Image.fromarray(shown)), atol=2e-6, rtol=1e-5)


def test_a_form_that_is_not_square_is_just_covered() -> None:
    form = PictureForm(60, 90, crop_share=0.75)
    assert stored(picture(200, 200), form).shape == (120, 120, 3)
    assert stored(picture(100, 400), form).shape == (80, 320, 3)
    assert centred(stored(picture(100, 400), form), form).shape == (3, 60, 90)


def test_squashed_pictures_keep_their_whole_content() -> None:
    form = PictureForm(32, 32, squash=True)
    halves = np.zeros((40, 400, 3), np.uint8)
    halves[:, 200:] = 255
    view = stored(halves, form)
    assert view.shape == (32, 32, 3)
    assert view[:, :14].max() < 10
    assert view[:, 18:].min() > 245


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    shown = picture(256, 300)
    assert stored(shown, LITE0) is shown or np.array_equal(stored(shown, LITE0), shown)


def test_the_whole_picture_is_stored_unless_it_is_a_thread() -> None:
    assert stored(picture(100, 1000), LITE0).shape == (256, 2560, 3)
    tracemalloc.start()
    thread = np.arange(4000, dtype=np.uint8).reshape(4000, 1, 1).repeat(3, 2)
    kept = stored(thread, LITE0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kept.shape == (256 * LONGEST_RATIO, 256, 3)
    assert peak < 32 << 20  # uncropped it would be 786 million bytes
    assert stored(thread.swapaxes(0, 1), LITE0).shape == (256, 256 * LONGEST_RATIO, 3)


def test_the_middle_of_a_thread_is_what_the_centred_view_shows() -> None:
    shown = np.repeat(picture(640, 1), 8, axis=1)  # 80 to 1
    form = PictureForm(16, 16, crop_share=0.5, interpolation="bilinear")
    whole = np.asarray(Image.fromarray(shown).resize((32, 2560), Image.Resampling.BILINEAR))
    middle = whole[1280 - 8 : 1280 + 8, 8:24].transpose(2, 0, 1)
    assert np.abs(centred(stored(shown, form), form).numpy().astype(int) - middle).max() <= 1


def test_views_do_not_share_memory_with_a_read_only_store() -> None:
    kept = stored(picture(256, 256), LITE0)
    kept.setflags(write=False)
    before = kept.copy()
    centred(kept, LITE0).zero_()
    np.testing.assert_array_equal(kept, before)


def test_normalised_is_mean_zero_where_the_pixel_is_the_mean() -> None:
    form = PictureForm(1, 1, mean=(51 / 255, 102 / 255, 153 / 255), std=(0.1, 0.2, 0.4))
    pixels = torch.tensor([51, 102, 153], dtype=torch.uint8).view(1, 3, 1, 1)
    torch.testing.assert_close(normalised(pixels, form), torch.zeros(1, 3, 1, 1), atol=1e-6, rtol=0)
    white = normalised(torch.full((2, 3, 1, 1), 255, dtype=torch.uint8), form)
    assert white.dtype == torch.float32
    torch.testing.assert_close(white[1].flatten(), torch.tensor([8.0, 3.0, 1.0]))
