"""Pictures with boxes: from examples to batches, and from detections to what is kept of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.tasks.base import Encoded
from tunesmith.types import Batch, Example, Examples, ModelSource, PictureForm

if TYPE_CHECKING:
    import numpy as np

    from tunesmith.pictures.box_augment import BoxAugment

KEPT = 0.05
"""Score below which a box is not written to predictions/; scores are taken on all."""


def find_model(name: str, *, revision: str | None, weights: str | None, pretrained: bool) -> ModelSource:
    """A detector where the name or the folder says so, else a classifier."""
    from tunesmith.models.detectors.locate import locate_detector
    from tunesmith.models.detectors.spec import NAMED, OVER_BACKBONE
    from tunesmith.models.vision_source import locate_vision
    from tunesmith.places import resolve_place

    library, _, architecture = name.partition("/")
    if library == "torchvision" and architecture in (*NAMED, *OVER_BACKBONE):
        return locate_detector(name, revision, weights, pretrained)
    config = Path(resolve_place(name)).expanduser() / "config.json"
    if config.is_file() and _is_detector(config):
        return locate_detector(name, revision, weights, pretrained)
    hub = library not in ("timm", "torchvision") and name.count("/") == 1 and ":" not in name
    if hub and not Path(name).exists() and weights is None:
        return locate_detector(name, revision, weights, pretrained)
    return locate_vision(name, revision, weights, pretrained)


def _is_detector(config: Path) -> bool:
    """Whether a model's folder holds a detector, by what its config.json says."""
    text = config.read_text(encoding="utf-8", errors="replace")
    return "ForObjectDetection" in text or '"builder"' in text


def encode(examples: Sequence[Example], form: PictureForm) -> list[Encoded]:
    """`picture`: uint8 [height, width, 3], its longest side at most the form's; `width`, `height`: of the original.

    DataError where a picture can no longer be read.
    """
    import numpy as np

    from tunesmith.errors import DataError
    from tunesmith.pictures.box_augment import whole
    from tunesmith.pictures.decode import PictureFault, read_picture

    found: list[Encoded] = []
    for example in examples:
        try:
            picture = read_picture(example.inputs["image"])
        except PictureFault as fault:
            raise DataError(f"{example.file}:{example.line}: {example.inputs['image']}: {fault}") from fault
        none = np.zeros((0, 4), dtype=np.float32)
        pixels, _, _ = whole(picture, none, size=(form.height, form.width), squash=form.squash)
        height, width = picture.shape[:2]
        found.append({"picture": pixels.permute(1, 2, 0).numpy(), "width": width, "height": height})
    return found


def collate(
    encoded: Sequence[Encoded],
    labels: Any,
    form: PictureForm,
    *,
    canvas: tuple[int, int] | None,
    augment: BoxAugment,
    positions: tuple[int, ...],
    draws: Sequence[int] | None,
    partners: Sequence[Sequence[tuple[Encoded, Any]]] | None,
) -> Batch:
    """Pictures at the top left of the canvas, zeros around them; boxes in pixels of what the model sees."""
    import numpy as np
    import torch

    from tunesmith.pictures.box_augment import boxed
    from tunesmith.pictures.form import normalised

    made: list[tuple[Any, np.ndarray]] = []
    for number, row in enumerate(encoded):
        boxes = _in_stored(row, None if labels is None else labels[number])
        if draws is None:
            made.append((torch.from_numpy(np.array(row["picture"])).permute(2, 0, 1), boxes))
            continue
        others = [] if partners is None else [(e["picture"], _in_stored(e, t)) for e, t in partners[number]]
        pixels, left, kept = boxed(
            np.asarray(row["picture"]),
            boxes[:, :4],
            augment,
            seed=draws[number],
            size=canvas or (form.height, form.width),
            squash=form.squash,
            others=[(np.asarray(picture), theirs[:, :4]) for picture, theirs in others],
        )
        every = np.concatenate([boxes, *(theirs for _, theirs in others)])[np.asarray(kept)]
        made.append((pixels, np.concatenate([np.asarray(left), every[:, 4:]], axis=1)))
    sizes = torch.tensor([pixels.shape[-2:] for pixels, _ in made])
    high, wide = (int(side) for side in sizes.max(dim=0).values)
    if canvas is not None:
        high, wide = max(high, canvas[0]), max(wide, canvas[1])
    whole = torch.zeros(len(made), 3, high, wide)
    for place, (pixels, _) in zip(whole, made, strict=True):
        place[:, : pixels.shape[1], : pixels.shape[2]] = normalised(pixels[None], form)[0]
    inputs = {"pixels": whole, "sizes": sizes}
    if labels is None:
        inputs["scale"] = torch.tensor([[pixels.shape[2] / int(row["width"]), pixels.shape[1] / int(row["height"])]
                                        for row, (pixels, _) in zip(encoded, made, strict=True)])  # fmt: skip
        return Batch(inputs, None, positions)
    most = max(1, np.asarray(labels).shape[1]) * (4 if partners is not None else 1)
    wanted = torch.full((len(made), most, 6), -1.0)
    for target, (_, boxes) in zip(wanted, made, strict=True):
        target[: len(boxes)] = torch.from_numpy(boxes)
    return Batch(inputs, wanted, positions)


