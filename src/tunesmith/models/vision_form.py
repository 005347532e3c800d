"""How a model wants its pictures, out of each library's own config and back into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from math import floor
from pathlib import Path
from typing import Any, Literal, cast

from tunesmith.errors import ModelError
from tunesmith.types import PictureForm

Interpolation = Literal["nearest", "bilinear", "bicubic"]
RESAMPLE: Mapping[int, Interpolation] = {0: "nearest", 1: "bicubic", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers; Lanczos (1) is read as the cubic that comes nearest to it."""

PREPROCESSOR = "preprocessor_config.json"


def timm_form(model: Any) -> PictureForm:
    """From timm's pretrained_cfg, through timm's own reading of it."""
    from timm.data.config import resolve_data_config

    told = resolve_data_config({}, model=model)  # type: ignore[no-untyped-call]
    name = str(told["interpolation"])
    return PictureForm(
        height=int(told["input_size"][1]),
        width=int(told["input_size"][2]),
        crop_share=float(told["crop_pct"]),
        interpolation=cast(Interpolation, name if name in RESAMPLE.values() else "bicubic"),
        mean=_three(told["mean"]),
        std=_three(told["std"]),
        squash=told["crop_mode"] == "squash",
    )


def timm_test_form(model: Any, form: PictureForm) -> PictureForm | None:
    """The form that a timm network's pretrained_cfg recommends for testing; None where it recommends none."""
    told: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    if not told.get("test_input_size"):
        return None
    height, width = told["test_input_size"][1:]
    share = float(told.get("test_crop_pct") or form.crop_share)
    return replace(form, height=int(height), width=int(width), crop_share=share)


def timm_config(form: PictureForm) -> dict[str, Any]:
    """The same as timm writes it."""
    return {
        "input_size": (3, form.height, form.width),
        "interpolation": form.interpolation,
        "mean": form.mean,
        "std": form.std,
        "crop_pct": form.crop_share,
        "crop_mode": "squash" if form.squash else "center",
    }


def torchvision_form(architecture: str, weights: str = "") -> PictureForm:
    """From the `transforms()` of these weights, or of the architecture's newest."""
    import torchvision

    known = torchvision.models.get_model_weights(architecture)
    entry = known[weights] if weights else getattr(known, "DEFAULT", None)
    if entry is None:
        return PictureForm(224, 224, 0.875, "bilinear")
    told: Any = entry.transforms()
    name = told.interpolation.value
    return PictureForm(
        height=told.crop_size[0],
        width=told.crop_size[0],
        crop_share=told.crop_size[0] / told.resize_size[0],
        interpolation=cast(Interpolation, name if name in RESAMPLE.values() else "bicubic"),
        mean=_three(told.mean),
        std=_three(told.std),
    )


def form_from_json(told: Mapping[str, Any], path: Path) -> PictureForm:
    """From the "form" of our own config.json beside a torchvision model."""
    try:
        return PictureForm(**{**told, "mean": _three(told["mean"]), "std": _three(told["std"])})
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f'"form" in {path} does not say how the model wants its pictures ({error}). It has: {", ".join(told)}; '
            "it needs height, width, mean, std, and may have crop_share, interpolation, squash."
        ) from error


def form_to_json(form: PictureForm) -> dict[str, Any]:
    """The form as plain JSON values, but for the size in training, which a delivered model no longer has."""
    told = asdict(replace(form, train=None))
    return {key: list(value) if isinstance(value, tuple) else value for key, value in told.items() if key != "train"}


def processor_form(processor: Any, *, native: int = 224) -> PictureForm:
    """From a transformers image processor. native: pixels where the processor names none.

    Everything it does before the network must be sayable as a PictureForm; ModelError for what is not (swapped
    channels), so that no model sees other pictures than it was trained on.
    """
    told = processor.to_dict()
    if told.get("do_flip_channel_order"):
        raise ModelError(
            f"{type(processor).__name__} gives its model blue, green, red; tunesmith gives red, green, blue. Use "
            "another model (timm has the MobileViTs in red, green, blue)."
        )
    height, width, share, squash = _sides(told, type(processor).__name__, native)
    scale = float(told.get("rescale_factor") or 1 / 255) * 255 if told.get("do_rescale", True) else 255.0
    shift = 1.0 if told.get("rescale_offset") else 0.0
    plain = not told.get("do_normalize", True)
    mean, std = ((0.0,) * 3, (1.0,) * 3) if plain else (_three(told["image_mean"]), _three(told["image_std"]))
    return PictureForm(
        height,
        width,
        share,
        RESAMPLE.get(int(told.get("resample") or 0) if told.get("resample") is not None else 2, "bilinear"),
        _three([(value + shift) / scale for value in mean]),
        _three([value / scale for value in std]),
        squash,
    )


def _sides(told: Mapping[str, Any], kind: str, native: int) -> tuple[int, int, float, bool]:
    """Height, width, crop share and squash out of `size`, `crop_size` and `crop_pct`."""
    size, crop = dict(told.get("size") or {}), dict(told.get("crop_size") or {})
    cropped = bool(told.get("do_center_crop")) and bool(crop)
    shortest = size.get("shortest_edge")
    if kind.startswith("Levit") and shortest:
        shortest = int(256 / 224 * shortest)
    if shortest and told.get("crop_pct") and not cropped:
        if shortest >= 384:  # ConvNeXt's law: large pictures are squashed, not cropped
            return shortest, shortest, 1.0, True
        return shortest, shortest, shortest / round(shortest / float(told["crop_pct"])), False
    if cropped:
        height, width = int(crop.get("height", native)), int(crop.get("width", native))
        resized = shortest or min(int(size.get("height", height)), int(size.get("width", width)))
        return height, width, min(1.0, min(height, width) / resized), not shortest
    if shortest:
        return shortest, shortest, 1.0, False
    return int(size.get("height", native)), int(size.get("width", native)), 1.0, True


def processor_config(form: PictureForm) -> dict[str, Any]:
    """A preprocessor_config.json that does just what the form says, for `AutoImageProcessor`."""
    sides = (form.height, form.width)
    height, width = (floor(side / form.crop_share + 1e-6) for side in sides)  # as pictures/form.py resizes
    resample = {"nearest": 0, "bilinear": 2, "bicubic": 3}[form.interpolation]
    return {
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": height, "width": width} if form.squash else {"shortest_edge": min(height, width)},
        "resample": resample,
        "do_center_crop": True,
        "crop_size": {"height": form.height, "width": form.width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(form.mean),
        "image_std": list(form.std),
    }


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in (values if len(values) == 3 else list(values) * 3))
    return red, green, blue
