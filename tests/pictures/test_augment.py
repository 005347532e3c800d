"""What a picture becomes follows from one seed and nothing else; presets are mild, and every field does something."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from tunesmith.pictures import augment as page
from tunesmith.pictures.augment import MANY, PRESETS, Augment, Mix, augmented, mix, mixing, resolved, why
from tunesmith.pictures.form import centred, stored
from tunesmith.types import PictureForm

FORM = PictureForm(48, 48, crop_share=0.875)


def scene(height: int = 55, width: int = 73) -> np.ndarray:
    """A stored picture on which place and colour can be told: a ramp across, a ramp down, and noise."""
    across, down = np.linspace(0, 255, width), np.linspace(0, 255, height)
    noise = np.random.default_rng(0).integers(0, 256, (height, width))
    return np.stack([np.tile(across, (height, 1)), np.tile(down[:, None], (1, width)), noise], 2).astype(np.uint8)


def only(**fields: Any) -> Augment:
    return Augment(preset="none", **fields)


ALL = [
    only(flip=0.5),
    only(crop=0.3),
    only(colour=0.4),
    only(policy="randaugment"),
    only(policy="trivialaugment"),
    only(erasing=1),
    *(Augment(preset=name) for name in ("light", "standard", "strong")),
]


@pytest.mark.parametrize("options", ALL)
def test_equal_seeds_give_equal_bits_and_others_do_not(options: Augment) -> None:
    kept = scene()
    views = [augmented(kept, FORM, options, seed=seed) for seed in range(12)]
    random.random(), np.random.random(), torch.rand(3)
    for seed in reversed(range(12)):
        assert torch.equal(views[seed], augmented(kept, FORM, options, seed=seed))
    assert all(view.shape == (3, 48, 48) and view.dtype == torch.uint8 for view in views)
    assert all(view.is_contiguous() for view in views)
    assert len({view.numpy().tobytes() for view in views}) > (1 if options.crop == 1 and not options.colour else 9)


@pytest.mark.parametrize("options", [*ALL, only(mixup=0.5, cutmix=1)])
def test_no_generator_of_the_process_is_read_or_moved(options: Augment) -> None:
    def states() -> tuple[Any, ...]:
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().numpy().tobytes()

    first = augmented(scene(), FORM, options, seed=3), mixing(options, 3)
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    before = states()
    for seed in range(10):
        augmented(scene(), FORM, options, seed=seed)
        mixing(options, seed)
    assert states() == before
    assert torch.equal(first[0], augmented(scene(), FORM, options, seed=3))
    assert first[1] == mixing(options, 3)


def test_large_seeds_that_share_their_low_bits_differ() -> None:
    options = only(crop=0.3)
    first, second = (augmented(scene(), FORM, options, seed=seed) for seed in (5, 5 + (1 << 62)))
    assert not torch.equal(first, second)


def test_none_is_the_view_that_is_scored() -> None:
    options = Augment(preset="none")
    for seed in range(5):
        assert torch.equal(augmented(scene(), FORM, options, seed=seed), centred(scene(), FORM))
    assert mixing(options, 1) is None


def test_flip_mirrors_its_share_of_pictures() -> None:
    plain = centred(scene(), FORM)
    mirrored = [torch.equal(augmented(scene(), FORM, only(flip=0.3), seed=s), plain.flip(-1)) for s in range(400)]
    assert 0.22 < np.mean(mirrored) < 0.38
    assert all(torch.equal(augmented(scene(), FORM, only(flip=1), seed=s), plain.flip(-1)) for s in range(5))


def test_a_crop_keeps_at_least_its_area_and_reaches_every_corner() -> None:
    kept = scene(55, 110)
    kept[..., 2] = 0  # the two ramps alone, read back below as places
    shares, lefts, rights = [], [], []
    for seed in range(300):
        view = augmented(kept, FORM, only(crop=0.4), seed=seed).float()
        left, right = view[0, :, 0].mean() / 255 * 110, view[0, :, -1].mean() / 255 * 110
        top, bottom = view[1, 0].mean() / 255 * 55, view[1, -1].mean() / 255 * 55
        shares.append(float((right - left) * (bottom - top)) / 55**2)
        lefts.append(float(left))
        rights.append(float(right))
    assert min(shares) > 0.4 * 0.85  # a view's outer pixels lie inside its crop, hence less than the whole
    assert max(shares) < 1.02
    assert np.std(shares) > 0.1
    assert min(lefts) < 5
    assert max(rights) > 105


def test_a_crop_is_antialiased() -> None:
    board = np.indices((512, 512)).sum(0) % 2 * 255
    kept = np.repeat(board[:, :, None], 3, 2).astype(np.uint8)
    view = augmented(kept, PictureForm(32, 32), only(crop=0.9), seed=1).float()
    assert abs(view.mean() - 127.5) < 3
    assert view.std() < 15  # picked pixel by pixel it would be 127


def test_pictures_smaller_than_their_form_and_threads_are_cropped_too() -> None:
    for shape in ((1, 1), (1, 4000), (4000, 1), (3, 2)):
        kept = stored(np.full((*shape, 3), 200, np.uint8), FORM)
        view = augmented(kept, FORM, only(crop=0.3), seed=0)
        assert view.shape == (3, 48, 48)
        assert (view.float() - 200).abs().max() <= 1


def test_colour_changes_within_its_bounds_and_moves_nothing() -> None:
    grey = np.full((55, 73, 3), 100, np.uint8)
    means = [float(augmented(grey, FORM, only(colour=0.2), seed=s).float().mean()) for s in range(200)]
    assert 78 <= min(means) < 88  # contrast and saturation leave an even grey as it is
    assert 112 < max(means) <= 122


def test_erasing_paints_a_rectangle_in_the_mean_colour() -> None:
    plain = centred(scene(), FORM)
    mean = torch.tensor([round(255 * value) for value in FORM.mean], dtype=torch.uint8).view(3, 1, 1)
    for seed in range(50):
        view = augmented(scene(), FORM, only(erasing=1), seed=seed)
        painted = (view == mean).all(0)
        assert torch.equal(view[:, ~painted], plain[:, ~painted])
        assert 0.01 < painted.float().mean() < 0.25
        rows, columns = painted.any(1).nonzero(), painted.any(0).nonzero()
        assert int(painted.sum()) == len(rows) * len(columns)
    touched = [not torch.equal(augmented(scene(), FORM, only(erasing=0.25), seed=s), plain) for s in range(200)]
    assert 0.15 < np.mean(touched) < 0.35


def test_the_store_is_never_written_to() -> None:
    kept = scene()
    kept.setflags(write=False)
    before = kept.copy()
    for options in ALL:
        augmented(kept, FORM, options, seed=1)
    np.testing.assert_array_equal(kept, before)


def test_mixup_blends_by_its_share() -> None:
    own, partner = torch.full((3, 8, 8), 200, dtype=torch.uint8), torch.zeros(3, 8, 8, dtype=torch.uint8)
    mixed, share = mix(own, partner, Mix("mixup", 0.75))
    assert share == 0.75
    assert torch.equal(mixed, torch.full((3, 8, 8), 150, dtype=torch.uint8))
    assert torch.equal(mix(own, partner, Mix("mixup", 1.0))[0], own)
    assert own.min() == 200
    assert partner.max() == 0
    floats, _ = mix(own.float() / 3, partner.float(), Mix("mixup", 0.5))
    torch.testing.assert_close(floats, torch.full((3, 8, 8), 100 / 3))


def test_cutmix_pastes_a_rectangle_and_gives_the_area_left() -> None:
    own, partner = torch.zeros(3, 10, 20, dtype=torch.uint8), torch.ones(3, 10, 20, dtype=torch.uint8)
    mixed, share = mix(own, partner, Mix("cutmix", 0.7, (0.1, 0.5, 0.6, 1.0)))
    assert mixed[:, 1:6, 10:].min() == 1
    assert int(mixed.sum()) == 3 * 5 * 10
    assert share == 1 - 50 / 200
    assert own.max() == 0
    for seed in range(200):
        how = mixing(only(cutmix=1), seed)
        assert how is not None
        mixed, share = mix(own, partner, how)
        assert share == pytest.approx(1 - mixed[0].float().mean().item())
        assert abs(share - how.share) < 0.15  # whole pixels


def test_mixing_draws_both_kinds_and_every_share() -> None:
    drawn = [mixing(only(mixup=1, cutmix=1), seed) for seed in range(400)]
    kinds = [how.kind for how in drawn if how]
    assert 150 < kinds.count("mixup") < 250
    assert len(kinds) == 400
    blends = [how.share for how in drawn if how and how.kind == "mixup"]
    assert min(blends) < 0.1 < 0.9 < max(blends)
    assert {how.kind for how in (mixing(only(mixup=0.2), s) for s in range(20)) if how} == {"mixup"}


def test_a_bare_word_is_a_preset_and_fields_overrule_it() -> None:
    read = TypeAdapter(Augment).validate_python
    for name, values in PRESETS.items():
        assert read(name).model_dump() == {"preset": name, **values}
        assert read(read(name).model_dump()) == read(name)
    own = read({"preset": "strong", "flip": 0, "policy": "none", "crop": "auto"})
    assert own.model_dump() == {**PRESETS["strong"], "preset": "strong", "flip": 0, "policy": "none"}
    for wrong in ("heavy", {"flips": 1}, {"flip": 2}, {"crop": 0}, {"colour": 1}, {"policy": "autoaugment"}, 3, None):
        with pytest.raises(ValidationError):
            read(wrong)


def test_auto_is_chosen_by_the_number_of_pictures_with_a_reason() -> None:
    assert resolved(Augment(), MANY - 1) == Augment(preset="standard")
    assert resolved(Augment(), MANY) == Augment(preset="light")
    assert "fewer than 5,000" in why(Augment(), MANY - 1)
    assert "5,000 training pictures or more" in why(Augment(), MANY)
    own = resolved(Augment(erasing=0.5, flip=0), 10)
    assert own == Augment(preset="standard", erasing=0.5, flip=0)
    assert resolved(own, 10**6) == own
    assert why(own, 10**6) == "the recipe's own preset"
    assert resolved(Augment(flip=0.5).model_copy(update={"preset": "none"}), 10) == Augment(preset="none", flip=0.5)
    assert all(values["crop"] >= 0.3 for values in PRESETS.values())


def test_the_page_shows_the_presets_as_they_are() -> None:
    rows = [line.strip("| ").split("|") for line in (page.__doc__ or "").splitlines() if line.startswith("| ")]
    names, *presets = [[cell.strip() for cell in row] for row in rows]
    shown = {row[0]: dict(zip(names[1:], row[1:], strict=True)) for row in presets}
    values = {
        name: {key: f"{v:g}" if isinstance(v, float) else v for key, v in p.items()} for name, p in PRESETS.items()
    }
    assert shown == values


def test_options_that_still_say_auto_are_refused() -> None:
    with pytest.raises(ValueError, match="resolved"):
        augmented(scene(), FORM, Augment(flip=0), seed=0)


def test_the_schema_allows_a_preset_or_fields() -> None:
    jsonschema = pytest.importorskip("jsonschema")

    class Holder(Augment.__base__):  # type: ignore[name-defined, misc]
        augment: Augment = Augment()

    check = jsonschema.Draft202012Validator(Holder.model_json_schema()).is_valid
    assert check({"augment": "light"})
    assert check({"augment": {"preset": "light", "crop": 0.5, "colour": "auto"}})
    assert not check({"augment": "heavy"})
    assert not check({"augment": {"flip": 3}})


def test_options_are_read_without_torch() -> None:
    heavy = "{'torch', 'torchvision', 'numpy', 'PIL'}"
    script = f"import sys, tunesmith.pictures.augment as a; a.Augment(flip=0); assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