def _in_stored(row: Encoded, target: Any) -> np.ndarray:
    """The boxes [k, 6] of one example in pixels of its stored picture; none without a target."""
    import numpy as np

    if target is None:
        return np.zeros((0, 6), dtype=np.float32)
    boxes: np.ndarray = np.array(target[target[:, 4] >= 0], dtype=np.float32)
    height, width = np.asarray(row["picture"]).shape[:2]
    across, down = width / int(row["width"]), height / int(row["height"])
    boxes[:, :4] *= np.array([across, down, across, down], dtype=np.float32)
    return boxes


def targets(examples: Examples, labels: Sequence[str]) -> np.ndarray:
    """Boxes [examples, most, 6] = x1, y1, x2, y2, class, crowd; class -1 where there is none. A crowd of a class that
    no other box has is left out."""
    import numpy as np

    index = {label: i for i, label in enumerate(labels)}
    found = [json.loads(example.inputs.get("boxes") or "[]") for example in examples]
    rows = [[box for box in row if not box[5] or box[4] in index] for row in found]
    table = np.zeros((len(rows), max((len(row) for row in rows), default=0) or 1, 6), dtype=np.float32)
    table[:, :, 4] = -1
    for place, row in zip(table, rows, strict=True):
        for number, (x1, y1, x2, y2, name, crowd) in enumerate(row):
            place[number] = (x1, y1, x2, y2, index[name], crowd)
    return table


def joined(some: Sequence[np.ndarray]) -> np.ndarray:
    """Targets [examples, most, 6] of several lists as one, padded with class -1."""
    import numpy as np

    most = max(table.shape[1] for table in some)
    wide = []
    for table in some:
        more = np.zeros((len(table), most - table.shape[1], 6), dtype=np.float32)
        more[:, :, 4] = -1
        wide.append(np.concatenate([table, more], axis=1))
    return np.concatenate(wide)


def records(examples: Examples, found: np.ndarray, labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A line an example: the picture, its true boxes, and the found ones [x1, y1, x2, y2, class, score]."""
    for example, rows in zip(examples, found, strict=True):
        boxes = [[*(round(float(side), 2) for side in row[:4]), labels[int(row[5])], round(float(row[4]), 6)]
                 for row in rows if row[4] >= KEPT]  # fmt: skip
        known = {} if example.inputs.get("boxes") is None else {"boxes": json.loads(example.inputs["boxes"])}
        yield {
            "image": example.inputs["image"],
            **known,
            "predicted": boxes,
            "file": example.file,
            "line": example.line,
        }


def details(found: np.ndarray, wanted: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Precision and recall of each class at an overlap of 0.5, and how many errors of each kind there are."""
    from tunesmith.metrics.boxes import error_kinds, precision_recall

    curves = {
        name: {"recall": curve.recall.round(4).tolist(), "precision": curve.precision.round(4).tolist()}
        for name, curve in precision_recall(found, wanted, labels).items()
    }
    return {"curves": curves, "errors": error_kinds(found, wanted, labels)}
