"""Pictures are varied while a model learns: cropped, mirrored, recoloured, mixed.

What is right for a model that starts from nothing is too much for one that is fine-tuned: it already knows that half a
dog is a dog, and it sees each picture a few times, not three hundred. So the crops here keep most of the picture (at
least 0.4 of it by default; from nothing 0.08 is usual), and what mixes pictures is off unless asked for.

    augment: light                      # a preset by its word: auto, none, light, standard or strong
    augment: {flip: 0, erasing: 0.2}    # auto, but for these two

| preset   | flip | crop | colour | policy         | erasing | mixup | cutmix |
|----------|------|------|--------|----------------|---------|-------|--------|
| none     | 0    | 1    | 0      | none           | 0       | 0     | 0      |
| light    | 0.5  | 0.6  | 0      | none           | 0       | 0     | 0      |
| standard | 0.5  | 0.4  | 0.2    | none           | 0       | 0     | 0      |
| strong   | 0.5  | 0.3  | 0      | trivialaugment | 0.25    | 0.2   | 0      |

Set `flip: 0` where left and right mean something: digits, letters, road signs, X-rays.

Nothing here remembers. Every draw follows from the seed of the call alone (Philox, a counter-based generator: Salmon
et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), and no generator of the process is read or moved. So a run
that was killed and resumed sees the pictures that the uninterrupted run saw, with any number of workers.

Speed: a crop and its resizing are one antialiased pass over whole numbers of eight bits; nothing becomes a float that
need not.

Sources: crops of random area and shape: Szegedy et al. (2015), arXiv 1409.4842. Random erasing: Zhong et al. (2020),
arXiv 1708.04896. mixup: Zhang et al. (2018), arXiv 1710.09412. CutMix: Yun et al. (2019), arXiv 1905.04899. Mild
augmentation for fine-tuning: Kolesnikov et al. (2020), arXiv 1912.11370 (BiT: crop and flip; mixup only for long runs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator

from tunesmith.plugin import Options
from tunesmith.types import PictureForm

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Auto = Literal["auto"]
Share = Annotated[float, Field(ge=0, le=1)]

MANY = 5_000
"""Training pictures from which `auto` means light."""

_VIEW, _MIX = 0, 1  # streams of one seed

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "none": {"flip": 0.0, "crop": 1.0, "colour": 0.0, "policy": "none", "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0},
    "light": {"flip": 0.5, "crop": 0.6, "colour": 0.0, "policy": "none", "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0},
    "standard": {
        "flip": 0.5,
        "crop": 0.4,
        "colour": 0.2,
        "policy": "none",
        "erasing": 0.0,
        "mixup": 0.0,
        "cutmix": 0.0,
    },
    "strong": {
        "flip": 0.5,
        "crop": 0.3,
        "colour": 0.0,
        "policy": "trivialaugment",
        "erasing": 0.25,
        "mixup": 0.2,
        "cutmix": 0.0,
    },
}


class Augment(Options):
    """How training pictures are varied. A bare word is a preset; a field left at `auto` is as the preset says."""

    preset: Literal["auto", "none", "light", "standard", "strong"] = Field(
        "auto", description="a set of values for the rest; auto: by the number of training pictures"
    )
    flip: Share | Auto = Field("auto", description="share of pictures mirrored left to right")
    crop: Annotated[float, Field(gt=0, le=1)] | Auto = Field(
        "auto", description="least area of a random crop, as a share; 1: the same middle crop as for scores"
    )
    colour: Annotated[float, Field(ge=0, lt=1)] | Auto = Field(
        "auto", description="most change of brightness, contrast and saturation, as a share"
    )
    policy: Literal["auto", "none", "randaugment", "trivialaugment"] = Field(
        "auto", description="changes drawn from a list of fourteen"
    )
    erasing: Share | Auto = Field("auto", description="share of pictures of which a rectangle is painted over")
    mixup: Annotated[float, Field(ge=0, le=10)] | Auto = Field(
        "auto", description="two pictures blended: alpha of the Beta distribution of their shares; 0: never"
    )
    cutmix: Annotated[float, Field(ge=0, le=10)] | Auto = Field(
        "auto", description="a rectangle of another picture pasted in: alpha, as for mixup; 0: never"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        given = {"preset": given} if isinstance(given, str) else given
        if not isinstance(given, Mapping):
            return given
        own = {name: value for name, value in given.items() if value != "auto"}
        return {**PRESETS.get(str(given.get("preset")), {}), **own}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A preset's bare word, or the fields."""
        schema = handler.resolve_ref_schema(handler(core))
        words = schema["properties"]["preset"]["enum"]
        return {"title": "Augment", "description": schema.pop("description", ""), "anyOf": [{"enum": words}, schema]}


