"""Finding the detector that a person named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tunesmith.errors import ModelError, did_you_mean
from tunesmith.models.detectors.spec import NAMED, OVER_BACKBONE
from tunesmith.models.source import locate
from tunesmith.models.vision_source import DRAWN, file_sha256
from tunesmith.models.weights_file import read_object
from tunesmith.places import resolve_place
from tunesmith.types import ModelSource

LICENCE_TORCHVISION = "BSD-3-Clause"
"""Of torchvision's code; its weights were trained on COCO."""


def locate_detector(
    name: str, revision: str | None = None, weights: str | None = None, pretrained: bool = True
) -> ModelSource:
    """name: `torchvision/NAME` (its own detectors, or faster_rcnn, retinanet and fcos over a backbone), a hub name, a
    folder of transformers or one that tunesmith delivered, `package:NAME/...`.

    weights: a file with torchvision's COCO weights of that detector. pretrained: False fetches nothing.
    Raises ModelError where the name means nothing.
    """
    library, _, architecture = name.partition("/")
    path = Path(resolve_place(name)).expanduser()
    if library == "torchvision" and architecture and not path.exists():
        return _of_torchvision(name, architecture, revision, weights, pretrained)
    if weights is not None:
        raise ModelError("weights: FILE goes with a detector of torchvision by name; a folder brings its own weights.")
    if not pretrained and (path / "config.json").is_file():
        source = ModelSource(name, str(path.resolve()), weights=DRAWN)
    else:
        source = locate(name, revision)
    config = read_object(Path(source.path) / "config.json")
    if config.get("library") == "torchvision":
        return replace(source, library="torchvision", architecture=str(config.get("builder", "")))
    return source


def _of_torchvision(
    name: str, architecture: str, revision: str | None, weights: str | None, pretrained: bool
) -> ModelSource:
    known = (*NAMED, *OVER_BACKBONE)
    if architecture not in known:
        raise ModelError(
            f"torchvision/{architecture} is not a detector that tunesmith builds.{did_you_mean(architecture, known)} "
            f"It builds: {', '.join(known)}; the last three over a backbone that the recipe names."
        )
    if revision is not None:
        raise ModelError(
            f"revision: {revision} belongs to weights on the hub, and {name} has none there. Leave it out."
        )
    if weights is not None and not pretrained:
        raise ModelError("weights: FILE and pretrained: false exclude each other. Leave out one of them.")
    bare = ModelSource(name, "", {}, LICENCE_TORCHVISION, "torchvision", architecture)
    if weights is None:
        return bare if pretrained else replace(bare, weights=DRAWN)
    path = Path(resolve_place(weights)).expanduser()
    if not path.is_file():
        raise ModelError(f"There is no weight file {weights}.")
    return replace(bare, weights=str(path.resolve()), sha256={path.name: file_sha256(path)})