def resolved(options: Augment, examples: int) -> Augment:
    """The options without any `auto`, for so many training pictures; fields that were given stay as they are."""
    preset = options.preset if options.preset != "auto" else "standard" if examples < MANY else "light"
    return Augment.model_validate({**dict(options), "preset": preset})


def why(options: Augment, examples: int) -> str:
    """Where the preset of `resolved` comes from, in words for the run folder."""
    if options.preset != "auto":
        return "the recipe's own preset"
    if examples < MANY:
        return f"fewer than {MANY:,} training pictures, each seen many times"
    return f"{MANY:,} training pictures or more vary by themselves and are seen a few times"


def augmented(stored: np.ndarray, form: PictureForm, options: Augment, *, seed: int) -> Tensor:
    """One training view of a stored picture (`form.stored`), uint8 [3, height, width] of the form in training.

    Every draw follows from `seed`, a whole number from 0; options must be resolved.
    """
    from tunesmith.pictures import policy
    from tunesmith.pictures.colour import recoloured
    from tunesmith.pictures.form import centred, in_training
    from tunesmith.pictures.random_crop import cropped, resized_to

    if "auto" in (value for _, value in options):
        raise ValueError("augmentation options must be resolved first (tunesmith.pictures.augment.resolved)")
    rng = _generator(seed, _VIEW)
    trained = in_training(form)
    if options.crop == 1:
        pixels = resized_to(trained, centred(stored, form))
    else:
        pixels = cropped(stored, trained, float(options.crop), rng)
    if rng.random() < float(options.flip):
        pixels = pixels.flip(-1)
    if options.colour:
        strength = float(options.colour)
        pixels = recoloured(pixels, *rng.uniform(1 - strength, 1 + strength, size=3).tolist())
    fill = [255 * mean for mean in form.mean]
    if options.policy == "randaugment":
        pixels = policy.randaugment(pixels, fill, rng)
    elif options.policy == "trivialaugment":
        pixels = policy.trivialaugment(pixels, fill, rng)
    if rng.random() < float(options.erasing):
        pixels = policy.erased(pixels, fill, rng)
    return pixels.contiguous()


@dataclass(frozen=True, slots=True)
class Mix:
    """How one picture is mixed with a partner. share: of the picture's own label (before rounding to whole pixels).

    box: top, left, bottom, right of the partner's rectangle, as shares of the sides; for mixup unused.
    """

    kind: Literal["mixup", "cutmix"]
    share: float
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def mixing(options: Augment, seed: int) -> Mix | None:
    """What `seed` draws for one example, or None where the options mix nothing. With both kinds on, each has half."""
    mixup, cutmix = float(options.mixup), float(options.cutmix)
    if not mixup and not cutmix:
        return None
    rng = _generator(seed, _MIX)
    if mixup and (not cutmix or rng.random() < 0.5):
        return Mix("mixup", float(rng.beta(mixup, mixup)))
    half = sqrt(1 - float(rng.beta(cutmix, cutmix))) / 2
    row, column = rng.random(2).tolist()
    top, bottom = max(0.0, row - half), min(1.0, row + half)
    left, right = max(0.0, column - half), min(1.0, column + half)
    return Mix("cutmix", 1 - (bottom - top) * (right - left), (top, left, bottom, right))


def mix(pixels: Tensor, partner: Tensor, how: Mix) -> tuple[Tensor, float]:
    """A picture [3, height, width] mixed with its partner, and the share that its own label has now.

    The rest of the label is the partner's. Neither tensor is changed; the kind of number stays (uint8: rounded).
    """
    if how.kind == "mixup":
        blend = partner.float().lerp(pixels.float(), how.share)
        return (blend if pixels.is_floating_point() else blend.round_()).to(pixels.dtype), how.share
    height, width = pixels.shape[-2:]
    top, left, bottom, right = (round(side * share) for side, share in zip((height, width) * 2, how.box, strict=True))
    pasted = pixels.clone()
    pasted[..., top:bottom, left:right] = partner[..., top:bottom, left:right]
    return pasted, 1 - (bottom - top) * (right - left) / (height * width)


def _generator(seed: int, stream: int) -> np.random.Generator:
    import numpy as np

    return np.random.Generator(np.random.Philox(key=[seed, stream]))
